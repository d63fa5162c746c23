"""What clients do that know nothing of Outrider, and what is proved of it.

check.py OUTRIDER HOME [NAME…]: HOME has what was installed. Each test asks servers of https://NAME.test (or http://),
which only the sidecar knows; what it asked for stands in the decision log, reached the server with its decision's ID,
and what was refused did not reach it.
"""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import harness

HERE = pathlib.Path(__file__).resolve().parent
OUTRIDER, HOME = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2])
SECONDS = 90
MEBIBYTE = 1 << 20
PYTHON = str(HOME / "py/bin/python")
NODE = str(HOME / "node/node_modules/.bin/node")

REQUESTS = """
import sys, requests
answer = requests.request(sys.argv[1], sys.argv[2], data=sys.argv[3].encode() or None, timeout=20)
print(answer.status_code, answer.text, end="")
"""
HTTPX = """
import sys, httpx
with httpx.Client(http2={http2}, timeout=20) as client:
    answer = client.request(sys.argv[1], sys.argv[2], content=sys.argv[3].encode() or None)
    assert answer.http_version == "HTTP/{version}", answer.http_version
    print(answer.status_code, answer.text, end="")
"""
FETCH = """
const [method, url, body] = process.argv.slice(-3);
const answer = await fetch(url, { method, body: body || undefined });
process.stdout.write(`${answer.status} ${await answer.text()}`);
"""
UNDICI = """
import { EnvHttpProxyAgent, request } from 'undici';
const [method, url, body] = process.argv.slice(-3);
const answer = await request(url, { method, body: body || undefined, dispatcher: new EnvHttpProxyAgent() });
process.stdout.write(`${answer.statusCode} ${await answer.body.text()}`);
"""


LIVE = """
import asyncio, websockets
async def upper(socket):
    async for message in socket:
        await socket.send(message.upper())
async def main():
    async with websockets.serve(upper, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
"""
TALK = """
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1]) as socket:
        for word in ("one", "two"):
            await socket.send(word)
            print(await socket.recv(), end=" ")
asyncio.run(main())
"""


def curl(*more):
    return lambda method, url, body: [
        "curl", "-sS", "-m", "20", *more, "-X", method, *(["-d", body] if body else []), "-w", "\n%{http_code}", url]


CLIENTS = {
    "curl": curl("--http1.1"),
    "curl_http2": curl("--http2"),
    "requests": lambda *asked: [PYTHON, "-c", REQUESTS, *asked],
    "httpx": lambda *asked: [PYTHON, "-c", HTTPX.format(http2=False, version="1.1"), *asked],
    "httpx_http2": lambda *asked: [PYTHON, "-c", HTTPX.format(http2=True, version="2"), *asked],
    "fetch": lambda *asked: [NODE, "--input-type=module", "-e", FETCH, *asked],
    "undici": lambda *asked: [NODE, str(HOME / "node/ask.mjs"), *asked],
    "go": lambda *asked: [str(HOME / "get"), *asked],
}
ONLY_TLS = {"curl_http2", "httpx_http2"}  # over plain HTTP nobody agrees on it


class Skipped(Exception):
    pass


def said(text: str) -> tuple[int, str]:
    """Status and body: curl says the status last."""
    first, _, rest = text.partition(" ")
    if first.isdigit():
        return int(first), rest
    body, _, status = text.rpartition("\n")
    return int(status), body


def same(got, expected):
    assert got == expected, f"got {got!r}, not {expected!r}"


