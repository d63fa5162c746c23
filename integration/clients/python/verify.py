"""Checks, with PyJWT, the assertions that reached a tool server.

verify.py FILE JWKS_URL ORIGIN: FILE as server.py wrote it, the keys the sidecar publishes, and the
origin of the service as its configuration names it. Prints PASS or FAIL; exits 1 on a failure.
"""

import base64
import hashlib
import json
import sys
import urllib.request

import jwt


def digest(body: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


def verify(note: dict, keys: jwt.PyJWKSet, origin: str) -> str:
    headers = note["headers"]
    token = headers["outrider-assertion"]
    head = jwt.get_unverified_header(token)
    assert head["typ"] == "outrider-assertion+jwt", head
    required = ["iss", "aud", "iat", "exp", "jti"]
    # The assertion was good when it arrived, which may be longer ago than it lives.
    options = {"require": required, "verify_exp": False}
    claims = jwt.decode(token, keys[head["kid"]], algorithms=["EdDSA"], audience=origin, options=options)
    assert claims["iat"] - 1 <= note["at"] < claims["exp"], (note["at"], claims)
    assert claims["exp"] - claims["iat"] <= 60, claims
    assert claims["iss"] == headers["outrider-agent"], claims
    assert claims["txn"] == headers["outrider-decision-id"], claims
    assert claims["htm"] == note["method"], claims
    assert claims["htu"] == origin + note["path"], claims
    assert claims["bsh"] == digest(base64.b64decode(note["body"])), claims
    return claims["jti"]


def main(file: str, jwks_url: str, origin: str) -> None:
    with urllib.request.urlopen(jwks_url, timeout=5) as answer:
        keys = jwt.PyJWKSet.from_dict(json.load(answer))
    with open(file, encoding="utf-8") as lines:
        notes = [json.loads(line) for line in lines]
    seen = [verify(note, keys, origin) for note in notes]
    assert seen, "no assertion reached the tool server"
    assert len(set(seen)) == len(seen), "an assertion's jti came twice"
    print(f"PASS {len(seen)} assertions verified")


try:
    main(*sys.argv[1:4])
except Exception as why:  # noqa: BLE001: whatever it is, the check failed
    sys.exit(f"FAIL assertions: {type(why).__name__} {why}")
