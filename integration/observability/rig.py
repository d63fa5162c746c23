"""A sidecar that has one of everything it can count, what it talks to, and a Prometheus that scrapes it."""

import base64
import contextlib
import json
import random
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AGENT = "spiffe://example.org/agent/watched"
ISSUER = "https://issuer.example.org"
PATIENCE = 60  # seconds; what takes longer hangs


def awaited(what, ready):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, KeyError, ValueError):
            if found := ready():
                return found
        time.sleep(0.1)
    raise SystemExit(f"FAILED: waited in vain for {what}")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode()


def serving(answer):
    """A server whose answers to GET and POST are `answer(path)`: status, media type, body. Its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, media_type, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # whoever goes away before the answer is no news
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def slowly(path):
    time.sleep(random.lognormvariate(-5, 0.7))  # 7 ms, now and then 30
    return 200, "application/json", b"{}"


@contextlib.contextmanager
def running(command, home, name):
    """A process until the block ends; its output is in `NAME.log`."""
    with open(home / f"{name}.log", "wb") as log:
        child = subprocess.Popen([str(word) for word in command], cwd=home, stdout=log, stderr=log)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_by_new_key(home, claims):
    """A JWT by a key made for it, and that key's JWK Set."""
    openssl = lambda *words, stdin=b"": subprocess.run(["openssl", *words], cwd=home, input=stdin, check=True, capture_output=True).stdout
    openssl("genpkey", "-algorithm", "ed25519", "-out", "issuer.pem")
    public = openssl("pkey", "-in", "issuer.pem", "-pubout", "-outform", "DER")[-32:]
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64url(public), "kid": "issuer", "alg": "EdDSA", "use": "sig"}
    header = {"alg": "EdDSA", "kid": "issuer", "typ": "JWT"}
    text = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    (home / "signed.txt").write_text(text)
    signature = openssl("pkeyutl", "-sign", "-rawin", "-inkey", "issuer.pem", "-in", "signed.txt")
    return f"{text}.{base64url(signature)}", {"keys": [jwk]}