class Bench:
    """Servers, a sidecar before them, and an agent's task."""

    def __init__(self, work: pathlib.Path):
        self.work = work
        self.certify()
        words = [sys.executable, str(HERE / "server.py"), str(work / "leaf.pem"), str(work / "leaf.key"), str(work)]
        self.server = harness.Process(work, "server", words)
        plain, secure = (int(port) for port in self.server.first_line().split())
        self.live = harness.Process(work, "live", [PYTHON, "-c", LIVE])
        live = f"http://127.0.0.1:{self.live.first_line()}"
        self.sidecar = harness.Sidecar(OUTRIDER, work)
        self.proxy = f"127.0.0.1:{harness.free_port()}"
        base = {"protocol": "http", "body": "streamed", "classification": "internal"}
        tls = {"ca": "ca.pem"}
        to = f"https://localhost:{secure}"
        self.sidecar.services += [
            base | {"name": "api", "upstream": to, "tls": tls, "hosts": ["api.test:443"]},
            base | {"name": "plain", "upstream": f"http://127.0.0.1:{plain}", "hosts": ["api.test:80"]},
            base | {"name": "git", "upstream": f"{to}/git", "tls": tls, "hosts": ["git.test"]},
            base | {"name": "pip", "upstream": f"{to}/pip", "tls": tls, "hosts": ["pip.test"]},
            base | {"name": "npm", "upstream": f"{to}/npm", "tls": tls, "hosts": ["npm.test"], "encoded_slash": "allow"},
            base | {"name": "live", "upstream": live, "hosts": ["live.test"], "websocket": "allow"},
            {"name": "far", "protocol": "tunnel", "hosts": [f"localhost.test:{secure}", f"127.0.0.1:{secure}"],
             "addresses": ["127.0.0.0/8"], "classification": "internal"},
        ]
        self.secure = secure
        grants = [f"{name}/{method}" for name in ("api", "plain", "git", "pip", "npm")
                  for method in ("GET", "HEAD", "POST", "OPTIONS")]
        self.sidecar.listeners.append({"mode": "forward", "address": self.proxy, "tls": "intercept"})
        self.sidecar.start([*grants, "far/CONNECT", "live/WEBSOCKET"])
        self.opened = json.loads(self.sidecar.run("task", "open", "--intent", "check", "--control", "control.sock", "--json"))

    def certify(self) -> None:
        leaf = "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
        (self.work / "leaf.ext").write_text(leaf)
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        for words in (
            [*new, "-x509", "-days", "2", "-subj", "/CN=check", "-keyout", "ca.key", "-out", "ca.pem"],
            [*new, "-subj", "/CN=localhost", "-keyout", "leaf.key", "-out", "leaf.csr"],
            ["openssl", "x509", "-req", "-days", "2", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
             "-CAcreateserial", "-extfile", "leaf.ext", "-out", "leaf.pem"],
        ):
            subprocess.run(words, cwd=self.work, check=True, capture_output=True)

    def environment(self) -> dict:
        """What an operator sets by hand for a client."""
        proxy = f"http://task:{self.opened['token']}@{self.proxy}"
        trust = str(self.work / "outrider-ca.pem")
        names = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT",
                 "NPM_CONFIG_CAFILE", "NODE_EXTRA_CA_CERTS"]
        environment = {name: trust for name in names} | {"NODE_USE_ENV_PROXY": "1", "GIT_HTTP_PROXY_AUTHMETHOD": "basic"}
        for name in ("http_proxy", "https_proxy"):
            environment |= {name: proxy, name.upper(): proxy}
        clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return clean | environment | self.apart()

    def apart(self) -> dict:
        """Clients keep what they learn in a home of their own."""
        (self.work / "gitconfig").write_text("[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n")
        return {"HOME": str(self.work), "GIT_CONFIG_GLOBAL": str(self.work / "gitconfig"), "GIT_TERMINAL_PROMPT": "0",
                "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1",
                "NPM_CONFIG_USERCONFIG": os.devnull, "NPM_CONFIG_UPDATE_NOTIFIER": "false"}

    def run(self, words, way="forward", **more) -> str:
        """Runs a client; what it says."""
        environment = self.environment()
        if way == "exec":
            clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
            environment = clean | self.apart()
            config = str(self.work / "outrider.yaml")
            words = [OUTRIDER, "exec", "-q", "--intent", "check", "-c", config, "--", *words]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=SECONDS, **more)
        assert done.returncode == 0, f"{words[0]} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}"
        return done.stdout

    def lines(self, name: str) -> list:
        return [json.loads(line) for line in (self.work / name).read_text().splitlines()]

    def since(self) -> tuple:
        return len(self.lines("reached.jsonl")), len(self.lines("decisions.jsonl"))

    def proved(self, mark: tuple, tools: set, refused: int = 0) -> list:
        """All that reached the server since was decided, and nothing else; what was decided was of these tools."""
        reached = self.lines("reached.jsonl")[mark[0]:]
        decisions = [line for line in self.lines("decisions.jsonl")[mark[1]:] if line["type"] == "decision"]
        allowed = [line for line in decisions if line["outcome"] == "allow"]
        same(sorted(line["decision_id"] for line in allowed), sorted(str(note["decision"]) for note in reached))
        same({line["tool"] for line in allowed}, tools)
        same(len(decisions) - len(allowed), refused)
        return reached

    def memory(self) -> int:
        """Bytes of the sidecar that are in memory now."""
        pages = pathlib.Path(f"/proc/{self.sidecar.process.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def stop(self) -> None:
        self.sidecar.stop()
        self.server.stop()
        self.live.stop()


def there(words) -> None:
    if not (os.path.isfile(words[0]) or shutil.which(words[0])):
        raise Skipped(f"no {words[0]}")


def asks(client: str, way: str, scheme: str):
    """A client gets, posts, and is refused."""

    def test(bench: Bench) -> None:
        make = CLIENTS[client]
        there(make("GET", "x", ""))
        service = "api" if scheme == "https" else "plain"
        mark = bench.since()
        same(said(bench.run(make("GET", f"{scheme}://api.test/hello?of=1", ""), way)), (200, "hello"))
        same(said(bench.run(make("POST", f"{scheme}://api.test/echo", "a body"), way)), (200, "a body"))
        status, body = said(bench.run(make("DELETE", f"{scheme}://api.test/hello", ""), way))
        same((status, json.loads(body)["code"]), (403, "policy_denied"))
        reached = bench.proved(mark, {f"{service}/GET", f"{service}/POST"}, refused=1)
        same([note["path"] for note in reached], ["/hello?of=1", "/echo"])
        same({note["tls"] for note in reached}, {scheme == "https"})

    return test


def by_base_url(bench: Bench) -> None:
    """The same service by a base URL, without a proxy."""
    mark = bench.since()
    token = f"Outrider-Task-Token: {bench.opened['token']}"
    url = f"http://{bench.sidecar.address}/api/hello"
    same(bench.run(["curl", "-sS", "--noproxy", "*", "-H", token, url]), "hello")
    bench.proved(mark, {"api/GET"})


def git_clone(way: str):
    def test(bench: Bench) -> None:
        there(["git"])
        origin = bench.work / "git" / "shelf.git"
        if not origin.exists():
            environment = os.environ | bench.apart()
            commit = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "one"]
            inside = bench.work / "inside"
            inside.mkdir()
            (inside / "book").write_text("a book\n")
            for words in (["git", "init", "-q"], ["git", "add", "book"], commit):
                subprocess.run(words, cwd=inside, env=environment, check=True)
            subprocess.run(["git", "clone", "-q", "--bare", str(inside), str(origin)], env=environment, check=True)
        mark, copy = bench.since(), bench.work / f"copy-{way}"
        bench.run(["git", "clone", "-q", "https://git.test/git/shelf.git", str(copy)], way)
        same((copy / "book").read_text(), "a book\n")
        bench.proved(mark, {"git/GET", "git/POST"})

    return test


