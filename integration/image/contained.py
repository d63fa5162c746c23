"""Containers of an unpacked image, by crun: confined as Kubernetes' profile `restricted` does it."""
import json
import pathlib
import subprocess

PROFILE = pathlib.Path("/usr/share/containers/seccomp.json")  # the engines' own default

# crun refuses to start where both versions of cgroups are mounted, though it is told to use none: it is shown one.
VIEW = ["unshare", "--mount", "sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh"]


def seccomp(capabilities):
    """The engines' profile in the form that a runtime takes, for who holds these capabilities."""
    profile = json.loads(PROFILE.read_text())
    held = set(capabilities)

    def applies(rule):
        only, never = rule.get("includes") or {}, rule.get("excludes") or {}
        if not set(only.get("caps", [])) <= held or set(never.get("caps", [])) & held:
            return False
        return "amd64" in only.get("arches", ["amd64"]) and "amd64" not in never.get("arches", [])

    kept = ("names", "action", "args", "errnoRet")
    rules = [{key: rule[key] for key in kept if rule.get(key)} for rule in profile["syscalls"] if applies(rule)]
    architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile.get("defaultErrnoRet", 1), "architectures": architectures, "syscalls": rules}


def bound(source, target, *options):
    return {"destination": target, "type": "bind", "source": str(source), "options": ["bind", "nosuid", "nodev", *options]}


def fresh(target, user):
    options = ["nosuid", "nodev", "noexec", "mode=0755", f"uid={user}", f"gid={user}", "size=16m"]
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}


class Container:
    """One container. `image` is the image's own configuration, `network` the path of a network namespace or None."""

    def __init__(self, room, root, image, name, arguments, mounts, *, user=65532, capabilities=(), network=None):
        self.name, self.room = name, room
        self.folder = room / name
        self.folder.mkdir()
        names = [f"CAP_{one}" for one in capabilities]
        namespaces = [{"type": one} for one in ("pid", "ipc", "uts", "mount")]
        if network:
            namespaces.append({"type": "network", "path": network})
        (self.folder / "config.json").write_text(json.dumps({
            "ociVersion": "1.0.0",
            "hostname": name,
            "root": {"path": str(root), "readonly": True},
            "process": {
                "user": {"uid": user, "gid": user},
                "args": image["Entrypoint"] + arguments,
                "env": image["Env"],
                "cwd": image["WorkingDir"],
                "capabilities": {one: names for one in ("bounding", "effective", "permitted")},
                "noNewPrivileges": True,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
                *mounts,
            ],
            "linux": {
                "namespaces": namespaces,
                "seccomp": seccomp(names),
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/sched_debug", "/proc/timer_list"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        }))

    def _crun(self, *words):
        return [*VIEW, "crun", "--root", str(self.room / "crun"), "--cgroup-manager=disabled", *words]

    def _run(self):
        return self._crun("run", "--bundle", str(self.folder), "--pid-file", str(self.folder / "pid"), self.name)

    def start(self):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(self._run(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self.process

    def finish(self):
        """Runs it to its end."""
        return subprocess.run(self._run(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def exec(self, *words):
        """One more process in it, as a health check is run."""
        return subprocess.run(self._crun("exec", self.name, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def kill(self, signal):
        subprocess.run(self._crun("kill", self.name, signal), check=True)

    def remove(self):
        subprocess.run(self._crun("delete", "--force", self.name), capture_output=True)

    def pid(self):
        return int((self.folder / "pid").read_text())

    def said(self):
        return (self.folder / "log").read_text()