class Sidecar:
    """Its files and addresses; `with sidecar.running():` its process."""

    def __init__(self, binary, home, store):
        self.binary, self.home = binary, home
        things = serving(slowly)
        collector = serving(lambda path: (200, "application/json" if path == "/logs" else "application/x-protobuf", b""))
        self.listener, self.admin = free_port(), f"http://127.0.0.1:{free_port()}"
        now = int(time.time())
        token, keys = signed_by_new_key(home, {"iss": ISSUER, "aud": "outrider", "sub": "watched", "iat": now, "exp": now + 3600})
        (home / "agent.jwt").write_text(token)
        self.write("jwks.json", keys)
        self.write("things.yaml", {
            "openapi": "3.1.0", "info": {"title": "Things", "version": "1"},
            "paths": {f"/{name}/{{id}}": {"get": {
                "operationId": name, "responses": {"200": {"description": "a thing"}},
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            }} for name in ("read", "look")},
        })
        self.data = {
            "agents": [{"id": AGENT, "owner": "owner@example.org", "purpose": "Is watched", "state": "active", "expires": "2100-01-01T00:00:00Z"}],
            "intents": [{"id": "check", "owner": "owner@example.org", "tools": ["*/*"], "max_classification": "internal"}],
            "grants": [{"agent": AGENT, "tools": ["things/read", "things/look", "away/GET"]}],
        }
        self.write("data.yaml", self.data)
        self.write("outrider.yaml", {
            "agent": {"id": AGENT}, "environment": "test",
            "identity": {"source": "token_file", "token": "agent.jwt", "issuer": ISSUER, "audience": "outrider",
                         "jwks": "file:jwks.json", "map": {"watched": AGENT}},
            "listeners": [{"mode": "reverse", "address": f"127.0.0.1:{self.listener}"}],
            "admin": {"address": self.admin.removeprefix("http://")},
            "control": {"socket": "control.sock"},
            "services": [
                {"name": "things", "protocol": "openapi", "upstream": things, "schemas": "things.yaml", "classification": "internal",
                 "credentials": {"command": {"run": ["echo", '{"value": "secret", "expires_in": 3600}']}}},
                {"name": "away", "protocol": "http", "upstream": f"http://127.0.0.1:{free_port()}", "classification": "internal"},
            ],
            "tasks": {"required": True, "local": True, "issuers": [{"issuer": ISSUER, "jwks": "file:jwks.json", "audience": "outrider"}]},
            "policy": {"data": ["data.yaml"], "timeout": "1s"},
            "limits": [{"name": "per-tool", "key": ["tool"], "rate": "12/s", "burst": 6}],
            **({"state": {"store": store}} if store else {}),
            "telemetry": {"otlp": {"endpoint": collector, "protocol": "http", "interval": "1s"}, "opa": {"url": collector}},
            "decision_log": {"path": "decisions.jsonl"}, "security_log": {"path": "security.jsonl"},
        })

    def write(self, name, value):
        (self.home / name).write_text(json.dumps(value))

    def cli(self, *words):
        done = subprocess.run([self.binary, *words, "--control", "control.sock"], cwd=self.home, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise SystemExit(f"FAILED: outrider {' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def running(self):
        with running([self.binary, "run"], self.home, "sidecar") as child:
            def ready():
                if child.poll() is not None:
                    raise SystemExit("FAILED: the sidecar did not start: " + (self.home / "sidecar.log").read_text())
                return get(f"{self.admin}/readyz")
            awaited("the sidecar", ready)
            self.task = self.cli("task", "open", "--intent", "check")
            yield

    def page(self, accept):
        return get(f"{self.admin}/metrics", Accept=accept)

    def call(self, path):
        headers = {"Outrider-Task-Token": self.task}
        with contextlib.suppress(urllib.error.HTTPError):
            get(f"http://127.0.0.1:{self.listener}/{path}", **headers)

    def everything(self):
        """A call of each kind: permitted, of no published tool or service, against its schema, of a service that is away, none."""
        for path in ("things/read/1", "things/read/2", "things/look/1", "things/read/x", "things/other", "nothing/1", "away/1"):
            self.call(path)
        with socket.create_connection(("127.0.0.1", self.listener), timeout=10) as raw:
            raw.sendall(b"no HTTP at all\r\n\r\n")
            raw.recv(1024)

    def revoke_something(self):
        other = json.loads(self.cli("task", "open", "--intent", "check", "--json"))
        self.cli("revoke", "task", other["id"])

    def reload(self, data, result):
        """Puts that into the data file and waits until the attempt to load it is counted."""
        count = lambda: sum(float(value) for value in re.findall(
            rf'^outrider_policy_reload_total{{result="{result}"}} (\S+)$', self.page("text/plain"), re.M))
        before = count()
        self.write("data.yaml", data)
        awaited(f"a reload that is {result}", lambda: count() > before)


@contextlib.contextmanager
def redis(home):
    """The URL of a Redis, or None where there is none."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if not server:
        yield None
        return
    path = home / "redis"
    path.mkdir()
    port = free_port()
    with running([server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", path], home, "redis"):
        awaited("Redis", lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close() or True)
        yield f"redis://127.0.0.1:{port}"


class Prometheus:
    """Scrapes that sidecar each second: as `outrider` in the form it likes best, as `outrider-text` in the older one."""

    def __init__(self, home, sidecar, rules):
        self.home = home
        relay = serving(lambda path: (200, "text/plain; version=0.0.4", sidecar.page("text/plain").encode()))
        jobs = {"outrider": sidecar.admin, "outrider-text": relay}
        (home / "prometheus.yaml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [url.removeprefix("http://")]}]} for job, url in jobs.items()],
        }))

    @contextlib.contextmanager
    def running(self):
        with running(["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0",
                      "--enable-feature=exemplar-storage"], self.home, "prometheus"):
            said = lambda: re.findall(r'msg="Listening on" address=(\S+)', (self.home / "prometheus.log").read_text())
            self.url = "http://" + awaited("Prometheus", said)[0]
            awaited("Prometheus", lambda: get(f"{self.url}/-/ready"))
            yield

    def ask(self, path, **query):
        try:
            return json.loads(get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query, doseq=True)}"))["data"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"FAILED: {query}: {error.read().decode()}") from error
