"""A sidecar that is called, a Prometheus that scrapes it, and every query of rules and dashboard asked there."""
import contextlib
import http.server
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

binary, picture = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
root = pathlib.Path(__file__).parent.parent.parent
rules_file, dashboard_file, runbook = root / "deploy/prometheus/rules.yaml", root / "deploy/grafana/outrider.json", root / "docs/runbook.md"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode()


def awaited(what, ready, patience=60):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with contextlib.suppress(Exception):
            found = ready()
            if found:
                return found
        time.sleep(0.2)
    raise AssertionError(f"waited in vain for {what}")


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(0.005 if self.path.startswith("/a") else 0.02)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def running(command, folder, name):
    with open(folder / f"{name}.log", "wb") as log:
        child = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()


def names_in(query):
    """Metrics of ours that a query names; what rules record is made by rules."""
    return set(re.findall(r"\boutrider_[a-z0-9_]+", query))


rules = rules_file.read_text()
expressions = re.findall(r"^\s+expr: (.+)$", rules, re.M)
alerts = re.findall(r"alert: (\S+)", rules)
records = re.findall(r"record: (\S+)", rules)
dashboard = json.loads(dashboard_file.read_text())
queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
queries += [one["expr"] for one in dashboard["annotations"]["list"]]

# each alert has its section, and each section its alert
sections = re.findall(r"^## (Outrider\S+)$", runbook.read_text(), re.M)
assert sorted(sections) == sorted(alerts), set(sections) ^ set(alerts)
for alert in alerts:
    assert f"runbook_url: docs/runbook.md#{alert.lower()}\n" in rules, alert
print(f"runbook: {len(alerts)} alerts, each with its section")

