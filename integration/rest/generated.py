"""Generated requests through Outrider.   generated.py OUTRIDER DESCRIPTIONS

Requests that schemathesis generates from real descriptions, and from one of our own, go through Outrider to a server
that records. Every valid one must arrive; whatever arrives is judged anew by openapi-core, and by a few lines here for
what OpenAPI leaves to the reader: names that are not declared, and names that stand twice.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
import schemathesis
import schemathesis.openapi
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.validation.request.exceptions import InvalidParameter
from openapi_core.deserializing.styles.exceptions import EmptyQueryParameterValue
from schemathesis import GenerationMode
from werkzeug.datastructures import Headers, ImmutableMultiDict

from sidecar import Recorder, Sidecar

SEED = int(os.environ.get("SEED", "20260728"))  # another draws other operations and other requests
METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}
# name, file, operations drawn, cases of each operation and mode
REAL = [("github", "github.json", 24, 8), ("shipengine", "shipengine.json", 24, 8), ("openai", "openai.yaml", 16, 8)]
OWN = Path(__file__).parent / "shop.yaml"
SECONDS = 100  # after which no further operation is begun


def references(value):
    """The texts of all `$ref` below a value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref" and isinstance(inner, str):
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def cut(description, count):
    """The description with `count` of its operations, and what these refer to."""
    every = [(path, method) for path, item in description["paths"].items() for method in item if method in METHODS]
    chosen = set(random.Random(SEED).sample(every, min(count, len(every))))
    paths, waiting, components = {}, [], {}
    for path, item in description["paths"].items():
        kept = {key: value for key, value in item.items() if key not in METHODS or (path, key) in chosen}
        if METHODS & set(kept):
            for method in METHODS & set(kept):
                # answers are not judged here
                kept[method] = {**{k: v for k, v in kept[method].items() if k not in ("security", "callbacks")},
                                "responses": {"200": {"description": "fine"}}}
            paths[path] = kept
            waiting.extend(references(kept))
    while waiting:
        _, _, kind, name = waiting.pop().split("/")[:4]
        name = unquote(name).replace("~1", "/").replace("~0", "~")
        if name not in components.setdefault(kind, {}):
            components[kind][name] = description["components"][kind][name]
            waiting.extend(references(components[kind][name]))
    return {"openapi": description["openapi"], "info": description["info"], "servers": [{"url": "/"}],
            "paths": paths, "components": components}


class Arrived:
    """A recorded request in the form that openapi-core reads."""

    def __init__(self, line, headers, body):
        self.method, target, _ = line.split(" ")
        self.method = self.method.lower()
        split = urlsplit(target)
        self.host_url = "http://localhost"
        self.path = unquote(split.path)
        headers = Headers(headers)
        self.raw_query = split.query
        self.pairs = parse_qsl(split.query, keep_blank_values=True)
        self.parameters = RequestParameters(query=ImmutableMultiDict(self.pairs), header=headers)
        self.content_type = headers.get("Content-Type", "")
        self.body = body or None


def undiscriminated(value):
    """Without `discriminator`, which must not change what is valid (3.1.1 §4.8.25); openapi-core lets it."""
    if isinstance(value, dict):
        return {key: undiscriminated(inner) for key, inner in value.items()
                if not (key == "discriminator" and isinstance(inner, dict) and "propertyName" in inner)}
    return [undiscriminated(inner) for inner in value] if isinstance(value, list) else value


