"""An identity provider: signs security event tokens, delivers them (RFC 8935), and has them fetched (RFC 8936)."""

import datetime
import http.client
import ipaddress
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
AUDIENCE = "https://receiver.example.org"


class Authority:
    """A certificate authority, and a certificate from it for this machine: in PEM, and as files for `ssl`."""

    def __init__(self, home):
        name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        now = datetime.datetime.now(datetime.timezone.utc)

        def certificate(subject, key, issuer_key, extension):
            builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("authority"))
            builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
            builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
            signed = builder.add_extension(extension, critical=True).sign(issuer_key, hashes.SHA256())
            return signed.public_bytes(serialization.Encoding.PEM).decode()

        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.ca = certificate("authority", ca_key, ca_key, x509.BasicConstraints(ca=True, path_length=None))
        host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        self.certificate = certificate("server", key, ca_key, host)
        self.key = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                     serialization.NoEncryption()).decode()
        (home / "chain.pem").write_text(self.certificate)
        (home / "key.pem").write_text(self.key)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(home / "chain.pem", home / "key.pem")
        self.client = ssl.create_default_context(cadata=self.ca)


class Transmitter:
    """A name, a key as the interoperability profile asks for, and a count of tokens."""

    def __init__(self, issuer, bearer, trust=None):
        self.issuer, self.bearer, self.trust = issuer, bearer, trust
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.made = 0

    def keys(self):
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**jwk, "kid": "1", "alg": "RS256", "use": "sig"}]}

    def claims(self, subject, event="session-revoked", **what):
        self.made += 1
        return {"iss": self.issuer, "aud": AUDIENCE, "jti": f"{self.made}", "iat": int(time.time()),
                "sub_id": {"format": "iss_sub", "iss": self.issuer, "sub": subject},
                "events": {CAEP + event: {"event_timestamp": int(time.time()), **what}}}

    def sign(self, claims, typ="secevent+jwt", key=None, algorithm="RS256"):
        return jwt.encode(claims, key or self.key, algorithm=algorithm, headers={"typ": typ, "kid": "1"})

    def deliver(self, address, token, **headers):
        """POSTs a token; its status, its `err`, and when the answer was there."""
        host, port = address.rsplit(":", 1)
        connection = http.client.HTTPSConnection(host, int(port), timeout=40, context=self.trust)
        connection.request("POST", "/events", token, {"Content-Type": "application/secevent+jwt", "Accept": "application/json",
                                                      "Authorization": f"Bearer {self.bearer}", **headers})
        answer = connection.getresponse()
        at, body = time.monotonic(), answer.read()
        connection.close()
        return answer.status, json.loads(body)["err"] if body else None, at


class Stream:
    """A poll endpoint: what is told is handed out until it is acknowledged or refused; and the transmitter's keys."""

    def __init__(self, bearer, keys, authority):
        stream = self
        self.change = threading.Condition()
        self.sets, self.handed, self.acknowledged, self.refused = {}, {}, {}, {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.headers["Authorization"] != f"Bearer {bearer}":
                    return self.send_error(401)
                self.tell(stream.answer(request))

            def do_GET(self):
                self.tell(keys)

            def tell(self, value):
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def finish_request(self, request, client):
                super().finish_request(authority.server.wrap_socket(request, server_side=True), client)

            def handle_error(self, *_):
                pass  # a receiver that was stopped while it waited

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self.server.server_port}"

    def answer(self, request):
        with self.change:
            for jti in request.get("ack", []):
                self.sets.pop(jti, None)
                self.acknowledged.setdefault(jti, time.monotonic())
            for jti, error in request.get("setErrs", {}).items():
                self.sets.pop(jti, None)
                self.refused[jti] = error["err"]
            self.change.notify_all()
            if not request.get("returnImmediately"):
                self.change.wait_for(lambda: self.sets, timeout=20)
            sets = dict(list(self.sets.items())[:request.get("maxEvents", 100)])
            for jti in sets:
                self.handed.setdefault(jti, time.monotonic())
            return {"sets": sets, "moreAvailable": len(sets) < len(self.sets)}

    def tell(self, jti, token):
        with self.change:
            self.sets[jti] = token
            self.change.notify_all()

    def wait(self, done, patience=30):
        """Waits until `done()` says so, which is asked at each change."""
        with self.change:
            return self.change.wait_for(done, timeout=patience)
