"""Calls the example services through a real sidecar, with somebody in between who may change what passes.

    check.py OUTRIDER NODE_HOME
"""

import http.client
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rig import AGENT, Checks, Program, Sidecar, free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "upstreams"


class Between:
    """Passes requests on as `change` says: a list of (method, target, body), each with the same head."""

    def __init__(self, port):
        between = self
        self.change = lambda method, target, body: [(method, target, body)]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                head = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
                for method, target, changed in between.change(self.command, self.path, body):
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                    connection.request(method, target, changed, head)
                    answer = connection.getresponse()
                    said, status = answer.read(), answer.status
                    connection.close()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PUT = do_DELETE = pass_on

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"


def scenario(checks, binary, name, program, environment, algorithm):
    print(f"{name}, {algorithm}")
    admin, port = free_port(), free_port()
    between = Between(port)
    # The service binds the port of its origin; here that belongs to whoever stands between.
    jwks = f"http://127.0.0.1:{admin}/.well-known/jwks.json"
    section = {"name": "own", "upstream": f"{between.origin}/base"}
    sidecar = Sidecar(binary, [section], admin=admin, more={"assertion": {"algorithm": algorithm}})
    service = Program([*program, between.origin, jwks, str(port)], port, sidecar.home,
                      cwd=sidecar.home, env={**os.environ, **environment})
    try:
        token = sidecar.task("--subject", "alice@example.org")["token"]

        def call(method="POST", path="/own/notes?x=1"):
            return sidecar.call(path, token, method)

        status, said = call()
        checks.that("a permitted call is answered", status == 200 and said["hello"] == AGENT, (status, said))
        checks.that("it tells for whom", status == 200 and said["for"] == "alice@example.org", said)
        status, said = call("GET")
        checks.that("and one without a body", status == 200, (status, said))
        for what, change in {
            "a body that was changed": lambda method, target, body: [(method, target, body.replace(b"1", b"2"))],
            "another method": lambda method, target, body: [("PUT", target, body)],
            "another path": lambda method, target, body: [(method, target.replace("notes", "users"), body)],
            "another query": lambda method, target, body: [(method, target.replace("x=1", "x=2"), body)],
            "a second use": lambda method, target, body: [(method, target, body)] * 2,
        }.items():
            between.change = change
            status, said = call()
            checks.that(f"{what} is refused", status == 401, (status, said))
        between.change = lambda method, target, body: [(method, target, body)]
        status, said = call()
        checks.that("afterwards all is well again", status == 200, (status, said))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/base/notes", b"{}")
        status = connection.getresponse().status
        checks.that("whoever comes without the sidecar is refused", status == 401, status)
    finally:
        service.stop()
        sidecar.stop()
        between.server.shutdown()


def length(file, begin, end):
    """How many lines of code a function has, without those that say what it is for."""
    text = file.read_text()
    function = text[re.search(begin, text).start():]
    function = function[:re.search(end, function).start()]
    lines = [line.strip() for line in function.splitlines()]
    return sum(1 for line in lines if line and not line.startswith(('"""', "//", "/**", "#")))


def main(binary, node_home):
    checks = Checks()
    python = EXAMPLES / "python" / "service.py"
    node = EXAMPLES / "node" / "service.mjs"
    for file, begin, end in [(python, r" def verify", r"\n\n"), (node, r"async function verify", r"\n}\n")]:
        lines = length(file, begin, end)
        checks.that(f"{file.name}: the check is less than twenty lines ({lines})", lines < 20, lines)
    # Modules of Node are found from where the file is.
    linked = Path(node_home) / "service.mjs"
    linked.write_text(node.read_text())
    for algorithm in ("EdDSA", "ES256"):
        scenario(checks, binary, "python", [sys.executable, str(python)], {"PYTHONDONTWRITEBYTECODE": "1"}, algorithm)
        scenario(checks, binary, "node", ["node", str(linked)], {}, algorithm)
    return checks.done()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
