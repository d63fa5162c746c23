"""Asks a real Prometheus everything that rules and dashboard ask, about a sidecar that has one of everything.

    scraped.py OUTRIDER [PICTURE]
"""

import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rig import Prometheus, Sidecar, awaited, redis

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/rules.yaml"
DASHBOARD = ROOT / "deploy/grafana/outrider.json"
# Named in rules or dashboard, and not on the page of this build yet.
COMING = set()
# What Prometheus itself adds.
ITS_OWN = {"up", "ALERTS"}
# Panels that have nothing to show even here: no build holds calls yet.
SILENT = {"Approvals"}
OF_A_STORE = {"Fleet's store", "Questions to the store, changes from it"}
SHOWN, DRAWN = 8, 180  # seconds of calls; for a picture


def require(holds, why):
    if not holds:
        raise SystemExit(f"FAILED: {why}")


def families(page):
    """Of a page in Prometheus' older form: labels by family, and by label the values it has."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    found = {name: {} for name in kinds}
    for name, labels in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", page, re.M):
        family = name if name in kinds else re.sub("_(bucket|count|sum)$", "", name)
        for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels):
            found[family].setdefault(label, set()).add(value)
    return kinds, found


def family_of(metric, kinds):
    short = re.sub("_(bucket|count|sum)$", "", metric)
    return short if kinds.get(short) == "histogram" else metric


def documented(family):
    """The labels of a family, from its line in the reference."""
    line = re.search(rf"^\| `{family}` \| \w+ \|([^|]*)\|", (ROOT / "docs/reference.md").read_text(), re.M)
    if not line:
        return None
    # `service`, `result`: `ok`, `failed`; what follows a colon are values.
    return {label for part in line[1].split(";") for label in re.findall(r"`(\w+)`", part.split(":")[0])}


class Names:
    """What queries may name: families of the page with their labels, what rules record, what Prometheus adds."""

    def __init__(self, page, records, elsewhere):
        self.kinds, self.labels = families(page)
        self.elsewhere = elsewhere
        self.records, self.seen = records, set()
        self.codes = set(re.findall(r"`(\w+)`", re.search(r"## Refusals\n(.*?)\n\n\S", (ROOT / "docs/reference.md").read_text(), re.S)[1])) | {"ok"}

    def check(self, query):
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
        metrics = set(re.findall(r"\boutrider_\w+|\boutrider:[\w:]+|\bup\b|\bALERTS\b", bare))
        known = {"job", "instance"}
        for metric in metrics:
            known |= self.labels_of(metric, query)
        for metric, selector in re.findall(r"\b([A-Za-z_:]\w*(?::\w+)*)\{((?:[^}\"]|\"[^\"]*\")*)\}", query):
            for label, value in re.findall(r'(\w+)\s*=~?\s*"([^"]*)"', selector):
                require(label in self.labels_of(metric, query) | {"job", "instance"}, f"`{metric}` has no label `{label}`: {query}")
                self.check_value(metric, label, value)
        for group in re.findall(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([\w\s,]*)\)", bare):
            for label in filter(None, re.split(r"[\s,]+", group)):
                require(label in known, f"nothing here has a label `{label}`: {query}")
        self.seen |= metrics
        return metrics

    def labels_of(self, metric, query):
        family = family_of(metric, self.kinds)
        if metric in ITS_OWN | COMING or metric in self.records:
            return {"job", "instance", "alertname", "severity"} | ({"source", "le"} if ":" in metric else set())
        require(family in self.kinds or family.startswith(self.elsewhere) and documented(family) is not None, f"there is no `{metric}` on the page: {query}")
        found = set(self.labels.get(family, ())) or documented(family) or set()
        return found | ({"le"} if metric.endswith("_bucket") else set())

    def check_value(self, metric, label, value):
        """Words that are fixed have to be those that are used."""
        used = {"code": self.codes}.get(label) or (self.labels.get(family_of(metric, self.kinds), {}).get(label) if label in ("stage", "le") else None)
        if used and "$" not in value:
            for word in value.split("|"):
                require(word in used, f"`{metric}` has no {label} `{word}`")


def filled(query, window="5s"):
    """A query of the dashboard with its variables filled in."""
    for variable, value in {"$__rate_interval": window, "$job": "outrider", "$instance": ".*", "$service": ".*", "$tool": "read"}.items():
        query = query.replace(variable, value)
    require("$" not in query, f"a variable that is not known: {query}")
    return query


def check_reference(names):
    """The reference has a line for each family, with the labels that its samples have."""
    for family in names.kinds:
        labels = documented(family)
        require(labels is not None, f"the reference has no line for `{family}`")
        found = set(names.labels[family]) - {"le"}
        require(not found or found == labels, f"`{family}` has the labels {found}, the reference says {labels}")
    print(f"reference: {len(names.kinds)} families, each with its line")


def check_runbook(rules, alerts):
    text = (ROOT / "docs/runbook.md").read_text()
    sections = re.findall(r"^## (Outrider\w+)$", text, re.M)
    require(sections == alerts, f"runbook and alerts differ, or stand in another order: {set(sections) ^ set(alerts)}")
    for alert in alerts:
        require(f"runbook_url: docs/runbook.md#{alert.lower()}\n" in rules, f"{alert} does not lead to its section")
    tested = (ROOT / "deploy/prometheus/rules.test.yaml").read_text()
    for alert in alerts:
        require(f"alertname: {alert}\n        eval_time" in tested, f"no test has {alert} fire")
    for anchor in re.findall(r"\]\(#([\w-]+)\)", text):
        require(anchor in {section.lower() for section in sections}, f"the runbook has no section `{anchor}`")
    print(f"runbook: {len(alerts)} alerts, each with its section and its test")


def check_commands(sidecar):
    """Commands that the runbook names exist."""
    text = (ROOT / "docs/runbook.md").read_text()
    commands = set(re.findall(r"`outrider ((?:[a-z]+ ?)+)", text))
    for command in sorted(commands):
        words = command.split()
        while words:
            done = subprocess.run([sidecar.binary, *words, "--help"], capture_output=True, text=True, timeout=30)
            if done.returncode == 0:
                break
            words.pop()
        require(words, f"the runbook names `outrider {command}`, which there is not")
    print(f"commands: {len(commands)} named, all there")


def check_dashboard(prometheus, names, dashboard, store):
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    require(len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]), "two panels have one id")
    empty, asked = set(), 0
    for panel in panels:
        require(panel.get("description"), f"`{panel['title']}` has no description")
        for target in panel["targets"]:
            names.check(target["expr"])
            require(target["exemplar"] == ("_bucket" in target["expr"] and panel["type"] == "timeseries"), f"exemplars of `{panel['title']}`")
            asked += 1
            if not prometheus.ask("query", query=filled(target["expr"]))["result"]:
                empty.add(panel["title"])
    silent = SILENT | (set() if store else OF_A_STORE)
    require(empty <= silent, f"panels that show nothing: {sorted(empty - silent)}")
    for annotation in dashboard["annotations"]["list"]:
        names.check(annotation["expr"])
        now = time.time()
        require(prometheus.ask("query_range", query=filled(annotation["expr"]), start=now - DRAWN - 60, end=now, step=5)["result"], "no annotation")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            require(prometheus.ask(f"label/{label}/values", **{"match[]": filled(selector)}), f"`${variable['name']}` has no values")
    print(f"dashboard: {len(panels)} panels, {asked} queries, all with something to show but {', '.join(sorted(empty)) or 'none'}")


def check_rules(prometheus, names, records, store):
    def settled():
        groups = prometheus.ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None
    rules = awaited("the rules", settled)
    for rule in rules:
        require(rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}")
        names.check(rule["query"])
    for rule in (rule for rule in rules if rule["name"] in records):
        # What looks at ten minutes ago has no value here yet; asked of now it has.
        query = rule["query"].replace(" offset 10m", "") if "offset" in rule["query"] else f'{rule["name"]}{{job="outrider"}}'
        awaited(f"a value of {rule['name']}", lambda: prometheus.ask("query", query=query)["result"])
    active = {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]}
    expected = {"OutriderNotIsolated", "OutriderPolicyReloadFailed", "OutriderUnknownTools"}
    require(active >= expected, f"alerts: {active}")
    page = {"OutriderDown", "OutriderLogFailing", "OutriderIdentityExpiring", "OutriderStoreDown", "OutriderAgentExpiring"}
    require(not active & page, f"alerts without a reason: {active & page}")
    print(f"rules: {len(rules)}, all healthy; {len(records)} records have values; active: {', '.join(sorted(active))}")


def check_scrapes(prometheus, sidecar):
    targets = awaited("both targets", lambda: [one for one in prometheus.ask("targets")["activeTargets"] if one["health"] == "up"][1:] and
                      prometheus.ask("targets")["activeTargets"])
    require({one["labels"]["job"] for one in targets} == {"outrider", "outrider-text"}, targets)
    series = lambda job: {json.dumps({key: value for key, value in one.items() if key not in ("job", "instance")}, sort_keys=True)
                          for one in prometheus.ask("series", **{"match[]": f'{{job="{job}", __name__=~"outrider_.+"}}'})}
    require(series("outrider") == series("outrider-text"), f"the two forms differ: {series('outrider') ^ series('outrider-text')}")
    now = time.time()
    found = prometheus.ask("query_exemplars", query="outrider_overhead_seconds_bucket", start=now - 120, end=now)
    traces = {one["labels"]["trace_id"] for each in found for one in each["exemplars"]}
    log = (sidecar.home / "decisions.jsonl").read_text()
    require(traces and all(trace in log for trace in traces), "exemplars that lead to no decision")
    print(f"scrapes: {len(series('outrider'))} series, the same in both forms; {len(traces)} exemplars, which the log knows")


def usual_calls(sidecar, passed):
    """For a picture: mostly permitted calls, and for a while an agent in a loop."""
    kinds = {"things/read/1": 60, "things/look/1": 25, "away/1": 4, "things/read/x": 6, "things/other": 3, "nothing/1": 2}
    again = 4 if 0.5 < passed / DRAWN < 0.8 else 0
    for path in random.choices(list(kinds), kinds.values()) + ["things/read/7"] * again:
        sidecar.call(path)


def main(binary, picture=None):
    rules = RULES.read_text()
    alerts, records = re.findall(r"- alert: (\w+)", rules), re.findall(r"- record: (\S+)", rules)
    dashboard = json.loads(DASHBOARD.read_text())
    check_runbook(rules, alerts)
    with contextlib.ExitStack() as block:
        home = Path(block.enter_context(tempfile.TemporaryDirectory(prefix="outrider-observed-")))
        store = block.enter_context(redis(home))
        sidecar = Sidecar(binary, home, store)
        check_commands(sidecar)
        block.enter_context(sidecar.running())
        prometheus = Prometheus(home, sidecar, RULES)
        block.enter_context(prometheus.running())
        awaited("a first scrape", lambda: len(prometheus.ask("query", query="up == 1")["result"]) == 2)
        begun = time.monotonic()
        sidecar.everything()
        sidecar.revoke_something()
        sidecar.reload({**sidecar.data, "grants": "none"}, "failed")
        sidecar.reload(sidecar.data, "ok")
        while (passed := time.monotonic() - begun) < (DRAWN if picture else SHOWN):
            usual_calls(sidecar, passed) if picture else sidecar.everything()
            time.sleep(0.1)  # refusals that repeat more than 100 times a second would share a line of the log
        names = Names(sidecar.page("text/plain"), set(records), () if store else ("outrider_state_",))
        require(not COMING & set(names.kinds), f"not coming any more: {COMING & set(names.kinds)}")
        check_reference(names)
        check_scrapes(prometheus, sidecar)
        check_rules(prometheus, names, records, store)
        check_dashboard(prometheus, names, dashboard, store)
        families_unseen = set(names.kinds) - {family_of(metric, names.kinds) for metric in names.seen}
        print(f"metrics: {len(names.seen)} named, all on the page; on the page and asked by nobody: {', '.join(sorted(families_unseen)) or 'none'}")
        if not store:
            print("skipped: the numbers of a fleet's store (no redis-server)")
        if picture:
            from picture import draw
            now = time.time()
            draw(dashboard, lambda query: prometheus.ask("query_range", query=filled(query, "10s"), start=now - DRAWN + 15, end=now, step=1)["result"], picture)


main(*sys.argv[1:])
