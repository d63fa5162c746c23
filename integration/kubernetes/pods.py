"""Injected pods as processes, started and stopped in the order in which Kubernetes does it."""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import yaml

from control_plane import Authority, awaited
from kubelet import POD, Pod, in_space, network

binary = sys.argv[1]
here = pathlib.Path(__file__).parent
example = here.parent.parent / "deploy/kubernetes/example"

if os.getuid() != 0:
    print("skipped: not root: no network namespace can be made")
    sys.exit(0)
for tool in ("ip", "nft", "unshare", "setpriv", "mount"):
    if not shutil.which(tool):
        print(f"skipped: no {tool}")
        sys.exit(0)

# The example's configuration with what this machine lacks: an authority that vouches for the API, and a task for all.
config = yaml.safe_load((example / "outrider.yaml").read_text())
config["services"][0]["tls"] = {"ca": "ca.pem"}
config["tasks"] = {"required": False}
grants = yaml.safe_load((example / "grants.yaml").read_text())
for grant in grants["grants"]:
    grant.pop("intents")


def injected(kind, args, *words, **change):
    manifest = next(one for one in yaml.safe_load_all((example / f"{kind}.yaml").read_text()))
    template = manifest["spec"]["template"]
    template["spec"]["containers"][0]["args"] = args
    template["spec"].update(change)
    done = subprocess.run([binary, "inject", "--image", "outrider:test", *words, "-f", "-"], input=yaml.safe_dump(manifest), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["spec"]["template"]


@contextlib.contextmanager
def cluster(name, manifest, config=config):
    """A pod on its node; gives the pod and what arrived outside."""
    with tempfile.TemporaryDirectory(prefix="outrider-pod-") as room, network(f"o{os.getpid()}-{name}") as spaces:
        room = pathlib.Path(room)
        os.chmod(room, 0o755)
        trust = room / "authority"
        trust.mkdir()
        authority = Authority(trust)
        certificate, key = authority.leaf("api", "/CN=api", "DNS:api.example.org")
        notes = room / "arrived"
        outside = subprocess.Popen(["ip", "netns", "exec", spaces[1], sys.executable, str(here / "upstream.py"), str(notes), str(certificate), str(key)])
        files = {"outrider": {"outrider.yaml": yaml.safe_dump(config), "grants.yaml": yaml.safe_dump(grants), "ca.pem": authority.certificate.read_text()}}
        shutil.copy(here / "agent.py", room / "agent.py")
        pod = Pod(manifest, spaces, room, binary, room / "agent.py", files, ["api.example.org"])
        try:
            awaited("the API", lambda: "ready" in notes.read_text(), [])
            yield pod, lambda: notes.read_text().splitlines()[1:]
        finally:
            pod.stop(grace=1)
            outside.kill()
            outside.wait()


def decided(arrived):
    """Everything that reached the API had a decision, and nothing arrived elsewhere."""
    assert not [line for line in arrived if line.startswith("stray")], arrived
    calls = [line for line in arrived if line.startswith("api")]
    assert not [line for line in calls if line.endswith("undecided")], arrived
    return calls


def up(pod):
    assert pod.start(), "\n".join(one.said()[-3000:] for one in pod.sidecars)


def log(pod):
    return [json.loads(line) for line in (pod.volumes["outrider-record"] / "decisions.jsonl").read_text().splitlines()]


def verified(pod):
    done = subprocess.run([binary, "log", "verify", str(pod.volumes["outrider-record"] / "decisions.jsonl")], capture_output=True, text=True)
    assert done.returncode == 0, done


for mode in ("transparent", "explicit"):
    with cluster("job", injected("job", ["end"], "--mode", mode)) as (pod, arrived):
        up(pod)
        agent = pod.main[0]
        assert agent.began >= pod.sidecars[0].started, "the agent ran before its sidecar"
        assert agent.ended(20) == 0, agent.said()
        assert "first: 200 hello" in agent.said(), agent.said() + pod.sidecars[0].said()
        begin = time.monotonic()
        statuses = pod.stop()
        assert statuses == {"agent": 0, "outrider": 0}, (statuses, pod.sidecars[0].said())
        assert time.monotonic() - begin < 20, "the sidecar kept the job"
        assert len(decided(arrived())) == 1
        assert {line.get("isolation") for line in log(pod) if line["type"] == "decision"} == {"declared"}
        verified(pod)
        print(f"{mode}: a job calls at once, is decided, completes, and its sidecar ends after it")

with cluster("hostile", injected("agent", ["hostile"])) as (pod, arrived):
    up(pod)
    agent = pod.main[0]
    assert agent.ended(60) == 0, agent.said()
    said = dict(line.split(": ", 1) for line in agent.said().splitlines())
    assert said["first"] == said["second"] == "200 hello", said
    for way in ("bound", "udp", "raw", "uid", "/run/outrider/control.sock", "/etc/outrider/outrider.yaml", "/var/lib/outrider/decisions.jsonl", "trust", "rules"):
        assert said[way].startswith("refused"), (way, said[way])
    # redirected to the sidecar, which takes no bytes that are neither HTTP nor TLS
    assert said["tcp"].startswith(("refused", "b''", "b'HTTP/1.1 4")), said["tcp"]
    assert said["processes"] == "[]", said["processes"]
    decided(arrived())
    print("transparent: a hostile agent finds eleven ways closed")

    def asked(port, path):
        def ask():
            connection = http.client.HTTPConnection(POD, port, timeout=2)
            connection.request("GET", path)
            return connection.getresponse().status
        return in_space(pod.node, ask)
    assert asked(15020, "/readyz") == 200 and asked(15020, "/metrics") == 200
    assert asked(15020, "/.well-known/jwks.json") == 404 and asked(15020, "/tools") == 404
    for port in (15000, 15001, 15002, 15003):
        assert "error" in asked(port, "/readyz"), port
    print("from the node: probes and metrics, and nothing else")

# Termination: what runs is finished, and calls are served to the end of the agent
with cluster("drain", injected("agent", ["slow"])) as (pod, arrived):
    up(pod)
    awaited("the slow call", lambda: "slow begins" in arrived(), [])
    statuses = pod.stop()
    agent = pod.main[0].said()
    assert statuses == {"agent": 0, "outrider": 0}, (statuses, agent)
    assert "slow: 200 hello" in agent and "told to end: True" in agent and "after that: 200 hello" in agent, agent
    ended = [line["ended"] for line in log(pod) if line["type"] == "outcome"]
    assert ended == ["completed"] * 3, ended
    assert log(pod)[-1]["type"] == "checkpoint"
    verified(pod)
    print("termination: the call under way is finished, the agent can call to its end, the log is signed")

# A sidecar that dies: no call passes without one, and the next goes on with the log
with cluster("crash", injected("agent", ["steady"])) as (pod, arrived):
    up(pod)
    agent, sidecar = pod.main[0], pod.sidecars[0]
    awaited("some calls", lambda: agent.said().count("call: 200") > 2, [])
    sidecar.signal(signal.SIGKILL)
    sidecar.ended(5)
    before = len(arrived())
    awaited("calls without a sidecar", lambda: agent.said().count("call: failed") > 2, [])
    assert len(arrived()) == before, "a call passed without its sidecar"
    sidecar.start()
    calls = agent.said().count("call: 200")
    awaited("calls again", lambda: agent.said().count("call: 200") > calls + 2, [])
    decided(arrived())
    assert pod.stop() == {"agent": 0, "outrider": 0}
    verified(pod)
    print("a sidecar that is killed: nothing passes until the next is there, which goes on with the log")

# A configuration that is wrong: the agent never runs
with cluster("wrong", injected("agent", ["end"]), dict(config, listeners=[])) as (pod, arrived):
    try:
        started = pod.start(patience=5)
    except AssertionError as error:
        assert "listeners" in str(error) or "transparent listener" in str(error), error
        started = False
    assert not started and not pod.main and not arrived()
    print("a configuration that is wrong: the agent never runs")
