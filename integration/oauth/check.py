"""Credentials from authorization servers that nobody here wrote, through a real sidecar to a service that checks them.

    check.py OUTRIDER NODE_HOME EXCHANGE

oidc-provider (npm): client credentials by private_key_jwt. zitadel/oidc (Go): token exchange with an actor.
"""

import base64
import json
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "upstreams"))
from rig import AGENT, Checks, Program, Sidecar, free_port, until  # noqa: E402

HERE = Path(__file__).resolve().parent
PROBE = b'{"note": 1}'


class Service:
    """Answers what its check of the bearer token says; counts what reaches it."""

    def __init__(self):
        service = self
        self.check, self.reached = None, 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                service.reached += 1
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                scheme, _, token = self.headers.get("Authorization", "").partition(" ")
                try:
                    status, said = 200, service.check(token if scheme == "Bearer" else "")
                except Exception as error:
                    status, said = 401, {"refused": repr(error)}
                said = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/notes"


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


def refused(checks, what, sidecar, service, token):
    """A call that was permitted cannot be made, and the service sees nothing of it."""
    before = service.reached
    status, said = sidecar.call("/own/a", token, body=PROBE)
    code = (said or {}).get("code")
    checks.that(f"{what}: dependency_unavailable", (status, code) == (503, "dependency_unavailable"), (status, said))
    checks.that(f"{what}: nothing reached the service", service.reached == before, service.reached)
    outcome = until("an outcome", lambda: [line for line in sidecar.outcomes()
                                           if line["decision_id"] == (said or {}).get("decision_id")])
    checks.that(f"{what}: the outcome says so", outcome[0]["code"] == "dependency_unavailable", outcome)


def client_credentials(checks, binary, node_home):
    print("oidc-provider: client credentials, private_key_jwt, resource indicator, JWT access token")
    linked = Path(node_home) / "provider.mjs"
    linked.write_text((HERE / "provider.mjs").read_text())
    keys = {"EdDSA": ed25519.Ed25519PrivateKey.generate(), "ES256": ec.generate_private_key(ec.SECP256R1()),
            "RS256": rsa.generate_private_key(65537, 2048)}
    files = {f"{alg}.pem": pem(key) for alg, key in keys.items()}
    files["other.pem"] = pem(ec.generate_private_key(ec.SECP256R1()))
    port, service = free_port(), Service()
    issuer = f"http://127.0.0.1:{port}"

    def section(name, alg, key=None, scope="notes"):
        client = {"token_url": f"{issuer}/token", "client_id": f"outrider-{alg}", "key": key or f"{alg}.pem",
                  "assertion_audience": issuer, "resource": service.url, "scope": scope}
        return {"name": name, "upstream": service.url, "credentials": {"client": client}}

    def check(token):
        key = jwks.get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=["ES256"], audience=service.url, issuer=issuer)
        if "notes" not in claims["scope"].split():
            raise ValueError("another scope")
        return {"client": claims["client_id"], "jti": claims["jti"], "scope": claims["scope"]}

    jwks, service.check = jwt.PyJWKClient(f"{issuer}/jwks"), check
    clients = []
    for alg in keys:
        sidecar = Sidecar(binary, [section("own", alg)], files)
        published = sidecar.binary, "keys", "jwks", "--key", f"{alg}.pem"
        jwk = json.loads(subprocess.run(published, cwd=sidecar.home, capture_output=True, text=True, check=True).stdout)
        clients.append({"client_id": f"outrider-{alg}", "alg": alg, "jwks": jwk})
        sidecar.stop()
    listed = Path(node_home) / "clients.json"
    listed.write_text(json.dumps(clients))

    def provider():
        return Program(["node", str(linked), str(port), str(listed), "6"], port, node_home)

    def issued():
        return (Path(node_home) / f"node-{port}.log").read_text().count("issued")

    running = provider()
    for alg in keys:
        sidecar = Sidecar(binary, [section("own", alg)], files)
        token = sidecar.task()["token"]
        status, said = sidecar.call("/own/a", token, body=PROBE)
        checks.that(f"a token by {alg}", status == 200 and said["client"] == f"outrider-{alg}", (status, said))
        sidecar.stop()
    sidecar = Sidecar(binary, [section("own", "EdDSA")], files)
    token = sidecar.task()["token"]
    until("the first token", lambda: "1 held" in sidecar.credential()["detail"])
    before = issued()
    with ThreadPoolExecutor(50) as together:
        answers = list(together.map(lambda _: sidecar.call("/own/a", token, body=PROBE), range(50)))
    used = {said["jti"] for status, said in answers if status == 200}
    checks.that("50 calls at once are all answered", all(status == 200 for status, _ in answers), answers[:3])
    checks.that("and use at most the token and its successor", len(used) <= 2 and issued() - before <= 2, (used, issued()))
    end, seen, lost = time.monotonic() + 12, set(), []
    while time.monotonic() < end:
        status, said = sidecar.call("/own/a", token, body=PROBE)
        seen.add(said.get("jti")) if status == 200 else lost.append((status, said))
        time.sleep(0.05)
    checks.that(f"over twelve seconds tokens of six seconds are replaced ({len(seen)})", 3 <= len(seen) <= 6, seen)
    checks.that("and no call is lost by that", not lost, lost[:3])
    running.stop()
    until("the last token to expire", lambda: "; 0 held" in sidecar.credential()["detail"])
    refused(checks, "a dead token server", sidecar, service, token)
    found = sidecar.credential()
    checks.that("`doctor` says what is wrong", found["state"] == "fail" and "reached" in found["detail"], found)
    running = provider()
    until("the token server to be found again", lambda: sidecar.call("/own/a", token, body=PROBE)[0] == 200)
    checks.that("a token server that is back is found again", True)
    sidecar.stop()
    sidecar = Sidecar(binary, [section("own", "ES256", key="other.pem")], files)
    refused(checks, "another's key", sidecar, service, sidecar.task()["token"])
    checks.that("`doctor` says that the client was refused", "`invalid_client`" in sidecar.credential()["detail"],
                sidecar.credential())
    sidecar.stop()
    sidecar = Sidecar(binary, [section("own", "ES256", scope="notes admin")], files)
    status, said = sidecar.call("/own/a", sidecar.task()["token"], body=PROBE)
    checks.that("a scope that the server narrows is used as it is", status == 200 and said["scope"] == "notes", (status, said))
    sidecar.stop()
    running.stop()


