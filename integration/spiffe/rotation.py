"""Outrider under a real SPIRE, before an upstream that asks for client certificates."""

import atexit
import base64
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "durability"))
from rig import AGENT, Agent, Broken, Sidecar, read_head, require, until  # noqa: E402

DOMAIN = "example.org"
HOST = f"spiffe://{DOMAIN}/host"
SERVICE = f"spiffe://{DOMAIN}/service/upstream"
SVID_TTL = 20  # seconds
ROTATIONS = 4


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Spire:
    """A server and an agent, which end with this process."""

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="spire-"))
        self.port = free_port()
        self.server_socket, self.socket = self.home / "server.sock", self.home / "agent.sock"
        self.processes = {}
        atexit.register(self.end)
        (self.home / "server.conf").write_text(f"""
server {{
  bind_address = "127.0.0.1"
  bind_port = "{self.port}"
  socket_path = "{self.server_socket}"
  trust_domain = "{DOMAIN}"
  data_dir = "{self.home}/server"
  log_level = "WARN"
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{self.home}/server.sqlite3" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "memory" {{ plugin_data {{}} }}
}}
""")
        self.start("server", "spire-server", "run", "-config", self.home / "server.conf")
        self.command("spire-server", "healthcheck", "-socketPath", self.server_socket, again=True)
        bundle = self.command("spire-server", "bundle", "show", "-socketPath", self.server_socket)
        (self.home / "bundle.pem").write_text(bundle)
        token = self.command("spire-server", "token", "generate", "-socketPath", self.server_socket, "-spiffeID", HOST)
        (self.home / "agent.conf").write_text(f"""
agent {{
  data_dir = "{self.home}/agent"
  log_level = "WARN"
  server_address = "127.0.0.1"
  server_port = "{self.port}"
  socket_path = "{self.socket}"
  trust_domain = "{DOMAIN}"
  trust_bundle_path = "{self.home}/bundle.pem"
  join_token = "{token.split("Token:")[1].split()[0]}"
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "disk" {{ plugin_data {{ directory = "{self.home}/agent" }} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
""")
        (self.home / "agent").mkdir()
        self.start_agent()

    def start_agent(self):
        self.start("agent", "spire-agent", "run", "-config", self.home / "agent.conf")
        self.command("spire-agent", "healthcheck", "-socketPath", self.socket, again=True)

    def start(self, name, *command):
        log = open(self.home / f"{name}.log", "a")
        self.processes[name] = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log,
                                                start_new_session=True)

    def command(self, *command, again=False):
        """What a command prints; `again` until it succeeds."""
        end = time.monotonic() + 60
        while True:
            run = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            if run.returncode == 0:
                return run.stdout
            logs = "".join(log.read_text()[-1500:] for log in self.home.glob("*.log"))
            require(again and time.monotonic() < end, f"{command[:3]}: {run.stdout}{run.stderr}{logs}")
            time.sleep(0.2)

    def register(self, identity, ttl):
        """Entitles processes of this user to an identity; gives the entry."""
        said = self.command("spire-server", "entry", "create", "-socketPath", self.server_socket, "-parentID", HOST,
                            "-spiffeID", identity, "-selector", f"unix:uid:{os.getuid()}", "-x509SVIDTTL", ttl)
        return said.split("Entry ID")[1].split(":")[1].split()[0]

    def forget(self, entry):
        self.command("spire-server", "entry", "delete", "-socketPath", self.server_socket, "-entryID", entry)

    def fetch(self, identity):
        """The files of that identity's SVID, key and bundle, as SPIRE's own client writes them."""
        directory = self.home / "fetched"
        directory.mkdir(exist_ok=True)

        def written():
            run = subprocess.run(["spire-agent", "api", "fetch", "x509", "-socketPath", str(self.socket),
                                  "-write", str(directory)], capture_output=True)
            for chain in sorted(directory.glob("svid.*.pem")) if run.returncode == 0 else []:
                leaf = x509.load_pem_x509_certificate(chain.read_bytes())
                if identity_of(leaf) == [identity]:
                    number = chain.name.split(".")[1]
                    return chain, directory / f"svid.{number}.key", directory / f"bundle.{number}.pem"
            return None

        until(f"an SVID of {identity}", written, 60)
        return written()

    def stop(self, name):
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end(self):
        for name in list(self.processes):
            self.stop(name)
        shutil.rmtree(self.home, ignore_errors=True)


