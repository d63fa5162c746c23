"""Outrider as a process before HTTP services, and what stands around it."""

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

AGENT = "spiffe://example.org/agent/check"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, probe, patience=30):
    """Asks until there is an answer."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if answer := probe():
            return answer
        time.sleep(0.02)
    raise SystemExit(f"waited in vain for {what}")


def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Program:
    """A program that listens on a port, ended with everything it wrote kept."""

    def __init__(self, words, port, home, **more):
        self.log = open(Path(home) / f"{Path(words[0]).name}-{port}.log", "w")
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **more)
        self.port = port

        def up():
            if self.process.poll() is not None:
                raise SystemExit(f"{words} ended: {Path(self.log.name).read_text()}")
            return listening(port)
        until(f"{words}", up)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Sidecar:
    """Runs the binary with sections of services; `files` are written beside its configuration."""

    def __init__(self, binary, services, files=None, admin=None, more=None):
        self.binary = Path(binary).resolve()
        self.home = Path(tempfile.mkdtemp(prefix="outrider-check-"))
        (self.home / "policy").mkdir()
        for name, text in (files or {}).items():
            (self.home / name).write_text(text)
        self._write("outrider.yaml", {
            "agent": {"id": AGENT},
            "environment": "test",
            "listeners": [{"mode": "reverse", "address": "127.0.0.1:0"}],
            "admin": {"address": f"127.0.0.1:{admin or 0}"},
            "control": {"socket": "control.sock"},
            "services": [{"protocol": "http", "classification": "internal", **service} for service in services],
            "policy": {"path": "policy", "data": ["data.yaml"], "timeout": "1s"},
            "decision_log": {"path": "decisions.jsonl"},
            "security_log": {"path": "security.jsonl"},
            **(more or {}),
        })
        self._write("data.yaml", {
            "agents": [{"id": AGENT, "owner": "owner@example.org", "purpose": "Checks",
                        "expires": "2100-01-01T00:00:00Z"}],
            "intents": [{"id": "check", "owner": "owner@example.org", "tools": ["*/*"],
                         "max_classification": "internal"}],
            "grants": [{"agent": AGENT, "tools": ["*/*"]}],
        })
        self.errors = open(self.home / "stderr.txt", "w")
        self.process = subprocess.Popen([self.binary, "run", "--json", "-c", "outrider.yaml"], cwd=self.home,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)
        first = self.process.stdout.readline()
        if not first:
            raise SystemExit((self.home / "stderr.txt").read_text())
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.address = json.loads(first)["listening"][0]["address"]

    def _write(self, name, value):
        (self.home / name).write_text(json.dumps(value))

    def command(self, *words):
        return subprocess.run([self.binary, *words, "--control", "control.sock"], cwd=self.home,
                              capture_output=True, text=True, timeout=30)

    def task(self, *words):
        opened = self.command("task", "open", "--intent", "check", "--json", *words)
        if opened.returncode:
            raise SystemExit(opened.stderr)
        return json.loads(opened.stdout)

    def call(self, path, token, method="POST", body=b'{"a": 1}'):
        """Status and JSON of one call; JSON is None for an empty answer."""
        host, port = self.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request(method, path, body, {"Outrider-Task-Token": token, "Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    def credential(self):
        """What `outrider doctor` says of the first credential."""
        said = json.loads(self.command("doctor", "--json").stdout)
        return next(found for found in said["findings"] if found["topic"] == "credential")

    def outcomes(self):
        lines = (self.home / "decisions.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["type"] == "outcome"]

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.errors.close()
        shutil.rmtree(self.home, ignore_errors=True)


class Checks:
    """Counts what holds and says what does not."""

    def __init__(self):
        self.held, self.failed = 0, 0

    def that(self, what, holds, seen=None):
        if holds:
            self.held += 1
            print(f"  ok    {what}")
        else:
            self.failed += 1
            print(f"  FAIL  {what}: {seen!r}")

    def done(self):
        print(f"{self.held} checks hold, {self.failed} do not")
        return 1 if self.failed or not self.held else 0


def port_of(url):
    return urlsplit(url).port
