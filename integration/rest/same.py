"""httpbin, through Outrider and directly: the same status, the same echo.   same.py OUTRIDER"""

import json
import subprocess
import sys
import threading
from pathlib import Path

import httpbin
import httpx
import waitress

from sidecar import Sidecar

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# name, method, target, what httpx sends besides
CALLS = [
    ("query", "GET", "/get?word=a+b%20%C3%A9%2F&number=-7&list=x&list=y", {}),
    ("empty values", "GET", "/get?word=&list=", {}),
    ("declared header", "GET", "/get", {"headers": {"X-Word": "a, b; c"}}),
    ("undeclared header", "GET", "/headers", {"headers": {"X-Other": "kept", "Accept-Language": "de"}}),
    ("cookie", "GET", "/cookies", {"headers": {"Cookie": "sid=a1"}}),
    ("cookie set", "GET", "/cookies/set/sid/b2", {}),
    ("json", "POST", "/post", {"json": {"name": "é", "more": [1, 2.5, None, {"deep": True}]}}),
    ("json, spelled oddly", "POST", "/post",
     {"content": b' {"name":"\\u00e9" , "n":1.0e2}\r\n', "headers": {"Content-Type": "application/json"}}),
    ("form", "POST", "/post", {"content": "text=a+b%26&tags=1&tags=2", "headers": FORM}),
    ("put", "PUT", "/put", {"json": "text"}),
    ("put nothing", "PUT", "/put", {}),
    ("patch", "PATCH", "/patch", {"json": [1]}),
    ("delete", "DELETE", "/delete", {}),
    ("path", "GET", "/anything/a%20b,%3B~c", {}),
    ("path beyond ASCII", "GET", "/anything/%E2%82%AC", {}),
    ("unread body", "POST", "/anything/x",
     {"content": bytes(range(256)), "headers": {"Content-Type": "application/octet-stream"}}),
    ("chunked body", "POST", "/post",
     {"content": iter([b'{"name":', b' "x"}']), "headers": {"Content-Type": "application/json"}}),
    ("201", "GET", "/status/201", {}),
    ("204", "DELETE", "/status/204", {}),
    ("304", "GET", "/status/304", {}),
    ("404", "GET", "/status/404", {}),
    ("418", "GET", "/status/418", {}),
    ("503", "GET", "/status/503", {}),
    ("redirect", "GET", "/redirect-to?url=%2Fget&status_code=307", {}),
    ("redirect away", "GET", "/redirect-to?url=http%3A%2F%2Felsewhere.test%2F", {}),
    ("gzip", "GET", "/gzip", {}),
    ("deflate", "GET", "/deflate", {}),
    ("stream", "GET", "/stream/20", {}),
    ("bytes", "GET", "/bytes/70000?seed=7", {}),
    ("range", "GET", "/range/100", {"headers": {"Range": "bytes=10-19"}}),
    ("etag", "GET", "/etag/x", {"headers": {"If-None-Match": "x"}}),
    ("base64", "GET", "/base64/SGk=", {}),
]
# what must not arrive: name, method, target, headers, body, status
REFUSED = [
    ("a name twice", "GET", "/get?number=1&number=2", {}, None, 422),
    ("an undeclared name", "GET", "/get?other=1", {}, None, 422),
    ("no integer", "GET", "/get?number=1e3", {}, None, 422),
    ("an undeclared path", "GET", "/ip", {}, None, 403),
    ("an undeclared method", "POST", "/get", {}, None, 403),
    ("a missing body", "POST", "/post", {}, None, 422),
    ("a wrong body", "POST", "/post", {"Content-Type": "application/json"}, b'{"name": 1}', 422),
    ("a wrong media type", "POST", "/post", {"Content-Type": "text/plain"}, b"x", 415),
    ("a status out of range", "GET", "/status/600", {}, None, 422),
]
HEADERS = ["content-type", "location", "set-cookie", "etag", "content-range", "content-encoding"]
# what the way of a request changes: where it goes, and what is between
WAY = {"Host", "Connection", "Traceparent", "Tracestate", "Outrider-Task-Token", "Accept-Encoding"}


