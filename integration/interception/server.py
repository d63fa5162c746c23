"""The servers that clients ask for: one over plain HTTP, one in TLS.

server.py CERTIFICATE KEY WORK: prints the two ports. Says in WORK/reached.jsonl what reached it. Has what clients
want: an echo, events that come one by one, a large file, a repository of git, an index for pip and one for npm.
"""

import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import queue
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile

CERTIFICATE, KEY, WORK = sys.argv[1:4]
PIECE = b"\0" * (1 << 20)
BIG = 1 << 30
events: queue.Queue = queue.Queue()
noting = threading.Lock()


def wheel() -> bytes:
    files = {
        "shelf.py": b"SAYS = 'from the shelf'\n",
        "shelf-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n",
        "shelf-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + "shelf-1.0.dist-info/RECORD,,\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in (files | {"shelf-1.0.dist-info/RECORD": record.encode()}).items():
            archive.writestr(name, text)
    return made.getvalue()


def package() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in {"package.json": b'{"name":"@shop/shelf","version":"1.0.0"}', "index.js": b""}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    return made.getvalue()


WHEEL, PACKAGE = wheel(), package()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self) -> int:
        """Reads the body; how many bytes it had, the first of which are kept."""
        self.begins = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            count = 0
            while size := int(self.rfile.readline(), 16):
                count += self.take(size)
                self.rfile.readline()
            self.rfile.readline()
            return count
        return self.take(int(self.headers.get("Content-Length") or 0))

    def take(self, left: int) -> int:
        count = left
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            self.begins = self.begins or piece
            left -= len(piece)
        return count

    def say(self, body: bytes, kind="text/plain", status=200, **more) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | more).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer(self) -> None:
        expected = self.headers.get("Expect")
        length = self.body()
        note = {"method": self.command, "path": self.path, "host": self.headers["Host"], "bytes": length,
                "decision": self.headers.get("Outrider-Decision-Id"), "expect": expected,
                "agent": self.headers.get("User-Agent"), "tls": isinstance(self.connection, ssl.SSLSocket)}
        with noting, open(f"{WORK}/reached.jsonl", "a", encoding="utf-8") as reached:
            print(json.dumps(note), file=reached)
        path, _, query = self.path.partition("?")
        if path.startswith("/git/"):
            self.git(path, query)
        elif path == "/hello":
            self.say(b"hello")
        elif path == "/echo":
            self.say(self.begins)
        elif path == "/upload":
            self.say(str(length).encode())
        elif path == "/next":
            events.put(None)
            self.say(b"")
        elif path == "/events":
            self.events()
        elif path == "/big":
            self.big()
        elif path == "/pip/shelf/":
            self.say(b'<a href="/pip/files/shelf-1.0-py3-none-any.whl">shelf-1.0-py3-none-any.whl</a>', "text/html")
        elif path == "/pip/files/shelf-1.0-py3-none-any.whl":
            self.say(WHEEL, "application/zip")
        elif path.lower() == "/npm/@shop%2fshelf":
            self.npm()
        elif path == "/npm/@shop/shelf/-/shelf-1.0.0.tgz":
            self.say(PACKAGE, "application/octet-stream")
        else:
            self.say(b"nothing is here", status=404)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(3):
            event = f"data: {number}\n\n"
            self.wfile.write(f"{len(event):x}\r\n{event}\r\n".encode())
            self.wfile.flush()
            events.get(timeout=20)
        self.wfile.write(b"0\r\n\r\n")

    def big(self) -> None:
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = b"\0" * (int(last) - int(first) + 1)
            self.say(part, "application/octet-stream", 206, Content_Range=f"bytes {first}-{last}/{BIG}")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(BIG))
        self.end_headers()
        if self.command != "HEAD":
            for _ in range(BIG // len(PIECE)):
                self.wfile.write(PIECE)

    def npm(self) -> None:
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(PACKAGE).digest()).decode()
        tarball = f"https://{self.headers['X-Asked-For'] or 'npm.test'}/npm/@shop/shelf/-/shelf-1.0.0.tgz"
        version = {"name": "@shop/shelf", "version": "1.0.0", "dist": {"tarball": tarball, "integrity": integrity}}
        index = {"name": "@shop/shelf", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        self.say(json.dumps(index).encode(), "application/json")

    def git(self, path: str, query: str) -> None:
        environment = os.environ | {
            "GIT_PROJECT_ROOT": WORK, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_GLOBAL": f"{WORK}/gitconfig",
        }
        body = gzip.decompress(self.begins) if self.headers.get("Content-Encoding") == "gzip" else self.begins
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(fields.pop("Status", "200").split()[0])
        self.say(rest, fields.pop("Content-Type", "text/plain"), status)


def serve(context=None) -> int:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
pathlib.Path(WORK, "reached.jsonl").touch()
print(serve(), serve(context), flush=True)
threading.Event().wait()
