"""Starts and stops a pod as Kubernetes does: its containers are processes in one network namespace."""
import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
# What a container has that says nothing of capabilities.
USUAL = ["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
         "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"]
POD, NODE = "192.0.2.2", "192.0.2.1"


def sh(*words):
    subprocess.run(words, check=True)


@contextlib.contextmanager
def network(name):
    """Two namespaces: the pod's, and that of the node with everything beyond."""
    pod, node = f"{name}-pod", f"{name}-node"
    try:
        for space in (pod, node):
            sh("ip", "netns", "add", space)
            sh("ip", "-n", space, "link", "set", "lo", "up")
        sh("ip", "link", "add", "eth0", "netns", pod, "type", "veth", "peer", "name", "pod0", "netns", node)
        sh("ip", "-n", pod, "link", "set", "eth0", "up")
        sh("ip", "-n", pod, "addr", "add", f"{POD}/24", "dev", "eth0")
        sh("ip", "-n", node, "link", "set", "pod0", "up")
        sh("ip", "-n", node, "addr", "add", f"{NODE}/24", "dev", "pod0")
        sh("ip", "-n", pod, "route", "add", "default", "via", NODE)
        yield pod, node
    finally:
        for space in (pod, node):
            subprocess.run(["ip", "netns", "del", space], check=False)


def in_space(space, work):
    """Runs something in a network namespace and gives what it returns."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with open(f"/run/netns/{space}") as there:
            os.setns(there.fileno(), os.CLONE_NEWNET) if hasattr(os, "setns") else setns(there.fileno())
        try:
            said = json.dumps(work())
        except Exception as error:
            said = json.dumps({"error": str(error)})
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def setns(fd):
    import ctypes
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Container:
    def __init__(self, pod, one):
        self.pod, self.one, self.name = pod, one, one["name"]
        self.log = pod.room / f"{self.name}.log"
        self.starts = 0

    def start(self):
        self.starts += 1
        self.began = time.monotonic()
        pod, one = self.pod, self.one
        root = pathlib.Path(tempfile.mkdtemp(dir=pod.room, prefix=f"{self.name}-"))
        context = dict(pod.spec.get("securityContext") or {}, **(one.get("securityContext") or {}))
        capabilities = context.get("capabilities") or {}
        dropped = capabilities.get("drop") or []
        kept = [] if "ALL" in dropped else [name for name in USUAL if name not in dropped]
        described = {
            "root": str(root),
            "hosts": f"127.0.0.1 localhost\n{NODE} " + " ".join(pod.hosts) + "\n",
            "image": {str(pod.binary): "outrider", str(pod.agent): "agent.py"},
            "mounts": [{"source": str(pod.volumes[mount["name"]]), "path": mount["mountPath"], "read_only": mount.get("readOnly", False)}
                       for mount in one.get("volumeMounts") or []],
            "read_only": context.get("readOnlyRootFilesystem", False),
            "uid": context.get("runAsUser", 0),
            "gid": context.get("runAsGroup", context.get("runAsUser", 0)),
            "no_new_privileges": context.get("allowPrivilegeEscalation") is False,
            "capabilities": sorted(set(kept) | set(capabilities.get("add") or [])),
            "command": ["/image/outrider", *one["args"]] if one["image"].startswith("outrider") else ["python3", "/image/agent.py", *one.get("args", [])],
            "environment": {variable["name"]: variable["value"] for variable in one.get("env") or []},
        }
        assert not (context.get("runAsNonRoot") and described["uid"] == 0), f"{self.name}: root where it may not be"
        spec = root.with_suffix(".json")
        spec.write_text(json.dumps(described))
        self.output = open(self.log, "ab")
        self.child = subprocess.Popen(
            ["ip", "netns", "exec", pod.space, "unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, str(HERE / "contain.py"), str(spec)],
            stdout=self.output, stderr=self.output, stdin=subprocess.DEVNULL)

    def said(self):
        return self.log.read_text(errors="replace")

    def inside(self):
        """The process itself, as the node knows it."""
        children = pathlib.Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        return int(children[0])

    def signal(self, which):
        try:
            os.kill(self.inside(), which)
        except (OSError, IndexError, ProcessLookupError):
            pass

    def ended(self, patience):
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            return None

    def probed(self, kind):
        probe = self.one[kind]["httpGet"]

        def ask():
            connection = http.client.HTTPConnection(POD, probe["port"], timeout=2)
            connection.request("GET", probe["path"])
            return connection.getresponse().status
        return in_space(self.pod.node, ask) == 200


class Pod:
    """`files` are the ConfigMaps and Secrets by name, `agent` is what every other image runs."""

    def __init__(self, manifest, spaces, room, binary, agent, files, hosts):
        self.spec, self.room = manifest["spec"], pathlib.Path(room)
        self.space, self.node = spaces
        self.binary, self.agent, self.hosts = pathlib.Path(binary), pathlib.Path(agent), hosts
        self.volumes = {volume["name"]: self.volume(volume, files) for volume in self.spec.get("volumes", [])}
        self.sidecars, self.main = [], []

    def volume(self, volume, files):
        place = self.room / f"volume-{volume['name']}"
        place.mkdir()
        source = volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
        for name, text in files.get(source, {}).items():
            (place / name).write_text(text)
            os.chmod(place / name, 0o644)
        os.chmod(place, 0o777 if "emptyDir" in volume else 0o755)
        return place

    def start(self, patience=20):
        """Init containers in order; false when one does not come up in time, and then nothing after it runs."""
        for one in self.spec.get("initContainers", []):
            container = Container(self, one)
            container.start()
            if one.get("restartPolicy") != "Always":
                assert container.ended(patience) == 0, f"{container.name}: {container.said()}"
                continue
            self.sidecars.append(container)
            end = time.monotonic() + patience
            while not container.probed("startupProbe"):
                if time.monotonic() > end:
                    return False
                if container.child.poll() is not None:
                    container.start()
                time.sleep(0.1)
            container.started = time.monotonic()
        for one in self.spec["containers"]:
            container = Container(self, one)
            container.start()
            self.main.append(container)
        return True

    def stop(self, grace=30):
        """SIGTERM to the containers, then to the sidecars, last first; all within the grace period. Gives their statuses."""
        end = time.monotonic() + grace
        statuses = {}
        for container in self.main:
            container.signal(signal.SIGTERM)
        for group in (self.main, self.sidecars[::-1]):
            for container in group:
                if group is not self.main:
                    container.signal(signal.SIGTERM)
                statuses[container.name] = container.ended(max(0.1, end - time.monotonic()))
        for container in self.main + self.sidecars:
            container.signal(signal.SIGKILL)
            container.ended(5)
        return statuses
