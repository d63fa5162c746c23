"""Writes outrider.json, the dashboard: `python3 deploy/grafana/make.py > deploy/grafana/outrider.json`.

For Grafana from 11 on. What is shown stands in `ROWS`; below are the words it is written in.
"""
import json
import sys

SIDECARS = 'job=~"$job", instance=~"$instance"'
SERVICES = f'{SIDECARS}, service=~"$service"'
TOOLS = f'{SERVICES}, tool=~"$tool"'
WINDOW = "[$__rate_interval]"
SOURCE = {"type": "prometheus", "uid": "${source}"}
REFUSED = 'outcome=~"deny|hold"'
FAULTS = 'code=~"policy_error|record_unavailable|overloaded|dependency_unavailable"'
UNISOLATED = 'isolation="none"'


# Queries

def of(metric, which=SIDECARS, *more):
    return f"{metric}{{{', '.join([which, *more])}}}"


def rate(metric, which=SIDECARS, *more, by=""):
    return f"sum by ({by}) (rate({of(metric, which, *more)}{WINDOW}))" if by else f"sum(rate({of(metric, which, *more)}{WINDOW}))"


def happened(metric, by):
    return f"sum by ({by}) (increase({of(metric)}{WINDOW}))"


def share(what, which=SERVICES):
    return f"({rate('outrider_calls_total', which, what)} or vector(0)) / {rate('outrider_calls_total', which)}"


def quantiles(metric, which=SIDECARS, *more, by="", of_all=(0.5, 0.99)):
    labels, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    buckets = rate(f"{metric}_bucket", which, *more, by=labels)
    return [(f"histogram_quantile({quantile}, {buckets})", f"p{quantile * 100:.0f}{legend}") for quantile in of_all]


# Panels

def panel(kind, title, about, queries, width, height, unit, steps):
    """`steps`: (from, colour), from the least."""
    instant = kind in ("stat", "table")
    targets = [{
        "refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend,
        "exemplar": "_bucket" in expr and not instant, "instant": instant, "range": not instant,
        **({"format": "table"} if kind == "table" else {}),
    } for at, (expr, legend) in enumerate(queries)]
    colours = [{"color": "green", "value": None}] + [{"color": colour, "value": least} for least, colour in steps]
    return {
        "type": kind, "title": title, "description": about, "datasource": SOURCE, "targets": targets,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": colours}}, "overrides": []},
        "options": {},
    }


def stat(title, about, expr, unit="short", steps=()):
    made = panel("stat", title, about, [(expr, "")], 3, 4, unit, steps)
    made["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "none", "colorMode": "value"}
    return made


def lines(title, about, *queries, unit="short", width=8, steps=(), stacked=False):
    made = panel("timeseries", title, about, queries, width, 8, unit, steps)
    made["fieldConfig"]["defaults"] |= {
        "min": 0, "color": {"mode": "palette-classic"},
        "custom": {"fillOpacity": 15 if stacked else 0, "showPoints": "never",
                   "stacking": {"mode": "normal" if stacked else "none"},
                   "thresholdsStyle": {"mode": "dashed" if steps else "off"}},
    }
    made["options"] = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                       "tooltip": {"mode": "multi", "sort": "desc"}}
    return made


def table(title, about, expr, columns, width=12):
    made = panel("table", title, about, [(expr, "")], width, 8, "short", ())
    made["transformations"] = [{"id": "filterFieldsByName", "options": {"include": {"names": columns}}}]
    return made


