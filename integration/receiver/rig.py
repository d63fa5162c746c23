"""Redis, sidecars, receivers and an upstream with endless streams, as processes and threads that end with the script."""

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from pathlib import Path

AGENT = "spiffe://example.org/agent/receiver-check"
PATIENCE = 30  # seconds; what takes longer hangs


def require(holds, why):
    if not holds:
        raise SystemExit(f"FAILED: {why}")


def until(what, probe):
    end = time.monotonic() + PATIENCE
    while not (answer := probe()):
        require(time.monotonic() < end, f"waited in vain for {what}")
        time.sleep(0.005)
    return answer


def directory(name):
    home = Path(tempfile.mkdtemp(prefix=f"outrider-{name}-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Upstream:
    """`GET /stream` is an event and then silence, until somebody hangs up; everything else is `{}`."""

    def __init__(self):
        upstream = self
        self.calls = 0

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self):
                while line := self.rfile.readline():
                    while self.rfile.readline().strip():
                        pass
                    upstream.calls += 1
                    if b"/stream" not in line:
                        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
                        continue
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                                     b"9\r\ndata: 1\n\n\r\n")
                    self.rfile.read(1)
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


class Redis:
    def __init__(self, binary):
        self.binary, self.home, self.port = binary, directory("redis"), free_port()
        self.process = None
        self.start()
        atexit.register(self.kill)

    def start(self):
        self.process = subprocess.Popen(
            [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.home, "--save", "", "--appendonly", "yes"],
            stdout=open(self.home / "log", "a"), stderr=subprocess.STDOUT)

        def up():
            try:
                with socket.create_connection(("127.0.0.1", self.port)) as connection:
                    connection.sendall(b"PING\r\n")
                    return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False
        until("redis", up)

    def signal(self, which):
        self.process.send_signal(which)

    def kill(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def section(self):
        return {"store": f"redis://127.0.0.1:{self.port}"}


class Process:
    """`outrider COMMAND` with a configuration, in a directory of its own; what it says first is where it listens."""

    def __init__(self, binary, command, config, files=()):
        self.binary, self.command, self.home = binary, command, directory(command)
        (self.home / "config.yaml").write_text(json.dumps(config))
        for name, value in dict(files).items():
            (self.home / name).write_text(value if isinstance(value, str) else json.dumps(value))
        self.start()
        atexit.register(self.kill)

    def start(self):
        self.errors = open(self.home / "stderr.txt", "a")
        self.process = subprocess.Popen([self.binary, self.command, "--json", "-c", "config.yaml"], cwd=self.home,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)
        first = self.process.stdout.readline()
        require(first, f"{self.command} does not come up: {(self.home / 'stderr.txt').read_text()}")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.said = json.loads(first)
        until(f"{self.command} to be ready", lambda: self.get("/readyz")[0] == 200)

    def get(self, path):
        connection = http.client.HTTPConnection(self.said["admin"], timeout=PATIENCE)
        connection.request("GET", path)
        answer = connection.getresponse()
        status, body = answer.status, answer.read().decode()
        connection.close()
        return status, body

    def restart(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(timeout=PATIENCE)
        if how == signal.SIGTERM:
            require(self.process.returncode == 0, f"{self.command} ends with {self.process.returncode}")
        self.start()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def log(self):
        lines = (self.home / "security.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


class Sidecar(Process):
    def __init__(self, binary, upstream, redis):
        super().__init__(binary, "run", {
            "agent": {"id": AGENT}, "environment": "test",
            "listeners": [{"mode": "reverse", "address": "127.0.0.1:0"}],
            "admin": {"address": "127.0.0.1:0"}, "control": {"socket": "control.sock"},
            "services": [{"name": "feed", "protocol": "http", "upstream": upstream.url, "classification": "internal"}],
            "policy": {"data": ["data.yaml"], "timeout": "1s"}, "state": redis.section(),
            "decision_log": {"path": "decisions.jsonl"}, "security_log": {"path": "security.jsonl"},
        }, {"data.yaml": {
            "agents": [{"id": AGENT, "owner": "owner@example.org", "purpose": "Is a check", "roles": [],
                        "expires": "2100-01-01T00:00:00Z", "state": "active"}],
            "intents": [{"id": "work", "owner": "owner@example.org", "tools": ["*/*"], "max_classification": "internal"}],
            "grants": [{"agent": AGENT, "tools": ["*/*"]}],
        }})

    def address(self):
        return self.said["listening"][0]["address"]

    def run(self, *words):
        return subprocess.run([self.binary, *words, "--control", "control.sock"], cwd=self.home, capture_output=True, text=True)

    def task(self, subject):
        opened = self.run("task", "open", "--intent", "work", "--subject", subject)
        require(opened.returncode == 0, opened.stderr)
        return opened.stdout.strip()

    def call(self, token):
        """Makes a call; its status and the code of a refusal."""
        connection = http.client.HTTPConnection(self.address(), timeout=PATIENCE)
        connection.request("GET", "/feed/x", headers={"Outrider-Task-Token": token})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, body.get("code")


class Open:
    """A stream that was begun; a thread notes when it ends."""

    def __init__(self, sidecar, token):
        self.ended = None
        host, port = sidecar.address().split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket.sendall(f"GET /feed/stream HTTP/1.1\r\nHost: {host}:{port}\r\nOutrider-Task-Token: {token}\r\n\r\n".encode())
        begun = b""
        while b"data: 1" not in begun:
            piece = self.socket.recv(4096)
            require(piece, f"the stream does not begin: {begun}")
            begun += piece
        self.thread = threading.Thread(target=self.wait, daemon=True)
        self.thread.start()

    def wait(self):
        try:
            while self.socket.recv(4096):
                pass
        except OSError:
            pass
        self.ended = time.monotonic()

    def end(self):
        """When it ended."""
        self.thread.join(PATIENCE)
        require(self.ended, "a stream goes on")
        self.socket.close()
        return self.ended


def receiver(binary, redis, authority, push, poll, stream):
    """A receiver to which one transmitter delivers, and which fetches from another, keys and tokens."""
    audience = "https://receiver.example.org"
    return Process(binary, "receiver", {
        "transmitters": [
            {"issuer": push.issuer, "jwks": "file:push.json", "audience": audience, "push": {"bearer": "${file:push.key}"}},
            {"issuer": poll.issuer, "jwks": f"{stream.url}/keys", "ca": "ca.pem", "audience": audience,
             "poll": {"url": f"{stream.url}/poll", "ca": "ca.pem", "bearer": "${file:poll.key}"}}],
        "listen": {"address": "127.0.0.1:0", "tls": {"certificate": "server.pem", "key": "server.key"}},
        "admin": {"address": "127.0.0.1:0"},
        "state": redis.section(), "security_log": {"path": "security.jsonl"},
    }, {"push.json": push.keys(), "push.key": push.bearer, "poll.key": poll.bearer,
        "ca.pem": authority.ca, "server.pem": authority.certificate, "server.key": authority.key})