def exchange(checks, binary, program):
    print("zitadel/oidc: token exchange, subject by actor, opaque access token, introspection")
    key, port, service = ed25519.Ed25519PrivateKey.generate(), free_port(), Service()
    issuer = f"http://127.0.0.1:{port}"
    files = {"key.pem": pem(key), "secret": "s3cret of/the:client\n"}

    def section(**more):
        asked = {"token_url": f"{issuer}/oauth/token", "client_id": "outrider", "secret": "${file:secret}", "key": "key.pem",
                 "audience": "api", "resource": service.url, "scope": "openid tools:{tool}", **more}
        return {"name": "own", "upstream": service.url, "credentials": {"exchange": asked}}

    def check(token):
        basic = base64.b64encode(b"api:secret").decode()
        request = urllib.request.Request(f"{issuer}/oauth/introspect", urllib.parse.urlencode({"token": token}).encode(),
                                         {"Authorization": f"Basic {basic}"})
        said = json.load(urllib.request.urlopen(request, timeout=10))
        if not said.get("active"):
            raise ValueError("not active")
        return {"sub": said["sub"], "client": said["client_id"], "scope": said["scope"], "token": token[-16:]}

    service.check = check
    sidecar = Sidecar(binary, [section()], files)
    home = sidecar.home
    jwks = subprocess.run([sidecar.binary, "keys", "jwks", "--key", "key.pem"], cwd=home, capture_output=True, text=True,
                          check=True).stdout
    (home / "keys.json").write_text(jwks)
    user = {"PreferredLanguage": "en", "IsAdmin": False}
    (home / "users.json").write_text(json.dumps({name: {"ID": name, "Username": name, **user} for name in ["alice", "bob"]}))

    def provider():
        return Program([program, str(port), str(home / "users.json"), str(home / "keys.json"), AGENT], port, home)

    def asked():
        return (home / f"{Path(program).name}-{port}.log").read_text().count("path=/oauth/token")

    running = provider()
    task = sidecar.task("--subject", "alice")
    alice = task["token"]
    with ThreadPoolExecutor(50) as together:
        answers = list(together.map(lambda _: sidecar.call("/own/a", alice, body=PROBE), range(50)))
    checks.that("50 calls at once are all answered", all(status == 200 for status, _ in answers), answers[:3])
    checks.that("with one exchange", asked() == 1, asked())
    said = answers[0][1]
    checks.that("the token is the principal's, got by the client", (said.get("sub"), said.get("client")) == ("alice", "outrider"), said)
    posted = said.get("scope")
    checks.that(f"for one tool ({posted})", str(posted).startswith("openid tools:own/"), said)
    status, other = sidecar.call("/own/a", alice, "PUT", PROBE)
    checks.that(f"another tool has another token ({(other or {}).get('scope')})",
                status == 200 and other["scope"] != posted and other["token"] != said["token"], other)
    status, of_bob = sidecar.call("/own/a", sidecar.task("--subject", "bob")["token"], body=PROBE)
    checks.that("another principal has another token", status == 200 and of_bob["sub"] == "bob", of_bob)
    checks.that("three tokens are held", "; 3 held" in sidecar.credential()["detail"], sidecar.credential())
    revoked = sidecar.command("revoke", "task", task["id"])
    checks.that("a revoked task's tokens are dropped", "; 1 held" in sidecar.credential()["detail"], (revoked, sidecar.credential()))
    before = service.reached
    status, said = sidecar.call("/own/a", alice, body=PROBE)
    checks.that("and its calls are refused", said.get("code") == "task_revoked" and service.reached == before, said)
    running.stop()
    refused(checks, "a dead token server", sidecar, service, sidecar.task("--subject", "alice")["token"])
    running = provider()
    for what, wrong in {"without an actor, which is impersonation": section(actor_token="none"),
                        "by an issuer who is not trusted": section(issuer="spiffe://example.org/agent/other"),
                        "for another audience": section(assertion_audience="https://other.example.org")}.items():
        other = Sidecar(binary, [wrong], files)
        refused(checks, what, other, service, other.task("--subject", "alice")["token"])
        other.stop()
    running.stop()
    sidecar.stop()


def main(binary, node_home, program):
    checks = Checks()
    client_credentials(checks, binary, node_home)
    exchange(checks, binary, program)
    return checks.done()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