class Judge:
    """Says what is wrong with a request that arrived."""

    def __init__(self, description):
        self.description = description = undiscriminated(description)
        self.apart = Counter()  # differences that OpenAPI's text decides for us
        self.core = OpenAPI.from_dict(description, config=Config(spec_validator_cls=None))

    def resolve(self, value):
        while "$ref" in value:
            found = self.description
            for part in value["$ref"][2:].split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            value = found
        return value

    def wrong(self, arrived, operation):
        path, method = operation
        declared = [self.resolve(p) for p in self.description["paths"][path].get("parameters", [])
                    + self.description["paths"][path][method].get("parameters", [])]
        for error in self.core.iter_request_errors(arrived):
            cause = error.__cause__
            schema_errors = list(getattr(cause, "schema_errors", None) or [])
            if schema_errors and all(e.validator == "format" for e in schema_errors):
                self.apart["openapi-core asserts `format`"] += 1
                continue
            if isinstance(cause, EmptyQueryParameterValue) and self.may_be_empty(declared, cause.name):
                self.apart["openapi-core takes no empty string in a query"] += 1
                continue
            if schema_errors and all("read-only" in e.message for e in schema_errors) and type(error) is InvalidParameter:
                self.apart["openapi-core refuses parameters that are `readOnly`, which only properties can be"] += 1
                continue
            details = "; ".join(e.message[:120] for e in schema_errors)
            yield f"{type(error).__name__} {str(error)[:120]} {cause!r:.120} {details}"
        if arrived.method != method:
            yield f"method {arrived.method}"
        item = self.description["paths"][path]
        query = {p["name"]: p for p in declared if p["in"] == "query"}
        for name, times in Counter(name for name, _ in arrived.pairs).items():
            owner = query.get(name) or query.get(name.split("[")[0]) or query.get(name.removesuffix("[]"))
            spread = any(p.get("style", "form") == "form" and self.is_object(p) for p in query.values())
            if owner is None and not spread:
                yield f"undeclared {name!r}"
            elif owner and times > 1 and not self.may_repeat(owner):
                yield f"twice {name!r}"
        if arrived.body and "requestBody" not in item[method]:
            yield "a body that is not declared"

    def may_be_empty(self, declared, name):
        """Whether a schema takes the empty string: the style `form` writes it as `name=` (RFC 6570)."""
        for parameter in declared:
            if parameter["in"] == "query" and parameter["name"] == name:
                schema = self.resolve(parameter.get("schema", {}))
                if "array" in json.dumps(schema.get("type", "")):
                    schema = self.resolve(schema.get("items", {}))
                plain = not {"minLength", "pattern", "enum", "const"} & set(schema)
                return plain and "string" in json.dumps(schema.get("type", "string"))
        return False

    def has_object(self, operation):
        item = self.description["paths"][operation[0]]
        declared = map(self.resolve, item.get("parameters", []) + item[operation[1]].get("parameters", []))
        return any(p["in"] == "query" and self.is_object(p) for p in declared)

    def is_object(self, parameter):
        return "object" in json.dumps(self.resolve(parameter.get("schema", {})).get("type", ""))

    def may_repeat(self, parameter):
        schema = self.resolve(parameter.get("schema", {}))
        alternatives = [schema, *map(self.resolve, schema.get("oneOf", []) + schema.get("anyOf", []))]
        return any("array" in json.dumps(one.get("type", "")) for one in alternatives)


def by_design(prepared):
    """Why a request that the description allows is refused all the same: it has two readings."""
    path = urlsplit(prepared.url).path
    segments = [unquote(s, errors="surrogateescape") for s in path.split("/")[2:]]
    text = "".join(segments)
    if any(c in text for c in "/\\"):
        return "a slash or backslash within a path variable"
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        return "a control character in the path"
    if ";" in path:
        return "a raw semicolon in the path"
    if "" in segments or any(s.split(";")[0] in (".", "..") for s in segments):
        return "an empty or dot segment"
    if any(word in text.lower() for word in ("%2f", "%5c", "%00", "%2e")) or "%25" in path:
        return "percent-encoding within percent-encoding"
    if re.search(r"(?<![\d.])\d{19,}(?![\d.])", unquote(path + "?" + urlsplit(prepared.url).query)):
        return "an integer of more than 64 bits in path or query"
    if "%00" in (urlsplit(prepared.url).query + (prepared.body.decode("latin1") if isinstance(prepared.body, bytes) else "")):
        return "a NUL"
    if str(prepared.headers.get("Content-Type", "")).startswith("multipart/"):
        return "multipart, which nobody judges"
    if ";" in urlsplit(prepared.url).query:
        return "a raw semicolon in the query"
    return None


def drawn(operation, mode, count):
    """Cases of that mode; none where the operation has nothing that could be wrong."""
    cases = []

    @seed(SEED)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(mode))
    def draw(case):
        cases.append(case)

    try:
        draw()
    except BaseException as why:  # hypothesis raises its own for what cannot be generated
        if isinstance(why, (KeyboardInterrupt, SystemExit)):
            raise
        if not cases:
            return [], type(why).__name__
    return cases[:count], None