ROWS = [
    ("At a glance", [
        stat("Sidecars up", "Sidecars that answer a scrape.", f"sum({of('up')})", steps=[]),
        stat("Sidecars down", "Sidecars that do not answer. Runbook: OutriderDown.", f"count({of('up')} == 0) or vector(0)", steps=[(1, "red")]),
        stat("Calls", "Calls that ended, permitted or not.", rate("outrider_calls_total", SERVICES), unit="reqps"),
        stat("Refused", "Share of calls that were refused, for whatever reason.", share(REFUSED), unit="percentunit", steps=[(0.2, "orange")]),
        stat("Faults of ours", "Share of calls that were refused because the sidecar could not do its work. 0.1 % is the budget. Runbook: OutriderFaultsFast.",
             share(FAULTS), unit="percentunit", steps=[(0.001, "orange"), (0.0144, "red")]),
        stat("Overhead, p99", "What the sidecar takes until the decision stands in the record.",
             quantiles("outrider_overhead_seconds", SIDECARS, 'stage="total"', of_all=(0.99,))[0][0], unit="s", steps=[(0.01, "orange"), (0.1, "red")]),
        stat("In flight", "Calls under way.", f"sum({of('outrider_in_flight')})"),
        stat("Not isolated", "Sidecars whose agent can go round them. Runbook: OutriderNotIsolated.",
             f"count({of('outrider_build_info', SIDECARS, UNISOLATED)}) or vector(0)", steps=[(1, "red")]),
        table("Alerts", "What fires, or is about to. Each has its section in docs/runbook.md.",
              f'ALERTS{{{SIDECARS}, alertname=~"Outrider.+"}} or ALERTS{{job=~"$job", instance="", alertname=~"Outrider.+"}}',
              ["alertname", "alertstate", "severity", "job", "instance", "service", "signal"], width=24),
    ]),
    ("Calls", [
        lines("Calls by outcome", "Decisions: allow, deny, hold (waits for a person), shadow_deny.",
              (rate("outrider_calls_total", SERVICES, by="outcome"), "{{outcome}}"), unit="reqps", stacked=True),
        lines("Refusals by code", "What a code means and whether a retry helps: docs/reference.md, Refusals.",
              (rate("outrider_calls_total", SERVICES, REFUSED, by="code"), "{{code}}"), unit="reqps", stacked=True),
        lines("Permitted, and failed", "Calls that policy permitted and that did not end well: mostly services that are away or slow.",
              (rate("outrider_calls_total", SERVICES, 'outcome="allow"', 'code!="ok"', by="service, code"), "{{service}} {{code}}"), unit="reqps"),
        lines("Calls by service", "`_other` is a service that the configuration does not know.",
              (rate("outrider_calls_total", SERVICES, by="service"), "{{service}}"), unit="reqps", stacked=True),
        lines("Unknown tools", "Calls of services and tools that no catalogue has. Runbook: OutriderUnknownTools.",
              (rate("outrider_calls_total", SERVICES, 'tool="_other"', 'code=~"tool_unknown|service_unknown"', by="service"), "{{service}}"), unit="reqps"),
        lines("Messages against their schema", "Arguments that do not fit what the tool's team published.",
              (rate("outrider_schema_violations_total", SERVICES, by="service, direction"), "{{service}} {{direction}}"), unit="reqps"),
    ]),
    ("Time", [
        lines("What the sidecar takes", "Until the decision stands in the record, reading the body included. Points lead to traces.",
              *quantiles("outrider_overhead_seconds", SIDECARS, 'stage="total"'), unit="s", steps=[(0.01, "red")]),
        lines("By stage, p99", "Where that time goes. record: the disk. policy: rules. limit: the fleet's store. parse: bodies.",
              *quantiles("outrider_overhead_seconds", SIDECARS, 'stage!="total"', by="stage", of_all=(0.99,)), unit="s"),
        lines("By stage, p50", "The same for the call in the middle.",
              *quantiles("outrider_overhead_seconds", SIDECARS, 'stage!="total"', by="stage", of_all=(0.5,)), unit="s"),
        lines("Whole calls", "From the request to the end of the answer, streams to their end.",
              *quantiles("outrider_call_duration_seconds", SERVICES, by="service"), unit="s"),
        lines("Services", "Until the service's head, or its whole answer where that is buffered.",
              *quantiles("outrider_upstream_duration_seconds", SERVICES, by="service"), unit="s"),
        lines("Policy", "One evaluation. Its bound is `policy.timeout`, 5 ms unless set; then calls are refused with policy_error.",
              *quantiles("outrider_policy_eval_seconds"), unit="s", steps=[(0.005, "red")]),
        lines("In flight", "Calls under way, open streams among them.", (f"sum by (listener) ({of('outrider_in_flight')})", "{{listener}}")),
        lines("Calls over a limit", "By the limit's name in the configuration.",
              (rate("outrider_limit_rejections_total", by="limit"), "{{limit}}"), unit="reqps"),
        lines("Connections that were no calls", "No HTTP, handshakes that failed, slow heads, too many connections.",
              (rate("outrider_connection_errors_total", by="reason"), "{{reason}}"), unit="cps"),
    ]),
    ("Authority", [
        lines("Tasks", "Remembered, by state.", (f"sum by (state) ({of('outrider_tasks')})", "{{state}}")),
        lines("Revocations", "By where they came from: this sidecar's control socket, or the fleet.",
              (happened("outrider_revocations_total", "source"), "{{source}}")),
        lines("Approvals", "Held calls by state; no samples in a build that holds none.",
              (f"sum by (state) ({of('outrider_approvals')})", "{{state}}")),
        lines("Ends in", "The first to end: what proves the agent, its entry in the inventory, credentials that are held.",
              (f"min by (source) ({of('outrider_identity_expiry_timestamp_seconds')} - time())", "identity {{source}}"),
              (f"min({of('outrider_agent_expiry_timestamp_seconds')} - time())", "inventory"),
              (f"min by (service) ({of('outrider_credential_expiry_seconds', SERVICES)})", "credential {{service}}"), unit="s"),
        lines("Credentials fetched", "From authorization servers and programs, by result.",
              (rate("outrider_credential_fetches_total", SERVICES, by="service, result"), "{{service}} {{result}}"), unit="ops"),
        lines("Keys of issuers", "Since they were last seen published; and issuers without one key that serves.",
              (f"max by (issuer) ({of('outrider_issuer_keys_age_seconds')})", "age {{issuer}}"),
              (f"count({of('outrider_issuer_keys')} == 0) or vector(0)", "issuers without keys"), unit="s"),
        lines("Fleet's store", "1 while calls are counted there; age of its last sign of life in seconds.",
              (f"min({of('outrider_state_up')})", "up"), (f"max({of('outrider_state_age_seconds')})", "age"), width=12),
        lines("Questions to the store, changes from it", "What was not answered is refused or counted here, by `state.on_failure`.",
              (rate("outrider_state_questions_total", by="result"), "questions {{result}}"),
              (rate("outrider_state_changes_total", by="result"), "changes {{result}}"), unit="ops", width=12),
    ]),
    ("Policy, record, telemetry", [
        table("Policy in force", "Revision by sidecar, and for how many seconds it has been in force.",
              f"time() - max by (job, instance) ({of('outrider_policy_loaded_timestamp_seconds')})"
              f" * on (job, instance) group_right () {of('outrider_policy_info')}", ["job", "instance", "revision", "mode", "Value"]),
        lines("Revisions in force", "More than one means that a change is on its way, or that sidecars differ on purpose.",
              (f"count by (revision) ({of('outrider_policy_info')})", "{{revision}}"), width=6, stacked=True),
        lines("Reloads", "Attempts by result; one that failed leaves the old state in force.",
              (happened("outrider_policy_reload_total", "result"), "{{result}}"), width=6),
        lines("Decision log", "Lines written, and refused: what cannot be recorded is refused.",
              (rate("outrider_decision_log_records_total", by="result"), "{{result}}"), unit="ops", width=6),
        lines("Lines that wait to be written", "Outcomes, and by `durability` decisions.", (f"sum({of('outrider_decision_log_queue')})", "lines"), width=6),
        lines("Told to others", "Records by OTLP and to OPA's service. dropped: never told; failed: tried again.",
              (rate("outrider_telemetry_records_total", by="signal, result"), "{{signal}} {{result}}"), unit="ops", width=6),
        lines("Not told yet", "Bytes of the logs that nobody has taken so far.",
              (f"sum by (signal) ({of('outrider_telemetry_lag_bytes')})", "{{signal}}"), unit="bytes", width=6, steps=[(64 << 20, "red")]),
    ]),
    ("Tool $tool", [
        lines("$tool: calls by code", "Every call of this tool.", (rate("outrider_calls_total", TOOLS, by="code"), "{{code}}"), unit="reqps", stacked=True),
        lines("$tool: whole calls", "From the request to the end of the answer.", *quantiles("outrider_call_duration_seconds", TOOLS), unit="s"),
        lines("$tool: refused, and against its schema", "Shares of its calls.", (share(REFUSED, TOOLS), "refused"),
              (f"{rate('outrider_schema_violations_total', TOOLS)} / {rate('outrider_calls_total', TOOLS)}", "against its schema"), unit="percentunit"),
    ]),
]


