"""What is in the image, and the image as it runs. Argument: the folder with image.json and the image's root."""
import http.server
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

room = pathlib.Path(sys.argv[1])
root = room / "image"
config = json.loads((room / "image.json").read_text())["Docker"]["config"]

assert config["User"] == "65532:65532", config
assert config["Entrypoint"] == ["/usr/local/bin/outrider"] and config["Cmd"] == ["run", "-c", "/etc/outrider/outrider.yaml"], config
assert set(config["Volumes"]) == {"/var/lib/outrider", "/run/outrider"}, config
assert config["Healthcheck"]["Test"][:3] == ["CMD", "/usr/local/bin/outrider", "health"], config
files = [one for one in root.rglob("*") if one.is_file() and not one.is_symlink()]
assert not [one for one in files if one.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)], "a setuid file"
programs = sorted(one.relative_to(root).as_posix() for one in files if os.access(one, os.X_OK) and "lib" not in one.parts[len(root.parts)] and ".so" not in one.name and "/lib/" not in one.as_posix())
assert programs == ["usr/local/bin/nft", "usr/local/bin/outrider"], programs
print("in the image: outrider and nft, no shell, nothing setuid; user, entry point, health check and volumes as they should be")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


reached = []


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        reached.append(self.path)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
listener, admin = free_port(), free_port()
settings = room / "settings"
settings.mkdir()
(settings / "outrider.yaml").write_text(json.dumps({
    "agent": {"id": "spiffe://example.org/agent/a"}, "isolation": "container", "environment": "production",
    "listeners": [{"mode": "reverse", "address": f"127.0.0.1:{listener}"}],
    "admin": {"address": f"127.0.0.1:{admin}"}, "control": {"socket": "/run/outrider/control.sock"},
    "services": [{"name": "crm", "protocol": "http", "upstream": f"http://127.0.0.1:{upstream.server_port}", "classification": "internal"}],
    "policy": {"data": ["grants.yaml"]}, "tasks": {"required": False},
    "decision_log": {"path": "/var/lib/outrider/decisions.jsonl"},
}))
(settings / "grants.yaml").write_text(json.dumps({
    "agents": [{"id": "spiffe://example.org/agent/a", "owner": "a", "purpose": "b", "state": "active"}],
    "grants": [{"agent": "spiffe://example.org/agent/a", "tools": ["crm/GET"]}],
}))
record = room / "record"
record.mkdir()
os.chown(record, 65532, 65532)

# As a container runtime does it: namespaces, a read-only root with its mounts, then a user without capabilities.
contained = f"""set -e
mount --bind {root} {root}
mount --bind {settings} {root}/etc/outrider
mount -o remount,bind,ro {settings} {root}/etc/outrider
mount --bind {record} {root}/var/lib/outrider
mount -t tmpfs -o uid=65532,gid=65532,mode=0755 tmpfs {root}/run/outrider
mount -t proc proc {root}/proc
mount -o remount,bind,ro {root}
exec setpriv --reuid 65532 --regid 65532 --clear-groups --bounding-set -all --inh-caps -all --no-new-privs -- \\
    python3 -c 'import os, sys; os.execve(sys.argv[1], sys.argv[1:], dict(LD_LIBRARY_PATH="/usr/local/lib/outrider", PATH="/usr/local/bin"))' """
(root / "etc/outrider").mkdir(parents=True, exist_ok=True)


def command(*words):
    # the root is changed by who is still root; python and setpriv are the node's
    script = contained.split("exec setpriv")[0] + f"exec chroot --userspec=65532:65532 {root} {' '.join(words)}\n"
    return ["setpriv", "--bounding-set", "-all,+sys_admin,+sys_chroot,+setuid,+setgid,+dac_override", "--no-new-privs", "--",
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "sh", "-c", script]


with open(room / "sidecar.log", "wb") as log:
    sidecar = subprocess.Popen(command("/usr/local/bin/outrider", *config["Cmd"]), stdout=log, stderr=log)


def said():
    return (room / "sidecar.log").read_text()


def call(method):
    request = urllib.request.Request(f"http://127.0.0.1:{listener}/crm/a", method=method)
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


try:
    end = time.monotonic() + 30
    while True:
        try:
            assert urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5).status == 200
            break
        except OSError:
            assert time.monotonic() < end and sidecar.poll() is None, said()
            time.sleep(0.1)
    inside = int(pathlib.Path(f"/proc/{sidecar.pid}/task/{sidecar.pid}/children").read_text().split()[0])
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{inside}/status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split()[0] == "65532" and int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0, status
    assert status["NoNewPrivs"] == "1", status
    mounts = pathlib.Path(f"/proc/{inside}/mountinfo").read_text().splitlines()
    writable = {line.split()[4] for line in mounts if "rw" in line.split()[5].split(",")}
    assert {one for one in writable if not one.startswith("/proc")} == {"/var/lib/outrider", "/run/outrider"}, writable
    assert call("GET") == 200 and call("DELETE") == 403 and reached == ["/a"], reached
    health = subprocess.run(["nsenter", "--target", str(inside), "--mount", "--root", "--wd", "setpriv", "--version"], capture_output=True)
    assert health.returncode != 0, "there is more in the image than there should be"
    health = subprocess.run(["nsenter", "--target", str(inside), "--mount", "--root", "--wd", *config["Healthcheck"]["Test"][1:]], capture_output=True, text=True)
    assert health.returncode == 0, health
    lines = [json.loads(line) for line in (record / "decisions.jsonl").read_text().splitlines()]
    assert [line["code"] for line in lines if line["type"] == "decision"] == ["ok", "policy_denied"]
    print("running: read-only, user 65532, no capability, no new privileges; healthy, one call permitted, one refused, both recorded")
    plan = subprocess.run(["unshare", "--net", "--mount", "chroot", str(root), "/usr/local/bin/nft", "--version"], capture_output=True, text=True, env={"LD_LIBRARY_PATH": "/usr/local/lib/outrider", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert plan.returncode == 0 and plan.stdout.startswith("nftables"), plan
    begin = time.monotonic()
    os.kill(inside, signal.SIGTERM)
    assert sidecar.wait(40) == 0, said()
    assert json.loads((record / "decisions.jsonl").read_text().splitlines()[-1])["type"] == "checkpoint"
    print(f"SIGTERM: drained and ended with 0 in {time.monotonic() - begin:.1f} s, the log signed; nft runs from the image")
finally:
    if sidecar.poll() is None:
        sidecar.kill()
        sidecar.wait()
