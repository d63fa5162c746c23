"""The image as it runs. Arguments: an empty folder, the image's configuration as JSON, the image's root."""
import contextlib
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from contained import Container, bound, fresh

room, root = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[3])
image = json.loads(pathlib.Path(sys.argv[2]).read_text())
AGENT = "spiffe://example.org/agent/a"
RULE = 'package outrider.authz\ndeny contains {"reason": "not_this_one", "message": "not this one"} if endswith(input.call.path, "/secret")\n'


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    reached = []

    def do_GET(self):
        self.reached.append(self.path)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def free_ports(count):
    with contextlib.ExitStack() as all_of_them:
        taken = [all_of_them.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def awaited(what, ready, patience=30):
    end, why = time.monotonic() + patience, None
    while time.monotonic() < end:
        try:
            if found := ready():
                return found
        except OSError as error:
            why = error
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}: {why}")


def settings(listener, transparent, admin, upstream):
    folder = room / "settings"
    (folder / "policy").mkdir(parents=True)
    (folder / "outrider.yaml").write_text(json.dumps({
        "agent": {"id": AGENT}, "isolation": "container", "environment": "production",
        "listeners": [
            {"mode": "reverse", "address": f"127.0.0.1:{listener}"},
            {"mode": "transparent", "address": f"127.0.0.1:{transparent}"},
        ],
        "admin": {"address": f"127.0.0.1:{admin}"}, "control": {"socket": "/run/outrider/control.sock"},
        "services": [{"name": "crm", "protocol": "http", "upstream": f"http://127.0.0.1:{upstream}", "classification": "internal"}],
        "policy": {"path": "policy", "data": ["grants.yaml"]}, "tasks": {"required": False},
        "decision_log": {"path": "/var/lib/outrider/decisions.jsonl"},
    }))
    (folder / "policy/rules.rego").write_text(RULE)
    (folder / "grants.yaml").write_text(json.dumps({
        "agents": [{"id": AGENT, "owner": "a", "purpose": "b", "state": "active"}],
        "grants": [{"agent": AGENT, "tools": ["crm/GET"]}],
    }))
    return folder


def call(port, path, method="GET"):
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code


TRIES = """
import os, sys
root, can = sys.argv[1], []
for folder, _, files in os.walk(root):
    where = folder[len(root):] or "/"
    if where.startswith("/proc"):
        continue
    try:
        os.close(os.open(os.path.join(folder, ".probe"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.unlink(os.path.join(folder, ".probe"))
        can.append(where)
    except OSError:
        pass
    can += [f"{where}/{name}" for name in files if where.startswith(("/etc", "/usr", "/home")) and os.access(os.path.join(folder, name), os.W_OK)]
print("\\n".join(can))
"""


def writable(pid):
    """Where the sidecar's user can make a file, found by trying."""
    user = ["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    tried = subprocess.run([*user, "/usr/bin/python3", "-c", TRIES, f"/proc/{pid}/root"], capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
    return set(tried.stdout.split())


def confined(pid):
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65532"} and not status["Groups"].strip(), status
    assert not any(int(status[one], 16) for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), status
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), status


def sidecar(folder, record, ports):
    listener, _, admin = ports
    mounts = [bound(folder, "/etc/outrider", "ro", "noexec"), bound(record, "/var/lib/outrider", "rw", "noexec"), fresh("/run/outrider", 65532)]
    running = Container(room, root, image, "sidecar", image["Cmd"], mounts)
    process = running.start()
    try:
        def ready():
            assert process.poll() is None, running.said()
            return urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5).status == 200
        awaited("the sidecar", ready)
        confined(running.pid())
        assert writable(running.pid()) == {"/var/lib/outrider", "/run/outrider"}, writable(running.pid())
        assert running.exec("/bin/sh", "-c", "true").returncode != 0, "there is a shell"
        health = running.exec(*image["Healthcheck"]["Test"][1:])
        assert health.returncode == 0, health
        calls = [call(listener, "/crm/a"), call(listener, "/crm/a", "DELETE"), call(listener, "/crm/secret")]
        assert calls == [200, 403, 403] and Upstream.reached == ["/a"], (calls, Upstream.reached)
        print("sidecar: crun, read-only root, user 65532, no capability, no new privileges, the engines' seccomp profile; healthy,")
        print("    one call permitted, one refused for want of a grant, one by a rule; writes below /var/lib/outrider and /run/outrider alone")
        begin = time.monotonic()
        running.kill("TERM")
        assert process.wait(40) == 0, running.said()
        print(f"    SIGTERM: drained and ended with 0 in {time.monotonic() - begin:.1f} s")
    finally:
        running.remove()


def recorded(record):
    path = record / "decisions.jsonl"
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (65532, 0o600)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["code"] for line in lines if line["type"] == "decision"] == ["ok", "policy_denied", "policy_denied"], lines
    assert lines[-1]["type"] == "checkpoint", lines[-1]
    return len(lines)


@contextlib.contextmanager
def network():
    """A network namespace of its own, as a pod has one."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    own = os.readlink("/proc/self/ns/net")
    try:
        awaited("a network namespace", lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own)
        yield f"/proc/{holder.pid}/ns/net"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()


def once(name, arguments, mounts, **how):
    """Runs the image to its end: its status, and what it said."""
    one = Container(room, root, image, name, arguments, mounts, **how)
    try:
        done = one.finish()
        return done.returncode, done.stdout + done.stderr
    finally:
        one.remove()


def init_container(folder, port):
    """The rules of the kernel, put in force as an init container does it: root, with one capability."""
    mounts = [bound(folder, "/etc/outrider", "ro", "noexec")]
    arguments = ["net", "apply", "-c", "/etc/outrider/outrider.yaml", "--except-uid", "65532"]
    with network() as path:
        able = {"user": 0, "capabilities": ["NET_ADMIN"], "network": path}
        status, said = once("rules", arguments, mounts, **able)
        assert status == 0, said
        status, rules = once("show", ["net", "show"], mounts, **able)
        assert status == 0 and f"redirect to :{port}" in rules and "meta skuid != 65532" in rules, rules
        for name, who in (("agent", {"user": 65532}), ("bare", {"user": 0})):
            status, said = once(name, ["net", "remove"], mounts, network=path, **who)
            assert status != 0 and "not permitted" in said.lower(), (name, said)
        assert once("still", ["net", "show"], mounts, **able) == (0, rules)
    print("init container: `net apply` with NET_ADMIN and nothing else puts the rules in force; without it they cannot be taken away")


upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
ports = free_ports(3)
where = settings(*ports, upstream.server_port)
kept = room / "record"
kept.mkdir()
os.chown(kept, 65532, 65532)
sidecar(where, kept, ports)
init_container(where, ports[1])
print(f"record: {recorded(kept)} lines, mode 0600, the last one signed")
