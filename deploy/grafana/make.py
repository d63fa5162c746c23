"""Writes outrider.json, the dashboard: `python3 deploy/grafana/make.py > deploy/grafana/outrider.json`."""
import json
import sys

FAULTS = "policy_error|record_unavailable|overloaded|dependency_unavailable"
WHICH = 'job=~"$job", instance=~"$instance"'
TOOL = f'{WHICH}, service=~"$service", tool=~"$tool"'
SOURCE = {"type": "prometheus", "uid": "${source}"}
panels, place = [], {"x": 0, "y": 0}


def row(title, repeat=None):
    place.update(x=0, y=place["y"] + 8)
    panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": place["y"], "w": 24, "h": 1}, "collapsed": False, "panels": [], "repeat": repeat})
    place["y"] += 1


def panel(kind, title, about, *queries, unit="short", width=8, height=8, steps=(), stacked=False, **options):
    if place["x"] + width > 24:
        place.update(x=0, y=place["y"] + 8)
    colours = [{"color": "green", "value": None}] + [{"color": colour, "value": value} for value, colour in steps]
    targets = [{"datasource": SOURCE, "expr": query, "legendFormat": legend, "refId": chr(65 + at), "exemplar": "_bucket" in query, "range": kind != "table", "instant": kind in ("table", "stat")}
               for at, (query, legend) in enumerate(queries)]
    custom = {"fillOpacity": 15, "showPoints": "never", "stacking": {"mode": "normal" if stacked else "none"}} if kind == "timeseries" else {}
    panels.append({
        "type": kind, "title": title, "description": about, "datasource": SOURCE, "targets": targets, "id": len(panels) + 1,
        "gridPos": {"x": place["x"], "y": place["y"], "w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom, "color": {"mode": "thresholds" if steps else "palette-classic"},
                                     "thresholds": {"mode": "absolute", "steps": colours}}, "overrides": []},
        "options": dict({"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}} if kind == "timeseries" else {}, **options),
    })
    place["x"] += width


def quantiles(metric, by, which=WHICH):
    labels = ", ".join(["le", *by])
    legend = " ".join(f"{{{{{name}}}}}" for name in by)
    return [(f"histogram_quantile({quantile}, sum by ({labels}) (rate({metric}_bucket{{{which}}}[$__rate_interval])))", f"p{int(quantile * 100)} {legend}".strip()) for quantile in (0.5, 0.99)]


place["y"] = -8
row("At a glance")
panel("stat", "Sidecars up", "Scrapes that succeed.", (f'sum(up{{{WHICH}}})', ""), width=4, height=4)
panel("stat", "Calls per second", "Everything that was decided.", (f"sum(rate(outrider_calls_total{{{WHICH}}}[$__rate_interval]))", ""), unit="reqps", width=4, height=4)
panel("stat", "Refused", "Share of calls that were refused, for whatever reason.", (f'(sum(rate(outrider_calls_total{{{WHICH}, outcome!="allow"}}[$__rate_interval])) or vector(0)) / sum(rate(outrider_calls_total{{{WHICH}}}[$__rate_interval]))', ""), unit="percentunit", width=4, height=4)
panel("stat", "Our own faults", "Share of calls that were refused because the sidecar could not do its work.", (f'(sum(rate(outrider_calls_total{{{WHICH}, code=~"{FAULTS}"}}[$__rate_interval])) or vector(0)) / sum(rate(outrider_calls_total{{{WHICH}}}[$__rate_interval]))', ""), unit="percentunit", width=4, height=4, steps=[(0.0001, "orange"), (0.001, "red")])
panel("stat", "In flight", "Calls under way.", (f"sum(outrider_in_flight{{{WHICH}}})", ""), width=4, height=4)
panel("stat", "Isolation none", "Sidecars whose agent could go round them.", (f'count(outrider_build_info{{{WHICH}, isolation="none"}}) or vector(0)', ""), width=4, height=4, steps=[(1, "red")])
place["y"] -= 4

row("Calls")
panel("timeseries", "Calls by outcome", "allow, deny, hold.", (f"sum by (outcome) (rate(outrider_calls_total{{{WHICH}}}[$__rate_interval]))", "{{outcome}}"), unit="reqps", stacked=True)
panel("timeseries", "Refusals by code", "What each code means and what to do: docs/reference.md, Refusals.", (f'sum by (code) (rate(outrider_calls_total{{{WHICH}, outcome!="allow"}}[$__rate_interval]))', "{{code}}"), unit="reqps", stacked=True)
panel("timeseries", "Calls by service", "", (f"sum by (service) (rate(outrider_calls_total{{{WHICH}}}[$__rate_interval]))", "{{service}}"), unit="reqps", stacked=True)
panel("timeseries", "Unknown tools", "Calls of services and tools that no catalogue has: label _other.", (f'sum by (service) (rate(outrider_calls_total{{{WHICH}, tool="_other", code=~"tool_unknown|service_unknown"}}[$__rate_interval]))', "{{service}}"), unit="reqps")
panel("timeseries", "Messages against their schema", "", (f"sum by (service, direction) (rate(outrider_schema_violations_total{{{WHICH}}}[$__rate_interval]))", "{{service}} {{direction}}"), unit="reqps")
panel("timeseries", "Connections that were no calls", "Bytes that are not HTTP, handshakes that failed, too many connections.", (f"sum by (reason) (rate(outrider_connection_errors_total{{{WHICH}}}[$__rate_interval]))", "{{reason}}"), unit="cps")

row("Time")
panel("timeseries", "What the sidecar takes", "Until the decision stands in the record; reading the body included. Points show traces.", *[(query.replace(WHICH, WHICH + ', stage="total"'), legend) for query, legend in quantiles("outrider_overhead_seconds", [])], unit="s")
panel("timeseries", "By stage, p99", "Where that time goes.", quantiles("outrider_overhead_seconds", ["stage"])[1], unit="s")
panel("timeseries", "Policy", "One evaluation.", *quantiles("outrider_policy_eval_seconds", []), unit="s")
panel("timeseries", "Whole calls", "From the request to the end of the answer.", *quantiles("outrider_call_duration_seconds", ["service"]), unit="s", width=12)
panel("timeseries", "Services", "Until the service's answer.", *quantiles("outrider_upstream_duration_seconds", ["service"]), unit="s", width=12)

row("Limits and authority")
panel("timeseries", "Calls over a limit", "", (f"sum by (limit) (rate(outrider_limit_rejections_total{{{WHICH}}}[$__rate_interval]))", "{{limit}}"), unit="reqps")
panel("timeseries", "Tasks", "By state.", (f"sum by (state) (outrider_tasks{{{WHICH}}})", "{{state}}"))
panel("timeseries", "Revocations", "By where they come from.", (f"sum by (source) (increase(outrider_revocations_total{{{WHICH}}}[$__rate_interval]))", "{{source}}"))
panel("timeseries", "Approvals", "Held calls by state; no samples before approvals are built.", (f"sum by (state) (outrider_approvals{{{WHICH}}})", "{{state}}"))
panel("timeseries", "Identity ends in", "What proves the agent, its entry in the inventory, credentials that are held.", (f"min by (source) (outrider_identity_expiry_timestamp_seconds{{{WHICH}}} - time())", "identity {{source}}"), (f"min(outrider_agent_expiry_timestamp_seconds{{{WHICH}}} - time())", "inventory"), (f"min by (service) (outrider_credential_expiry_seconds{{{WHICH}}})", "credential {{service}}"), unit="s")
panel("timeseries", "Credentials fetched", "", (f"sum by (service, result) (rate(outrider_credential_fetches_total{{{WHICH}}}[$__rate_interval]))", "{{service}} {{result}}"), unit="ops")

row("Policy, record, telemetry")
panel("table", "Policy in force", "By revision: more than one means that a change is on its way, or did not arrive.", (f"count by (revision, mode) (outrider_policy_info{{{WHICH}}})", ""), width=12)
panel("timeseries", "Reloads", "", (f"sum by (result) (increase(outrider_policy_reload_total{{{WHICH}}}[$__rate_interval]))", "{{result}}"), width=6)
panel("timeseries", "Age of the policy in force", "", (f"time() - min(outrider_policy_loaded_timestamp_seconds{{{WHICH}}})", "oldest"), unit="s", width=6)
panel("timeseries", "Decision log", "Lines written, and refused: while a line cannot be written no call is served.", (f"sum by (result) (rate(outrider_decision_log_records_total{{{WHICH}}}[$__rate_interval]))", "{{result}}"), unit="ops")
panel("timeseries", "Lines that wait to be written", "", (f"sum(outrider_decision_log_queue{{{WHICH}}})", "lines"))
panel("timeseries", "Told to others", "Records by OTLP and to OPA.", (f"sum by (signal, result) (rate(outrider_telemetry_records_total{{{WHICH}}}[$__rate_interval]))", "{{signal}} {{result}}"), unit="ops")
panel("timeseries", "Not told yet", "Bytes of the logs that nobody has taken so far.", (f"sum by (signal) (outrider_telemetry_lag_bytes{{{WHICH}}})", "{{signal}}"), unit="bytes")
panel("timeseries", "Fleet's store", "1 while calls are counted there; age of its last sign of life.", (f"min(outrider_state_up{{{WHICH}}})", "up"), (f"max(outrider_state_age_seconds{{{WHICH}}})", "age"))
panel("timeseries", "Keys of issuers", "Seconds since they were last seen published.", (f"max by (issuer) (outrider_issuer_keys_age_seconds{{{WHICH}}})", "{{issuer}}"), unit="s")

row("Tool $tool", repeat="tool")
panel("timeseries", "Calls by code", "", (f"sum by (code) (rate(outrider_calls_total{{{TOOL}}}[$__rate_interval]))", "{{code}}"), unit="reqps", stacked=True)
panel("timeseries", "Whole calls", "", *quantiles("outrider_call_duration_seconds", [], TOOL), unit="s")
panel("timeseries", "Refused share", "", (f'(sum(rate(outrider_calls_total{{{TOOL}, outcome!="allow"}}[$__rate_interval])) or vector(0)) / sum(rate(outrider_calls_total{{{TOOL}}}[$__rate_interval]))', "refused"), unit="percentunit")


def variable(name, query, **more):
    return dict({"name": name, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name}, "definition": query, "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}, **more)


json.dump({
    "title": "Outrider", "uid": "outrider", "tags": ["outrider"], "schemaVersion": 39, "version": 1, "editable": True, "graphTooltip": 1, "refresh": "30s",
    "time": {"from": "now-1h", "to": "now"},
    "templating": {"list": [
        {"name": "source", "type": "datasource", "query": "prometheus", "label": "data source"},
        variable("job", "label_values(outrider_build_info, job)"),
        variable("instance", 'label_values(outrider_build_info{job=~"$job"}, instance)'),
        variable("service", f"label_values(outrider_calls_total{{{WHICH}}}, service)"),
        # one row each: none until somebody chooses
        variable("tool", f'label_values(outrider_calls_total{{{WHICH}, service=~"$service"}}, tool)', includeAll=False, current={}),
    ]},
    "annotations": {"list": [{"name": "Policy loaded", "datasource": SOURCE, "enable": True, "iconColor": "blue", "expr": f"changes(outrider_policy_loaded_timestamp_seconds{{{WHICH}}}[1m]) > 0"}]},
    "panels": panels,
}, sys.stdout, indent=1)
print()
