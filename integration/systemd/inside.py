"""Runs as a unit of the booted machine: the sidecar's unit, step by step."""
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

CONFIG = pathlib.Path("/etc/outrider/outrider.yaml")
RECORD = pathlib.Path("/var/lib/outrider/decisions.jsonl")
OUTRIDER = "/usr/local/bin/outrider"
UNIT = "outrider.service"
AGENT = 990  # the example's
LISTENER = "http://127.0.0.1:15001"
RULE = 'package outrider.authz\ndeny contains {"reason": "not_this_one", "message": "not this one"} if endswith(input.call.path, "/secret")\n'
CALL = """
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], method=sys.argv[2], headers={"outrider-task-token": sys.argv[3]})
try:
    print(urllib.request.urlopen(request, timeout=30).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print("refused")
"""
TRIES = """
import os
for folder, folders, files in os.walk("/proc/%d/root"):
    where = folder.split("/root", 1)[1] or "/"
    folders[:] = [name for name in folders if where != "/" or name not in ("proc", "sys")]
    try:
        os.close(os.open(folder + "/.probe", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.unlink(folder + "/.probe")
        print(where)
    except OSError:
        pass
"""


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    reached, entered, go_on = [], threading.Event(), threading.Event()

    def do_GET(self):
        self.reached.append((self.path, self.headers["authorization"]))
        if self.path.endswith("/slow"):
            self.entered.set()
            self.go_on.wait(20)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def run(*words, status=0):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert status is None or done.returncode == status, (words, done, journal())
    return done


def unit(name):
    return run("systemctl", "show", "--value", "--property", name, UNIT).stdout.strip()


def awaited(what, ready, patience=30):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if ready():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}: {journal()}")


def journal():
    return run("journalctl", "--no-pager", "--lines", "40", "--unit", UNIT, status=None).stdout


def as_user(uid, *words):
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", *words]


def call(path, token, method="GET", uid=AGENT):
    return run(*as_user(uid, "python3", "-c", CALL, LISTENER + path, method, token)).stdout.strip()


def changed(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text, (path, old)
        text = text.replace(old, new)
    path.write_text(text)


def rated():
    said = run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}")
    assert not (said.stdout + said.stderr).strip(), said
    table = run("systemd-analyze", "security", "--offline=true", "--no-pager", f"/etc/systemd/system/{UNIT}").stdout
    score = re.search(r"Overall exposure level.*?: ([0-9.]+) (\w+)", table)
    assert score and float(score[1]) < 2, table
    print(f"systemd-analyze: verified; exposure {score[1]} {score[2]}")
    for line in table.splitlines():
        if line.startswith("✗"):
            print("    left open:", " ".join(line.split()[1:]))


def operators():
    """A group that may use the control socket: the socket is given to it by a service that may give little away."""
    pathlib.Path("/etc/sysusers.d/operators.conf").write_text("g operators -\n")
    pathlib.Path(f"/etc/systemd/system/{UNIT}.d/operators.conf").write_text("[Service]\nSupplementaryGroups=operators\n")
    changed(CONFIG, ("control.sock }", "control.sock, group: operators }"))


def prepared(port):
    operators()
    run("systemd-sysusers")
    run("systemctl", "daemon-reload")
    shutil.chown(CONFIG.parent, "root", "outrider")
    CONFIG.parent.chmod(0o750)
    secrets = pathlib.Path("/etc/outrider/secrets")
    secrets.mkdir(mode=0o700)
    (secrets / "api").write_text("s3cret\n")
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", str(secrets / "log-key"))
    (secrets / "digest-key").write_text("0123456789abcdef")
    pathlib.Path("/etc/outrider/policy").mkdir()
    pathlib.Path("/etc/outrider/policy/rules.rego").write_text(RULE)
    changed(CONFIG, ("https://api.example.org/v1", f"http://localhost:{port}/v1"), ("# credentials:", "credentials:"), ("# key:", "key:"),
            ("# digest_key:", "digest_key:"), ("policy: {", "policy: { path: policy,"),
            ("admin:", "  - { mode: forward, address: 127.0.0.1:15002, tls: intercept, peers: { uid: [990] } }\nca: { certificate: /run/outrider/outrider-ca.pem }\nadmin:"))