with tempfile.TemporaryDirectory(prefix="outrider-observed-") as name:
    folder = pathlib.Path(name)
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    listener, admin, port = free_port(), free_port(), free_port()
    service = {"protocol": "http", "upstream": f"http://127.0.0.1:{upstream.server_port}", "classification": "internal"}
    (folder / "outrider.yaml").write_text(json.dumps({
        "agent": {"id": "spiffe://example.org/agent/a"},
        "listeners": [{"mode": "reverse", "address": f"127.0.0.1:{listener}"}],
        "admin": {"address": f"127.0.0.1:{admin}"}, "control": {"socket": "control.sock"},
        "services": [dict(service, name="crm"), dict(service, name="tickets")],
        "limits": [{"name": "per-tool", "key": ["tool"], "rate": "20/s", "burst": 20}],
        "policy": {"data": ["grants.yaml"]}, "tasks": {"required": False},
        "decision_log": {"path": "decisions.jsonl"},
        # nobody listens: what is told waits, and is counted
        "telemetry": {"otlp": {"endpoint": f"http://127.0.0.1:{free_port()}", "protocol": "http", "interval": "1s"}},
    }))
    (folder / "grants.yaml").write_text(json.dumps({
        "agents": [{"id": "spiffe://example.org/agent/a", "owner": "a", "purpose": "b", "state": "active", "expires": "2100-01-01T00:00:00Z"}],
        "grants": [{"agent": "spiffe://example.org/agent/a", "tools": ["crm/GET", "tickets/GET"]}],
    }))
    (folder / "prometheus.yaml").write_text(f"""global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ["{rules_file}"]
scrape_configs:
- job_name: outrider
  static_configs: [{{ targets: ["127.0.0.1:{admin}"] }}]
""")
    prometheus = ["prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
                  f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
    with running([binary, "run"], folder, "sidecar"), running(prometheus, folder, "prometheus"):
        page = lambda accept: get(f"http://127.0.0.1:{admin}/metrics", Accept=accept)
        awaited("the sidecar", lambda: get(f"http://127.0.0.1:{admin}/readyz"))

        def ask(path, **query):
            said = json.loads(get(f"http://127.0.0.1:{port}/api/v1/{path}?" + urllib.parse.urlencode(query)))
            assert said["status"] == "success", said
            return said["data"]
        awaited("Prometheus", lambda: ask("status/buildinfo"))
        begin, calls = time.monotonic(), 0
        while time.monotonic() - begin < 12:
            for target in ("crm/a", "tickets/b", "billing/x", "crm/a?b=1"):
                request = urllib.request.Request(f"http://127.0.0.1:{listener}/{target}", method="DELETE" if calls % 9 == 0 else "GET",
                                                 headers={"traceparent": f"00-{calls + 1:032x}-{calls + 1:016x}-01"})
                with contextlib.suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(request, timeout=10).read()
                calls += 1
            time.sleep(0.05)
        up = awaited("the target", lambda: [one for one in ask("query", query="up")["result"] if one["value"][1] == "1"])
        print(f"scraped: {up[0]['metric']['instance']}, {calls} calls")

        # every name and label exists: on the page of this sidecar, or among those that only others have
        families = {}
        for text in (page("text/plain"), page("application/openmetrics-text")):
            for family, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
                families[family] = kind
        known = set(families) | {f"{family}_{suffix}" for family, kind in families.items() if kind == "histogram" for suffix in ("bucket", "count", "sum")}
        reference = (root / "docs/reference.md").read_text()
        elsewhere = {  # only where there is such a thing, and described in the reference
            "outrider_state_up", "outrider_state_age_seconds", "outrider_identity_expiry_timestamp_seconds", "outrider_credential_expiry_seconds",
            "outrider_credential_fetches_total", "outrider_issuer_keys_age_seconds", "outrider_approvals", "outrider_connection_errors_total",
            "outrider_revocations_total",
        }
        for query in expressions + queries:
            for metric in names_in(query):
                assert metric in known or (metric in elsewhere and f"`{metric}`" in reference), f"no metric {metric}: {query}"
        series = {}
        for one in ask("series", **{"match[]": '{__name__=~"outrider_.*"}'}):
            series.setdefault(one["__name__"], set()).update(one)
        for query in expressions + queries:
            for metric, selector in re.findall(r"(outrider_[a-z0-9_]+)\{([^}]*)\}", query):
                for label in re.findall(r'([a-z_]+)\s*[=!]', re.sub(r'"[^"]*"', '""', selector)):
                    assert metric not in series or label in series[metric] | {"job", "instance"}, f"{metric} has no label {label}"
        print(f"metrics: {len(set().union(*map(names_in, expressions + queries)))} named, all there")

        # every query is one, and those of the dashboard show something where there is something
        def filled(query):
            for variable, value in [("$__rate_interval", "5s"), ("$job", ".*"), ("$instance", ".*"), ("$service", "crm"), ("$tool", "crm/GET|GET")]:
                query = query.replace(variable, value)
            return query
        empty = [query for query in queries if not ask("query", query=filled(query))["result"]]
        for query in expressions:
            ask("query", query=query)
        silent = [query for query in empty if not names_in(query) & elsewhere and "outrider_schema_violations" not in query
                  and "outrider_connection_errors" not in query and "outrider_revocations" not in query and "agent_expiry" not in query and "changes(" not in query]
        assert not silent, silent
        groups = ask("rules")["groups"]
        broken = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"]
        assert not broken and sum(len(group["rules"]) for group in groups) == len(alerts) + len(records), broken
        for record in ("outrider:calls:rate5m", "outrider:refused:ratio5m", "outrider:overhead:p99_5m"):
            awaited(record, lambda: ask("query", query=record)["result"])
        firing = awaited("an alert", lambda: [alert["labels"]["alertname"] for alert in ask("alerts")["alerts"] if alert["state"] in ("pending", "firing")])
        assert "OutriderNotIsolated" in firing, firing
        print(f"queries: {len(expressions + queries)} asked, rules healthy, {', '.join(sorted(set(firing)))} pending or firing")

        # exemplars arrive, and lead to a decision in the log
        now = time.time()
        found = ask("query_exemplars", query="outrider_call_duration_seconds_bucket", start=now - 120, end=now)
        traces = {one["labels"]["trace_id"] for serie in found for one in serie["exemplars"]}
        assert traces, "no exemplars"
        log = (folder / "decisions.jsonl").read_text()
        assert any(trace in log for trace in traces), "an exemplar leads to no decision"
        print(f"exemplars: {len(traces)} traces, which the log knows")

        if picture:
            import picture as drawn
            drawn.draw(dashboard, lambda query: ask("query_range", query=filled(query), start=now - 14, end=now, step=1)["result"], picture)
    upstream.shutdown()
