"""Outrider as a process before REST services, and a server that records what arrives."""

import json
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

AGENT = "spiffe://example.org/agent/rest-check"


class Sidecar:
    """Runs the binary with those services: name, (upstream, description as text, further keys)."""

    def __init__(self, binary, services):
        self.home = Path(tempfile.mkdtemp(prefix="outrider-rest-"))
        (self.home / "policy").mkdir()
        sections = []
        for name, (upstream, description, more) in services.items():
            suffix = "json" if description.startswith("{") else "yaml"
            (self.home / f"{name}.{suffix}").write_text(description)
            sections.append({"name": name, "protocol": "openapi", "upstream": upstream,
                             "schemas": f"{name}.{suffix}", "classification": "internal", **more})
        self._write("outrider.yaml", {
            "agent": {"id": AGENT},
            "environment": "test",
            "listeners": [{"mode": "reverse", "address": "127.0.0.1:0"}],
            "admin": {"address": "127.0.0.1:0"},
            "control": {"socket": "control.sock"},
            "services": sections,
            "tasks": {"required": True, "local": True},
            "policy": {"path": "policy", "data": ["data.yaml"], "timeout": "1s"},
            "decision_log": {"path": "decisions.jsonl"},
            "security_log": {"path": "security.jsonl"},
        })
        self._write("data.yaml", {
            "agents": [{"id": AGENT, "owner": "owner@example.org", "purpose": "Checks REST",
                        "roles": [], "expires": "2100-01-01T00:00:00Z", "state": "active"}],
            "intents": [{"id": "check", "owner": "owner@example.org", "tools": ["*/*"],
                         "max_classification": "internal"}],
            "grants": [{"agent": AGENT, "tools": ["*/*"]}],
        })
        self.errors = open(self.home / "stderr.txt", "w")
        self.process = subprocess.Popen([Path(binary).resolve(), "run", "--json", "-c", "outrider.yaml"], cwd=self.home,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)
        first = self.process.stdout.readline()
        if not first:
            raise SystemExit((self.home / "stderr.txt").read_text())
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.url = "http://" + json.loads(first)["listening"][0]["address"]
        opened = subprocess.run([Path(binary).resolve(), "task", "open", "--intent", "check", "--control", "control.sock"],
                                cwd=self.home, check=True, capture_output=True, text=True)
        self.token = opened.stdout.strip()

    def _write(self, name, value):
        (self.home / name).write_text(json.dumps(value))

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.errors.close()
        shutil.rmtree(self.home, ignore_errors=True)


class Recorder:
    """Answers everything with 200 and `{}`; keeps request line, headers and body by the field X-Case."""

    def __init__(self):
        recorder = self
        self.arrived = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                recorder.arrived[self.headers.get("X-Case")] = (self.requestline, self.headers.items(), body)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(b"{}")

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = handle_any

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