def pip_install(way: str):
    def test(bench: Bench) -> None:
        mark, place = bench.since(), bench.work / f"pip-{way}"
        words = [PYTHON, "-m", "pip", "install", "-q", "--no-cache-dir", "--index-url", "https://pip.test/pip"]
        bench.run([*words, "--target", str(place), "shelf"], way)
        assert "from the shelf" in (place / "shelf.py").read_text()
        bench.proved(mark, {"pip/GET"})

    return test


def npm_install(way: str):
    def test(bench: Bench) -> None:
        there(["npm"])
        place = bench.work / f"npm-{way}"
        place.mkdir()
        mark = bench.since()
        words = ["npm", "install", "--no-audit", "--no-fund", "--cache", str(place / "cache"), "--prefix", str(place)]
        bench.run([*words, "--registry", "https://npm.test/npm", "@shop/shelf"], way)
        assert (place / "node_modules/@shop/shelf/package.json").exists()
        reached = bench.proved(mark, {"npm/GET"})
        assert any("%2f" in note["path"].lower() for note in reached), reached

    return test


def websocket(url: str, way: str):
    def test(bench: Bench) -> None:
        before = bench.since()[1]
        same(bench.run([PYTHON, "-c", TALK, url], way), "ONE TWO ")
        decisions = [line for line in bench.lines("decisions.jsonl")[before:] if line["type"] == "decision"]
        same([(line["tool"], line["outcome"]) for line in decisions], [("live/WEBSOCKET", "allow")])

    return test


def events(http2: bool):
    def test(bench: Bench) -> None:
        """Each event is read before the server is told to send the next."""
        script = f"""
import httpx
with httpx.Client(http2={http2}, timeout=20) as client, httpx.Client(timeout=20) as other:
    with client.stream("GET", "https://api.test/events") as answer:
        seen = []
        for line in answer.iter_lines():
            if line:
                seen.append(line)
                other.post("https://api.test/next", content=b"go")
print(seen)
"""
        mark = bench.since()
        same(bench.run([PYTHON, "-c", script]).strip(), "['data: 0', 'data: 1', 'data: 2']")
        bench.proved(mark, {"api/GET", "api/POST"})

    return test


def flat(act):
    """Runs what moves much, and fails if the sidecar keeps it."""

    def test(bench: Bench) -> None:
        before = bench.memory()
        act(bench)
        grown = bench.memory() - before
        print(f"    {act.__name__}: {before >> 20} MiB before, {grown / MEBIBYTE:+.1f} MiB after", flush=True)
        assert grown < 64 * MEBIBYTE, f"{grown >> 20} MiB more"

    return test


