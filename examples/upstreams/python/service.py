"""A service that answers only what Outrider permitted: python service.py ORIGIN JWKS_URL [PORT]"""

import base64
import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

import jwt


class Outrider:
    """Verifies that a sidecar vouches for a request."""

    def __init__(self, origin, jwks_url):
        self.origin, self.keys, self.seen = origin, jwt.PyJWKClient(jwks_url), {}

    def verify(self, method, target, assertion, body):
        """The claims of the assertion, if it is about exactly this request and was not used before."""
        key = self.keys.get_signing_key_from_jwt(assertion)
        token = jwt.decode_complete(
            assertion, key, algorithms=["EdDSA", "ES256"], audience=self.origin,
            options={"require": ["exp", "iat", "jti"]})
        claims, now = token["payload"], time.time()
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        if token["header"].get("typ") != "outrider-assertion+jwt":
            raise jwt.InvalidTokenError("another kind of token")
        if (claims.get("htm"), claims.get("htu")) != (method, self.origin + target):
            raise jwt.InvalidTokenError("for another request")
        if claims.get("bsh") != digest:
            raise jwt.InvalidTokenError("for another body")
        self.seen = {jti: exp for jti, exp in self.seen.items() if exp > now}
        if claims["jti"] in self.seen:
            raise jwt.InvalidTokenError("used before")
        self.seen[claims["jti"]] = claims["exp"]
        return claims


class Service(BaseHTTPRequestHandler):
    """Says who called."""

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            assertion = self.headers.get("Outrider-Assertion", "")
            claims = outrider.verify(self.command, self.path, assertion, body)
            status, said = 200, {"hello": claims["iss"], "for": claims.get("sub"), "tool": claims.get("tool")}
        except (jwt.PyJWTError, ValueError) as error:
            status, said = 401, {"refused": str(error)}
        said = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    # One request at a time: `seen` needs no lock.
    outrider = Outrider(*sys.argv[1:3])
    port = int(sys.argv[3]) if len(sys.argv) > 3 else urlsplit(sys.argv[1]).port
    HTTPServer(("127.0.0.1", port), Service).serve_forever()