def identity_of(leaf):
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


class Upstream:
    """Takes nobody without a certificate of the trust domain; keeps each certificate and the assertions that came by it."""

    def __init__(self, chain, key, bundle):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain, key)
        self.context.load_verify_locations(bundle)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.lock, self.requests, self.seen = threading.Lock(), 0, {}
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        try:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.context.wrap_socket(stream, server_side=True) as session, session.makefile("rb") as reader:
                shown = session.getpeercert(binary_form=True)
                while head := read_head(reader):
                    with self.lock:
                        self.requests += 1
                        self.seen[shown] = head[1]["outrider-assertion"]
                    session.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        except (OSError, ssl.SSLError):
            pass


class Load:
    """Connections that call until they are told to stop; a call that is not answered with 200 is a loss."""

    def __init__(self, address, connections):
        self.calls, self.lost, self.going = 0, [], True
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.call, args=(Agent(address),), daemon=True) for _ in range(connections)]
        for thread in self.threads:
            thread.start()

    def call(self, agent):
        while self.going:
            try:
                answer = agent.call()
                lost = [] if answer.status == 200 else [(answer.status, answer.body)]
            except OSError as error:
                lost = [error]
            with self.lock:
                self.calls += 1
                self.lost += lost
            time.sleep(0.002)

    def end(self):
        self.going = False
        for thread in self.threads:
            thread.join()
        require(not self.lost, f"{len(self.lost)} of {self.calls} calls were lost: {self.lost[:3]}")
        return self.calls


def judge(shown, assertion, bundle, jwks):
    """An assertion by programs that are not Outrider's: openssl for the chain, Python's cryptography for the signature."""
    signed, _, signature = assertion.rpartition(".")
    header, claims = (json.loads(unpadded(part)) for part in signed.split("."))
    require(header["typ"] == "outrider-assertion+jwt" and header["alg"] == "ES256", f"header {header}")
    require(claims["iss"] == AGENT, f"claims {claims}")
    chain = [base64.b64decode(certificate, validate=True) for certificate in header["x5c"]]
    leaf = x509.load_der_x509_certificate(chain[0])
    require(identity_of(leaf) == [AGENT], "x5c begins with another certificate than the agent's")
    signature = unpadded(signature)
    require(len(signature) == 64, "an ES256 signature has 64 bytes")
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    leaf.public_key().verify(utils.encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))
    point = leaf.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (point.x, point.y))
    thumbprint = hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest()
    require(unpadded(header["kid"]) == thumbprint, "`kid` is not the thumbprint")
    published = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
    require(len(published) == 1 and published[0]["x"] == x and "d" not in published[0], "the key is not in the key set")
    with tempfile.TemporaryDirectory() as directory:
        for name, certificates in (("leaf.pem", chain[:1]), ("between.pem", chain[1:])):
            pem = "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in certificates)
            Path(directory, name).write_text(pem)
        between = ["-untrusted", f"{directory}/between.pem"] if chain[1:] else []
        # At the time of the assertion: an SVID of seconds has expired since.
        run = subprocess.run(["openssl", "verify", "-attime", str(claims["iat"]), "-x509_strict", "-purpose", "sslclient",
                              "-CAfile", str(bundle), *between, f"{directory}/leaf.pem"], capture_output=True, text=True)
    require(run.returncode == 0, f"openssl verify: {run.stdout}{run.stderr}")
    require(shown == chain[0], "the connection showed another certificate than the assertion")


def identity(sidecar):
    body = sidecar.get("/readyz").split(b"\r\n\r\n", 1)[1]
    return json.loads(body)["identity"]


def lost(sidecar):
    return not identity(sidecar)["ready"]


