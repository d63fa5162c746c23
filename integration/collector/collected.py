"""A sidecar tells a real collector; what the collector says that it got is compared with the logs."""
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
import urllib.error
import urllib.request

binary, collector = sys.argv[1:3]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def awaited(what, ready, patience=60):
    end, why = time.monotonic() + patience, None
    while time.monotonic() < end:
        try:
            found = ready()
        except Exception as error:
            found, why = None, error
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}: {why}")


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(404 if self.path.endswith("/none") else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def running(command, folder, name):
    with open(folder / f"{name}.log", "ab") as log:
        child = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificates(folder):
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(folder, "req", "-x509", *curve, "-days", "1", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(folder, "req", "-new", *curve, "-subj", "/CN=collector", "-keyout", "leaf.key", "-out", "leaf.csr")
    (folder / "leaf.ext").write_text("basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(folder, "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "leaf.ext", "-out", "leaf.pem")


def told(protocol, tls):
    with tempfile.TemporaryDirectory(prefix="outrider-collected-") as name:
        folder = pathlib.Path(name)
        certificates(folder)
        upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        port, listener, admin = free_port(), free_port(), free_port()
        secured = f', tls: {{ cert_file: "{folder}/leaf.pem", key_file: "{folder}/leaf.key" }}' if tls else ""
        (folder / "collector.yaml").write_text(f"""receivers: {{ otlp: {{ protocols: {{ {protocol}: {{ endpoint: "127.0.0.1:{port}"{secured} }} }} }} }}
processors: {{ batch: {{ timeout: 100ms }} }}
exporters: {{ debug: {{ verbosity: detailed, use_internal_logger: false, output_paths: ["{folder}/got.txt"] }} }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines:
    traces: {{ receivers: [otlp], processors: [batch], exporters: [debug] }}
    logs: {{ receivers: [otlp], processors: [batch], exporters: [debug] }}
    metrics: {{ receivers: [otlp], processors: [batch], exporters: [debug] }}
""")
        otlp = {"endpoint": f"{'https' if tls else 'http'}://localhost:{port}", "protocol": protocol, "interval": "500ms", "headers": {"x-tenant": "a"}}
        if tls:
            otlp["ca"] = "ca.pem"
        (folder / "outrider.yaml").write_text(json.dumps({
            "agent": {"id": "spiffe://example.org/agent/a"}, "environment": "test",
            "listeners": [{"mode": "reverse", "address": f"127.0.0.1:{listener}"}],
            "admin": {"address": f"127.0.0.1:{admin}"}, "control": {"socket": "control.sock"},
            "services": [{"name": "crm", "protocol": "http", "upstream": f"http://127.0.0.1:{upstream.server_port}", "classification": "internal"}],
            "policy": {"data": ["grants.yaml"]}, "tasks": {"required": False},
            "decision_log": {"path": "decisions.jsonl"}, "telemetry": {"otlp": otlp},
        }))
        (folder / "grants.yaml").write_text(json.dumps({
            "agents": [{"id": "spiffe://example.org/agent/a", "owner": "a", "purpose": "b", "state": "active"}],
            "grants": [{"agent": "spiffe://example.org/agent/a", "tools": ["crm/GET"]}],
        }))

        def call(path, method="GET"):
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "outrider-agent": "spiffe://forged"}
            request = urllib.request.Request(f"http://127.0.0.1:{listener}{path}", method=method, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.headers["outrider-decision-id"]
            except urllib.error.HTTPError as answer:
                return answer.headers["outrider-decision-id"]

        got = lambda: (folder / "got.txt").read_text(errors="replace")
        start = lambda: running([collector, "--config", str(folder / "collector.yaml")], folder, "collector")
        with running([binary, "run"], folder, "sidecar") as sidecar:
            awaited("the sidecar", lambda: urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz").status == 200)
            # before there is a collector: it waits, and no call does
            early = [call("/crm/a"), call("/crm/none")]
            with start():
                ids = early + [call("/crm/b"), call("/crm/c", "DELETE")]
                awaited("the spans", lambda: all(f"outrider.decision.id: Str({one})" in got() for one in ids))
                awaited("the log lines", lambda: all(got().count(f'"decision_id":"{one}"') >= 1 for one in ids))
                awaited("the numbers", lambda: "outrider_call_duration_seconds" in got() and "outrider_calls" in got())
            # it goes away and comes back
            late = call("/crm/later")
            time.sleep(0.5)
            with start():
                awaited("what waited meanwhile", lambda: f"outrider.decision.id: Str({late})" in got())
                sidecar.terminate()
                assert sidecar.wait(40) == 0
                awaited("the last checkpoint", lambda: '"type":"checkpoint"' in got())
                text = got()
        log = [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]
        for one in ids + [late]:
            assert text.count(f"outrider.decision.id: Str({one})") >= 1
        spans = re.split(r"\nSpan #\d+\n", text)[1:]
        span = next(span for span in spans if early[0] in span)
        for part in (f"Trace ID       : {TRACE}", f"Parent ID      : {PARENT}", "Kind           : Client", "http.request.method: Str(GET)", "http.response.status_code: Int(200)"):
            assert part in span, (part, span[:1500])
        refused = next(span for span in spans if ids[3] in span)
        assert "Status code    : Error" in refused and "error.type: Str(policy_denied)" in refused, refused[:1500]
        assert "error.type: Str(404)" in next(span for span in spans if early[1] in span)
        assert "service.name: Str(outrider)" in text and "outrider.security.header_forgery" in text
        decisions = [line for line in log if line["type"] == "decision"]
        assert len(decisions) == 5
        raw = (folder / "decisions.jsonl").read_text().splitlines()
        assert all(line in text for line in raw), "a line arrived changed, or not at all"
        upstream.shutdown()
        print(f"{protocol}{' over TLS' if tls else ''}: {len(decisions)} calls as spans, {len(raw)} lines as they stand, numbers; a collector that came late and went away missed nothing")


for protocol in ("grpc", "http"):
    for tls in (False, True):
        told(protocol, tls)
