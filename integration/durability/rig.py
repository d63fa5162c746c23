"""Outrider as a process between agents that never stop calling and an upstream that keeps every decision it saw."""

import atexit
import json
import os
import select
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from pathlib import Path

AGENT = "spiffe://example.org/agent/durability"
PATIENCE = 20  # seconds; what takes longer hangs


class Broken(Exception):
    """A property of the decision log does not hold."""


def require(holds, why):
    if not holds:
        raise Broken(why)


class Upstream:
    """Answers everything with 200 and `{}`; keeps the decision IDs that came with the requests."""

    def __init__(self):
        upstream = self
        self.seen = set()

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self):
                try:
                    while head := read_head(self.rfile):
                        upstream.seen.add(head[1].get("outrider-decision-id"))
                        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


def read_head(stream):
    """The first line and the fields of a message; None at the end."""
    first = stream.readline()
    if not first.endswith(b"\r\n"):
        return None
    fields = {}
    while (line := stream.readline()) != b"\r\n":
        if not line.endswith(b"\r\n"):
            return None
        name, _, value = line.decode().partition(":")
        fields[name.lower()] = value.strip()
    return first.decode(), fields


class Answer:
    def __init__(self, begun, status, decision, body):
        self.begun, self.status, self.decision, self.body = begun, status, decision, body

    @property
    def passed(self):
        return self.status == 200

    @property
    def unrecorded(self):
        return b"record_unavailable" in self.body


class Agent:
    """One kept-alive connection."""

    def __init__(self, address):
        self.address, self.stream, self.socket = address, None, None

    def call(self, path="/svc/x"):
        """One call; raises OSError when the connection breaks before the whole answer is there."""
        if self.stream is None:
            host, port = self.address.rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.stream = self.socket.makefile("rb")
        begun = time.monotonic()
        try:
            self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.address}\r\n\r\n".encode())
            head = read_head(self.stream)
            if head is None:
                raise ConnectionResetError("the answer did not arrive")
            body = self.stream.read(int(head[1].get("content-length", 0)))
            if head[1].get("connection") == "close":
                self.close()
            return Answer(begun, int(head[0].split()[1]), head[1].get("outrider-decision-id"), body)
        except OSError:
            self.close()
            raise

    def close(self):
        if self.stream is not None:
            self.stream.close()
            self.socket.close()
        self.stream = self.socket = None


class Load:
    """Connections that call until they are told to stop or nobody answers any more; every tenth call is refused."""

    def __init__(self, address, connections):
        self.answers, self.going = [], True
        self.threads = [threading.Thread(target=self._call, args=(Agent(address),), daemon=True) for _ in range(connections)]
        for thread in self.threads:
            thread.start()

    def _call(self, agent):
        count = 0
        while self.going:
            count += 1
            try:
                self.answers.append(agent.call("/nobody" if count % 10 == 0 else "/svc/x"))
            except OSError:
                return

    def during(self, seconds):
        """The answers to calls that were begun within the next so many seconds."""
        begun = time.monotonic()
        time.sleep(seconds)
        return [answer for answer in list(self.answers) if answer.begun >= begun]

    def end(self):
        self.going = False
        for thread in self.threads:
            thread.join()
        return self.answers


