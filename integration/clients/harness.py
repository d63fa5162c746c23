"""What the runs share: packages, processes, and a sidecar with a configuration for them."""

import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
HOME = HERE.parent.parent / "target" / "clients"
ENVIRONMENTS = ["mcp1", "mcp2", "fastmcp", "langchain", "agents"]
AGENT = "spiffe://example.org/agent/client-check"


def python(environment: str) -> str:
    return str(HOME / environment / "bin" / "python")


def node(script: str) -> list[str]:
    return ["node", str(HOME / "typescript" / script)]


def _pip(environment: str, lock: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", HOME / environment], check=True)
    pip = [python(environment), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "-r", HERE / "python" / lock], check=True)


def _npm(environment: str, _: str) -> None:
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=HOME / environment, check=True)
    subprocess.run([HOME / environment / "node_modules/.bin/node", "--version"], check=True, capture_output=True)


def _install(environment: str, source: str, how) -> None:
    digest = hashlib.sha256((HERE / source).read_bytes()).hexdigest()
    stamp = HOME / environment / "installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    begin = time.monotonic()
    shutil.rmtree(HOME / environment, ignore_errors=True)
    # Whoever copies scripts meanwhile may have made it again.
    (HOME / environment).mkdir(parents=True, exist_ok=True)
    copy_scripts()
    how(environment, pathlib.Path(source).name)
    stamp.write_text(digest)
    print(f"installed {environment}, {time.monotonic() - begin:.0f} s", flush=True)


def copy_scripts() -> None:
    """Node looks for packages beside the script."""
    for script in (HERE / "typescript").iterdir():
        (HOME / "typescript").mkdir(parents=True, exist_ok=True)
        shutil.copy(script, HOME / "typescript")


def install() -> None:
    """Brings what the lock files name under target/clients; what is there already stays."""
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(_install, "typescript", "typescript/package-lock.json", _npm)]
        jobs += [pool.submit(_install, name, f"python/{name}.txt", _pip) for name in ENVIRONMENTS]
        for job in jobs:
            job.result()
    copy_scripts()
    os.environ["PATH"] = f"{HOME}/typescript/node_modules/.bin:{os.environ['PATH']}"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Process:
    """A process in the background, with its output in a file; the first line says where it listens."""

    def __init__(self, work: pathlib.Path, name: str, command: list[str]):
        self.out = work / f"{name}.out"
        self.err = work / f"{name}.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(command, cwd=work, stdout=out, stderr=err)

    def first_line(self) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            first, newline, _ = self.out.read_text().partition("\n")
            if newline:
                return first
            time.sleep(0.05)
        raise RuntimeError(f"{self.process.args[0]} did not start:\n{self.err.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Sidecar:
    """Outrider before some servers, each of which is a service of that name."""

    def __init__(self, outrider: str, work: pathlib.Path):
        self.outrider, self.work = outrider, work
        self.services: list[dict] = []
        self.listeners: list[dict] = []  # beside the first
        self.process: Process | None = None
        self.address = self.admin = ""

    def run(self, *arguments: str, **more) -> str:
        command = [self.outrider, *arguments]
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, timeout=60, **more)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[1:])}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def add(self, name: str, upstream: str, **more) -> None:
        """Locks what the server has; raises RuntimeError when it cannot."""
        self.lock(name, ["--from", upstream])
        self.serve(name, upstream, **more)

    def lock(self, name: str, server: list[str]) -> None:
        (self.work / f"{name}.json").write_text(self.run("schemas", "lock", *server))

    def serve(self, name: str, upstream: str, **more) -> None:
        service = {"name": name, "protocol": "mcp", "upstream": upstream, "schemas": f"{name}.json"}
        self.services.append(service | {"classification": "internal"} | more)

    def start(self, grants: list[str], rule: str = "", listener: dict | None = None, options: tuple = ()) -> None:
        (self.work / "policy").mkdir()
        if rule:
            (self.work / "policy" / "rule.rego").write_text(rule)
        # JSON is YAML
        (self.work / "data.yaml").write_text(json.dumps(_data(grants)))
        (self.work / "outrider.yaml").write_text(json.dumps(self._configuration(listener or {})))
        self.run("check", "-c", "outrider.yaml")
        self.process = Process(self.work, "outrider", [self.outrider, "run", "--json", "-c", "outrider.yaml", *options])
        listening = json.loads(self.process.first_line())
        self.address, self.admin = listening["listening"][0]["address"], listening["admin"]

    def _configuration(self, listener: dict) -> dict:
        return {
            "agent": {"id": AGENT},
            "environment": "test",
            "listeners": [{"mode": "reverse", "address": "127.0.0.1:0"} | listener, *self.listeners],
            "admin": {"address": "127.0.0.1:0"},
            "control": {"socket": "control.sock"},
            "services": self.services,
            "tasks": {"required": True, "local": True},
            "policy": {"path": "policy", "data": ["data.yaml"], "timeout": "1s"},
            "decision_log": {"path": "decisions.jsonl"},
            "security_log": {"path": "security.jsonl"},
        }

    def stop(self) -> None:
        if self.process:
            self.process.stop()


def _data(grants: list[str]) -> dict:
    owner = "owner@example.org"
    agent = {"id": AGENT, "owner": owner, "purpose": "Checks clients", "roles": [], "state": "active"}
    return {
        "agents": [agent | {"expires": "2100-01-01T00:00:00Z"}],
        "intents": [{"id": "check", "owner": owner, "tools": ["*/*"], "max_classification": "internal"}],
        "grants": [{"agent": AGENT, "tools": grants}],
    }