class Run:
    def __init__(self, binary, name, description, count):
        self.name, self.count = name, count
        self.description, self.recorder = description, Recorder()
        self.sidecar = Sidecar(binary, {name: (self.recorder.url, json.dumps(description), {})})
        said = subprocess.run([binary, "schemas", "import", "--operations", "--json", str(self.sidecar.home / f"{name}.json")],
                              capture_output=True, text=True)
        self.left_out = {(line["template"], line["method"].lower()): line["reason"]
                         for line in json.loads(said.stdout)["operations"] if line["verdict"] == "left_out"}
        self.judge = Judge(description)
        self.tally, self.problems, self.notes, self.number = Counter(), [], Counter(), 0
        self.session = requests.Session()
        self.before = None  # the exchange before, for who looks into a broken connection
        self.session.trust_env = False

    def send(self, case):
        """Returns the answer, the request as it was sent and what arrived of it; None where HTTP has no such request."""
        self.number += 1
        key = str(self.number)
        try:
            kwargs = case.as_transport_kwargs(base_url=f"{self.sidecar.url}/{self.name}")
            cookies = kwargs.pop("cookies", None)
            kwargs["headers"] = {**kwargs.get("headers", {}), "X-Case": key, "Outrider-Task-Token": self.sidecar.token}
            allowed = {"method", "url", "headers", "params", "data", "json", "files"}
            prepared = self.session.prepare_request(
                requests.Request(**{k: v for k, v in kwargs.items() if k in allowed}))
            prepared.headers.pop("Cookie", None)
            answer = self.session.send(prepared, timeout=20, allow_redirects=False)
            self.before = (answer.status_code, answer.text[:200], dict(answer.headers), prepared.method, prepared.url[:200],
                           str(prepared.body)[:200])
        except (requests.RequestException, ValueError, TypeError, UnicodeError) as why:
            self.notes[f"not sent: {type(why).__name__}"] += 1
            if isinstance(why, requests.ConnectionError):
                self.problems.append(f"{case.operation.label}: no answer: {why}\n    after {self.before}")
            return None
        return answer, prepared, self.recorder.arrived.pop(key, None)

    def operation(self, operation):
        where = (operation.path, operation.method.lower())
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            cases, why = drawn(operation, mode, self.count)
            if why:
                self.notes[f"{mode.value}: {why}"] += 1
            for case in cases:
                sent = self.send(case)
                if sent:
                    self.judged(mode.value, operation.label, where, *sent)

    def judged(self, mode, label, where, answer, prepared, arrived):
        self.tally[mode, "sent"] += 1
        if arrived:
            self.tally[mode, "arrived"] += 1
            wrong = list(self.judge.wrong(Arrived(*arrived), where))
            if wrong:
                self.tally[mode, "wrong"] += 1
                self.problems.append(f"{mode} {label} arrived: {wrong[0]}\n    {arrived[0][:300]}\n    {arrived[2][:300]!r}")
            return
        told = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
        if answer.status_code >= 500 or not told.get("code"):
            self.problems.append(f"{mode} {label}: {answer.status_code} {answer.text[:200]}")
        if mode == "positive":
            why = by_design(prepared) or where in self.left_out and f"left out: {self.left_out[where]}"
            why = why or self.says_judge(prepared, where)
            if "not declared" in told.get("detail", "") and self.judge.has_object(where):
                why = "a name in the query that no schema names, of an object that is open only by default"
            if why:
                self.tally[mode, "by design"] += 1
                self.notes[f"refused by design: {why}"] += 1
            else:
                self.tally[mode, "refused"] += 1
                self.problems.append(f"{mode} {label} refused: {told.get('code')} {told.get('detail')}\n    {prepared.method} "
                                     f"{prepared.url[:300]}\n    {prepared.headers.get('Content-Type')} {str(prepared.body)[:300]}")

    def says_judge(self, prepared, where):
        """What openapi-core says of a request that was refused: what is generated as valid is not always."""
        url, body = urlsplit(prepared.url), prepared.body
        target = url.path.removeprefix(f"/{self.name}") + (f"?{url.query}" if url.query else "")
        body = body.encode() if isinstance(body, str) else body or b""
        wrong = list(self.judge.wrong(Arrived(f"{prepared.method} {target} HTTP/1.1", list(prepared.headers.items()), body), where))
        return f"not valid, says openapi-core: {where[0]}" if wrong else None

    def go(self, deadline):
        loaded = schemathesis.openapi.from_dict(self.description)
        for result in loaded.get_all_operations():
            if time.monotonic() > deadline:
                self.notes["operations left out for time"] += 1
                continue
            try:
                operation = result.ok()
            except Exception as why:
                self.notes[f"schemathesis: {type(why).__name__}"] += 1
                continue
            self.operation(operation)
            self.tally["operations"] += 1
        self.sidecar.stop()


def main(binary, directory):
    warnings.simplefilter("ignore")
    runs, started = [("shop", yaml.safe_load(OWN.read_text()), 40)], time.monotonic()
    for name, file, operations, count in REAL:
        path = Path(directory) / file
        if not path.exists():
            print(f"skipped: {name}: no {path} (integration/descriptions/fetch)")
            continue
        text = path.read_text()
        whole = json.loads(text) if file.endswith("json") else yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        runs.append((name, json.loads(json.dumps(cut(whole, operations))), count))
    done = []
    for index, (name, description, count) in enumerate(runs, 1):
        run = Run(binary, name, description, count)
        run.go(started + SECONDS * index / len(runs))
        done.append(run)
    print(f"{'description':12} {'operations':>10} | {'valid':>6} {'arrived':>8} {'by design':>10} {'refused':>8} | "
          f"{'invalid':>8} {'stopped':>8} {'arrived':>8} | {'wrong':>6}")
    for run in done:
        t = run.tally
        print(f"{run.name:12} {t['operations']:10} | {t['positive', 'sent']:6} {t['positive', 'arrived']:8} "
              f"{t['positive', 'by design']:10} {t['positive', 'refused']:8} | {t['negative', 'sent']:8} "
              f"{t['negative', 'sent'] - t['negative', 'arrived']:8} {t['negative', 'arrived']:8} | "
              f"{t['positive', 'wrong'] + t['negative', 'wrong']:6}")
    for run in done:
        for note, times in sorted({**run.notes, **run.judge.apart}.items()):
            print(f"{run.name}: {note}: {times}")
        for problem in run.problems[:20]:
            print(f"FAIL {run.name} {problem}")
    print(f"generated: {time.monotonic() - started:.0f} s")
    return any(run.problems for run in done)


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:]) else 0)