class Sidecar:
    """The files of a sidecar, and its process while it runs."""

    def __init__(self, binary, upstream, log="decisions.jsonl", **decision_log):
        self.binary = str(Path(binary).resolve())
        self.home = Path(tempfile.mkdtemp(prefix="outrider-durability-"))
        self.log = self.home / log
        self.config = {
            "agent": {"id": AGENT},
            "environment": "test",
            "listeners": [{"mode": "reverse", "address": "127.0.0.1:0"}],
            "admin": {"address": "127.0.0.1:0"},
            "services": [{"name": "svc", "protocol": "http", "upstream": upstream.url, "classification": "internal",
                          "identity": "decision_id"}],
            "tasks": {"required": False, "local": True},
            "policy": {"data": ["data.yaml"], "timeout": "1s"},
            # Each refusal has a line of its own: shared ones are lost with the process, as documented.
            "decision_log": {"path": str(self.log), "refusals": "1000000/s", **decision_log},
            "security_log": {"path": "security.jsonl"},
        }
        (self.home / "data.yaml").write_text(json.dumps({
            "agents": [{"id": AGENT, "owner": "owner@example.org", "purpose": "Checks the log", "roles": [],
                        "expires": "2100-01-01T00:00:00Z", "state": "active"}],
            "grants": [{"agent": AGENT, "tools": ["svc/*"]}],
        }))
        self.process = None
        atexit.register(self.remove)

    def start(self, *wrapper):
        """Starts it, under another program if one is given, and waits until a call is answered; says how long that took."""
        (self.home / "outrider.yaml").write_text(json.dumps(self.config))
        self.errors = open(self.home / "stderr.txt", "a")
        begun = time.monotonic()
        self.process = subprocess.Popen([*wrapper, self.binary, "run", "--json", "-c", "outrider.yaml"], cwd=self.home,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, start_new_session=True)
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        first = self.process.stdout.readline() if ready else ""
        if not first:
            self.kill()
            raise Broken("the sidecar did not start: " + (self.home / "stderr.txt").read_text()[-2000:])
        said = json.loads(first)
        self.address, self.admin = said["listening"][0]["address"], said["admin"]
        socket.create_connection(self.address.rsplit(":", 1), timeout=PATIENCE).close()
        return time.monotonic() - begun

    def pid(self):
        """The process of the sidecar itself, below a program that it was started under."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if os.path.realpath(f"/proc/{child}/exe") == self.binary:
                return int(child)
        return self.process.pid

    def kill(self):
        """SIGKILL, and what it was started under with it."""
        try:
            os.kill(self.pid(), 9)
            self.process.kill()
        except (OSError, ProcessLookupError):
            pass
        self._ended()

    def stop(self):
        """SIGTERM, and a clean end."""
        os.kill(self.pid(), 15)
        self._ended()
        require(self.process.returncode == 0, f"a clean stop ends with {self.process.returncode}")

    def _ended(self):
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.errors.close()

    def ready(self):
        """Whether the probe says so."""
        try:
            return b" 200 " in self.get("/readyz").split(b"\r\n", 1)[0]
        except OSError:
            return False

    def get(self, path):
        host, port = self.admin.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.admin}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            return answer

    def verify(self, *files):
        """`outrider log verify` over the whole chain, keys included."""
        files = files or (self.log,)
        run = subprocess.run([self.binary, "log", "verify", *map(str, files), "--key", f"{self.log}.jwks"],
                             capture_output=True, text=True)
        require(run.returncode == 0, f"log verify: {run.stdout}{run.stderr}")
        return run.stdout.strip()

    def decided(self, offset=0):
        """The IDs of the decisions in the log from that offset on."""
        with open(self.log, "rb") as log:
            log.seek(offset)
            return decisions(log.read())

    def remove(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def decisions(text):
    """The IDs of the whole decision lines in that text."""
    whole = text[: text.rfind(b"\n") + 1]
    start = b'{"type":"decision","decision_id":"'
    lines = (line for line in whole.split(b"\n") if line.startswith(start))
    return {line[len(start):len(start) + 36].decode() for line in lines}


def until(what, found, patience=PATIENCE):
    """Waits until `found` gives something; says after how many seconds."""
    begun = time.monotonic()
    while not found():
        require(time.monotonic() - begun < patience, f"{what}: not within {patience} s")
        time.sleep(0.005)
    return time.monotonic() - begun


def spread(values, unit):
    values = sorted(values)
    return f"p50 {values[len(values) // 2]:.0f} {unit}, most {values[-1]:.0f} {unit}"