def serve():
    """httpbin on a port of its own; remembers the paths that it is asked for."""
    asked = []

    def app(environ, start):
        asked.append(environ["PATH_INFO"])
        return httpbin.app(environ, start)

    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=4)
    threading.Thread(target=server.run, daemon=True).start()
    return f"http://127.0.0.1:{server.effective_port}", asked


def fields(headers):
    return {k: v for k, v in headers.items() if k not in WAY and not k.startswith("Outrider-")}


def shown(answer):
    """Status, headers and body of an answer, without what tells the way."""
    try:
        body = [json.loads(line) for line in ([answer.text] if answer.text[:2] == "{\n" else answer.text.splitlines())]
    except ValueError:
        body = [answer.content]
    for part in body:
        if isinstance(part, dict):
            part.pop("origin", None)
            if "url" in part:
                part["url"] = part["url"].split("/", 3)[3]
            if isinstance(part.get("headers"), dict):
                # a body that came in chunks is sent on with its length
                part["headers"] = {k: v for k, v in fields(part["headers"]).items()
                                   if k not in ("Content-Length", "Transfer-Encoding")}
    return answer.status_code, {k: answer.headers.get(k) for k in HEADERS}, body


def call(client, base, method, target, more, token=None):
    more = dict(more)
    content = more.get("content")
    if hasattr(content, "__next__"):
        more["content"], content = iter(content), None
    headers = dict(more.pop("headers", {}))
    if token:
        headers["Outrider-Task-Token"] = token
    return client.request(method, base + target, headers=headers, **more)


def curl(base, token):
    """The same with curl, which sends targets as they are."""
    target = "/get?word=a+b&list=%41&list=b"
    run = subprocess.run(["curl", "-s", "--path-as-is", "-H", f"Outrider-Task-Token: {token}", base + target],
                         capture_output=True, text=True, timeout=20)
    return '"word": "a b"' in run.stdout and '"A",' in run.stdout


def main(binary):
    direct, asked = serve()
    here = Path(__file__).parent
    sidecar = Sidecar(binary, {"bin": (direct, (here / "httpbin.yaml").read_text(), {"passthrough": ["cookie"]})})
    through = sidecar.url + "/bin"
    failed = 0
    try:
        with httpx.Client(timeout=20) as client:
            for name, method, target, more in CALLS:
                again = dict(more)
                if hasattr(more.get("content"), "__next__"):
                    pieces = list(more["content"])
                    more, again = {**more, "content": iter(pieces)}, {**more, "content": iter(pieces)}
                client.cookies.clear()
                want = shown(call(client, direct, method, target, more))
                client.cookies.clear()
                got = shown(call(client, through, method, target, again, sidecar.token))
                same = want == got
                failed += not same
                print(f"{'PASS' if same else 'FAIL'} httpbin {method:6} {name}: {got[0]}")
                if not same:
                    print(f"  directly: {want}\n  through:  {got}")
            for name, method, target, headers, body, status in REFUSED:
                before = len(asked)
                more = {"headers": headers, **({"content": body} if body else {})}
                answer = call(client, through, method, target, more, sidecar.token)
                good = answer.status_code == status and len(asked) == before
                failed += not good
                print(f"{'PASS' if good else 'FAIL'} httpbin {method:6} refused, {name}: {answer.status_code}")
                if not good:
                    print(" ", answer.text, asked[before:])
        good = curl(through, sidecar.token)
        failed += not good
        print(f"{'PASS' if good else 'FAIL'} httpbin GET    curl")
    finally:
        sidecar.stop()
    print(f"httpbin: {len(CALLS) + len(REFUSED) + 1} calls, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1]) else 0)