# The whole

def placed(rows):
    """Panels from left to right, a line below the last one's foot; numbered."""
    at, panels = 0, []
    for title, row in rows:
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": at, "w": 24, "h": 1}})
        at, left, foot = at + 1, 0, at + 1
        for each in row:
            place = each["gridPos"]
            if left + place["w"] > 24:
                at, left = foot, 0
            place |= {"x": left, "y": at}
            left, foot = left + place["w"], max(foot, at + place["h"])
            panels.append(each)
        at = foot
    panels[-len(rows[-1][1]) - 1]["repeat"] = "tool"
    return [{"id": number, **each} for number, each in enumerate(panels, 1)]


def variable(name, query, **more):
    return {"name": name, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name}, "definition": query,
            "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"}, **more}


VARIABLES = [
    {"name": "source", "type": "datasource", "query": "prometheus", "label": "data source"},
    variable("job", "label_values(outrider_build_info, job)"),
    variable("instance", 'label_values(outrider_build_info{job=~"$job"}, instance)'),
    variable("service", f"label_values({of('outrider_calls_total')}, service)"),
    # A row for each that is chosen; the first, until somebody chooses.
    variable("tool", f"label_values({of('outrider_calls_total', SERVICES)}, tool)", includeAll=False, current={}),
]

json.dump({
    "title": "Outrider", "uid": "outrider", "tags": ["outrider"], "schemaVersion": 39, "version": 1, "editable": True,
    "description": "Sidecars that decide on the calls of AI agents. Generated by make.py: change it there.",
    "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-1h", "to": "now"},
    "templating": {"list": VARIABLES},
    "annotations": {"list": [{
        "name": "Policy loaded", "datasource": SOURCE, "enable": True, "iconColor": "blue", "titleFormat": "{{instance}}",
        "expr": f"changes({of('outrider_policy_loaded_timestamp_seconds')}[1m]) > 0",
    }]},
    "panels": placed(ROWS),
}, sys.stdout, indent=1)
print()