def confined(pid):
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    user = run("id", "-u", "outrider").stdout.strip()
    assert set(status["Uid"].split()) == {user} and user != "0", status
    assert not any(int(status[one], 16) for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), status
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), status
    found = set(run(*as_user(user, "python3", "-c", TRIES % pid)).stdout.split())
    assert found == {"/var/lib/outrider", "/run/outrider", "/tmp", "/var/tmp"}, found
    control = pathlib.Path("/run/outrider/control.sock")
    assert (control.group(), control.stat().st_mode & 0o777) == ("operators", 0o660), control.stat()
    about = RECORD.stat()
    assert (str(about.st_uid), about.st_mode & 0o777, RECORD.parent.stat().st_mode & 0o777) == (user, 0o600, 0o700), about
    print(f"running: user {user}, no capability, no new privileges, filtered system calls; writes to {', '.join(sorted(found))} alone")


def started():
    run("systemctl", "start", UNIT, status=None)
    assert unit("ActiveState") == "active", journal()
    run(OUTRIDER, "health", "-c", str(CONFIG))
    return int(unit("MainPID"))


def decides():
    token = run(OUTRIDER, "task", "open", "-c", str(CONFIG), "--intent", "ticket.triage").stdout.strip()
    status = call("/api/a", token)
    assert status == "200" and Upstream.reached == [("/v1/a", "Bearer s3cret")], (status, Upstream.reached, journal())
    assert call("/api/a", token, "DELETE") == "403" and call("/api/secret", token) == "403"
    assert call("/api/a", token, uid=991) != "200" and len(Upstream.reached) == 1
    run(*as_user(AGENT, "cat", "/run/outrider/outrider-ca.pem"))
    for secret in (str(CONFIG), "/run/credentials/outrider.service/api", str(RECORD)):
        assert run(*as_user(AGENT, "cat", secret), status=None).returncode != 0, secret
    print("decided: one call permitted, with the secret of LoadCredential; refused: without a grant, by a rule, of another user")
    return token


def reloads(token):
    rule = pathlib.Path("/etc/outrider/policy/rules.rego")
    rule.write_text("package outrider.authz\ndeny contains {")
    assert run(OUTRIDER, "check", "-c", str(CONFIG), status=None).returncode == 1
    run("systemctl", "reload", UNIT)
    awaited("the refusal", lambda: "rules.rego:2" in journal())
    assert call("/api/secret", token) == "403" and call("/api/a", token) == "200", "what was in force does not stay"
    rule.write_text(RULE.replace("/secret", "/other"))
    run(OUTRIDER, "check", "-c", str(CONFIG))
    run("systemctl", "reload", UNIT)
    awaited("the new rule", lambda: call("/api/other", token) == "403")
    print("reload: a bad file is in the journal and changes nothing; a good one is in force")


def survives(pid, token):
    os.kill(pid, signal.SIGKILL)
    awaited("a restart", lambda: unit("MainPID") not in ("0", str(pid)) and unit("ActiveState") == "active")
    assert unit("NRestarts") == "1" and call("/api/a", token) == "200", journal()
    print("killed: started again, its task still good")


def drains(token):
    status = []
    slow = threading.Thread(target=lambda: status.append(call("/api/slow", token)))
    slow.start()
    assert Upstream.entered.wait(20)
    stop = subprocess.Popen(["systemctl", "stop", UNIT])
    awaited("the drain", lambda: unit("ActiveState") == "deactivating")
    Upstream.go_on.set()
    slow.join()
    assert stop.wait(60) == 0 and status == ["200"], status
    assert (unit("Result"), unit("ExecMainStatus")) == ("success", "0"), journal()
    assert not pathlib.Path("/run/credentials/outrider.service").exists() and not pathlib.Path("/run/outrider").exists()
    verified = run(OUTRIDER, "log", "verify", str(RECORD)).stdout.strip()
    print(f"stop: the call under way ended with 200, then it did; log: {verified.splitlines()[0]}")


def refuses_a_bad_configuration():
    changed(CONFIG, ("protocol: http", "protocol: none"))
    begin = time.monotonic()
    assert run("systemctl", "start", UNIT, status=None).returncode != 0
    awaited("the failure", lambda: unit("ActiveState") == "failed")
    assert (unit("ExecMainStatus"), unit("NRestarts")) == ("2", "0"), journal()
    print(f"a bad configuration: the start fails after {time.monotonic() - begin:.1f} s and is not tried again")


upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
rated()
prepared(upstream.server_port)
main = started()
bearer = decides()
confined(main)
reloads(bearer)
survives(main, bearer)
drains(bearer)
refuses_a_bad_configuration()
pathlib.Path("/proof/passed").touch()