def upload(bench: Bench) -> None:
    """13 MB as a form."""
    mark = bench.since()
    (bench.work / "much").write_bytes(os.urandom(13_000_000))
    got = bench.run(["curl", "-sS", "-m", "60", "-F", f"file=@{bench.work}/much", "https://api.test/upload"])
    assert int(got) > 13_000_000, got
    reached = bench.proved(mark, {"api/POST"})
    same(reached[0]["bytes"], int(got))


def download_through_interception(bench: Bench) -> None:
    mark = bench.since()
    words = ["curl", "-sS", "-m", "80", "-o", "/dev/null", "-w", "%{size_download}", "https://api.test/big"]
    same(bench.run(words), str(1 << 30))
    bench.proved(mark, {"api/GET"})


def download_through_connect(bench: Bench) -> None:
    before = len(bench.lines("decisions.jsonl"))
    words = ["curl", "-sS", "-m", "80", "-o", "/dev/null", "-w", "%{size_download}", "--cacert", str(bench.work / "ca.pem")]
    same(bench.run([*words, f"https://127.0.0.1:{bench.secure}/big"]), str(1 << 30))

    def over():
        lines = bench.lines("decisions.jsonl")[before:]
        tunnels = {line["decision_id"] for line in lines if line.get("tool") == "far/CONNECT"}
        return [line for line in lines if line["type"] == "outcome" and line["decision_id"] in tunnels]
    end = time.monotonic() + 10
    while not over() and time.monotonic() < end:
        time.sleep(0.05)
    assert over()[0]["response"]["bytes"] > 1 << 30, over()


def head_options_range_and_expect(bench: Bench) -> None:
    mark = bench.since()
    head = bench.run(["curl", "-sS", "-I", "https://api.test/big"])
    assert "200" in head and f"content-length: {1 << 30}" in head.lower(), head
    part = bench.run(["curl", "-sS", "-r", "10-19", "-D", "-", "https://api.test/big"])
    assert "206" in part and f"content-range: bytes 10-19/{1 << 30}" in part.lower() and part.endswith("\0" * 10), part
    same(bench.run(["curl", "-sS", "-X", "OPTIONS", "https://api.test/hello"]), "hello")
    asked = ["curl", "-sS", "-m", "10", "-H", "Expect: 100-continue", "-d", "a body", "https://api.test/echo"]
    # Over HTTP/1.1 the body is asked for, over HTTP/2 the client sends it after a second.
    for version in (["--http1.1", "--expect100-timeout", "20"], ["--http2"]):
        same(bench.run([*asked, *version]), "a body")
    bench.proved(mark, {"api/HEAD", "api/GET", "api/OPTIONS", "api/POST"})


def the_record(bench: Bench) -> None:
    bench.sidecar.run("log", "verify", "decisions.jsonl")


def tests() -> dict:
    found = {"by_base_url": by_base_url}
    for client in CLIENTS:
        for way in ("forward", "exec"):
            found[f"{client}/https/{way}"] = asks(client, way, "https")
            if client not in ONLY_TLS:
                found[f"{client}/http/{way}"] = asks(client, way, "http")
    for way in ("forward", "exec"):
        found |= {f"git/{way}": git_clone(way), f"pip/{way}": pip_install(way), f"npm/{way}": npm_install(way)}
        found |= {f"websocket/wss/{way}": websocket("wss://live.test/a", way)}
        found |= {f"websocket/ws/{way}": websocket("ws://live.test/a", way)}
    found |= {"events/1.1": events(False), "events/2": events(True)}
    found |= {act.__name__: flat(act) for act in (upload, download_through_interception, download_through_connect)}
    found |= {act.__name__: act for act in (head_options_range_and_expect, the_record)}
    return found


def main() -> bool:
    (HOME / "node/ask.mjs").write_text(UNDICI)
    wanted = sys.argv[3:]
    good = True
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(pathlib.Path(work))
        try:
            for name, test in tests().items():
                if wanted and not any(name.startswith(word) for word in wanted):
                    continue
                begin = time.monotonic()
                try:
                    test(bench)
                    print(f"ok {name} ({time.monotonic() - begin:.1f} s)", flush=True)
                except Skipped as why:
                    print(f"skipped {name}: {why}", flush=True)
                except Exception as why:  # whatever it is, the test failed
                    good = False
                    print(f"FAILED {name}: {type(why).__name__} {why}", flush=True)
        finally:
            bench.stop()
        if not good:
            print(bench.sidecar.process.err.read_text()[-3000:])
    return good


sys.exit(not main())