def main(binary):
    spire = Spire()
    spire.register(SERVICE, 3600)
    chain, key, bundle = spire.fetch(SERVICE)
    upstream = Upstream(chain, key, bundle)
    sidecar = Sidecar(binary, type("At", (), {"url": f"https://localhost:{upstream.port}"}))
    sidecar.config["identity"] = {"source": "spiffe", "socket": f"unix://{spire.socket}"}
    service = sidecar.config["services"][0]
    service |= {"identity": "full", "tls": {"identity": "svid", "server_id": SERVICE}}
    sidecar.start()
    agent = Agent(sidecar.address)

    # SPIRE knows this user, but not as the agent.
    until("the other SVID to be seen", lambda: "other IDs" in identity(sidecar)["detail"])
    answer = agent.call()
    require(answer.status == 401 and b"identity_invalid" in answer.body, f"{answer.status} {answer.body}")
    require(upstream.requests == 0, "a call reached the upstream without an identity")
    print("an agent that SPIRE does not know: refused, and nothing reached the upstream")

    entry = spire.register(AGENT, SVID_TTL)
    took = until("the identity", sidecar.ready, 60)
    print(f"registered: ready after {took:.1f} s, {identity(sidecar)['detail']}")

    load = Load(sidecar.address, 4)
    until(f"{ROTATIONS} rotations", lambda: len(upstream.seen) > ROTATIONS, SVID_TTL * (ROTATIONS + 2))
    jwks = json.loads(sidecar.get("/.well-known/jwks.json").split(b"\r\n\r\n", 1)[1])
    calls = load.end()
    require(upstream.requests == calls, f"{calls} calls, {upstream.requests} requests at the upstream")
    with upstream.lock:
        seen = dict(upstream.seen)
    odd = 0
    for shown, assertion in seen.items():
        certificate = json.loads(unpadded(assertion.split(".")[0]))["x5c"][0]
        odd += base64.b64decode(certificate) != shown
        judge(base64.b64decode(certificate), assertion, bundle, jwks)
    # A call that was signed just before a rotation may be sent just after it.
    require(odd <= 1, f"{odd} of {len(seen)} connections showed another SVID than their assertions")
    print(f"{len(seen) - 1} rotations under load: {calls} calls, none lost; {len(seen)} SVIDs and assertions verified by "
          "openssl and cryptography")

    load = Load(sidecar.address, 4)
    begun = time.monotonic()
    spire.stop("agent")
    spire.start_agent()
    took, before = time.monotonic() - begun, len(upstream.seen)
    until("a rotation by the new agent", lambda: len(upstream.seen) > before + 1, SVID_TTL * 3)
    print(f"the SPIRE agent was away for {took:.1f} s: {load.end()} calls, none lost")

    spire.forget(entry)
    took = until("the identity to be taken back", lambda: lost(sidecar), 60)
    before = upstream.requests
    answer = agent.call()
    require(answer.status == 401 and b"identity_invalid" in answer.body, f"{answer.status} {answer.body}")
    require(upstream.requests == before, "a call reached the upstream after the identity was taken back")
    print(f"registration deleted: refused after {took:.1f} s (SPIRE's own interval is 5 s), {identity(sidecar)['detail']}")

    spire.register(AGENT, SVID_TTL)
    until("the identity", sidecar.ready, 60)
    require(agent.call().status == 200, "a call after the registration came back")
    print("registered again: served again")
    against_spire(spire)
    sidecar.stop()
    print(sidecar.verify())


def against_spire(spire):
    """JWT-SVIDs, by the unit test that asks a real Workload API."""
    if not shutil.which("cargo"):
        return print("skipped: no cargo to run the test of JWT-SVIDs with")
    test = "identify::spiffe::tests::a_real_workload_api_gives_jwt_svids"
    run = subprocess.run(["cargo", "test", "--quiet", "--locked", "-p", "outrider", "--lib", "--", "--exact", test, "--nocapture"],
                         cwd=HERE.parent.parent, capture_output=True, text=True,
                         env=os.environ | {"OUTRIDER_TEST_WORKLOAD_API": f"unix://{spire.socket}", "OUTRIDER_TEST_SPIFFE_ID": AGENT})
    require(run.returncode == 0 and "1 passed" in run.stdout and "fetched" in run.stdout, run.stdout + run.stderr)
    print("JWT-SVID: fetched, and verified by SPIRE's JWT bundle")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Broken as broken:
        sys.exit(f"FAILED: {broken}")
