"""Becomes a container: a root of its own with the volumes that are mounted, a user, and no capability that is not given.

Runs as root in new mount and PID namespaces; the container is described as JSON in the file that is named.
"""
import json
import os
import pathlib
import subprocess
import sys

one = json.loads(pathlib.Path(sys.argv[1]).read_text())
root = pathlib.Path(one["root"])


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


mount("--make-rprivate", "/")
mount("-t", "tmpfs", "tmpfs", root)
for name in ("usr", "bin", "sbin", "lib", "lib64", "root"):
    source = pathlib.Path("/") / name
    if source.is_symlink():
        (root / name).symlink_to(os.readlink(source))
    elif source.is_dir():
        (root / name).mkdir()
        if name != "root":
            mount("--bind", source, root / name)
            mount("-o", "remount,bind,ro", root / name)
for name in ("etc", "proc", "dev", "tmp", "run", "var/lib", "image"):
    (root / name).mkdir(parents=True)
for name in ("ssl", "ca-certificates", "alternatives"):
    if (pathlib.Path("/etc") / name).is_dir():
        (root / "etc" / name).mkdir()
        mount("--bind", f"/etc/{name}", root / "etc" / name)
(root / "etc/hosts").write_text(one["hosts"])
(root / "etc/nsswitch.conf").write_text("hosts: files\n")
mount("-t", "proc", "proc", root / "proc")
for name in ("null", "zero", "urandom", "random"):
    (root / "dev" / name).touch()
    mount("--bind", f"/dev/{name}", root / "dev" / name)
(root / "dev/fd").symlink_to("/proc/self/fd")
os.chmod(root / "tmp", 0o1777)
for source, name in one["image"].items():
    (root / "image" / name).touch()
    mount("--bind", source, root / "image" / name)
for volume in one["mounts"]:
    place = root / volume["path"].lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    mount("--bind", volume["source"], place)
    if volume["read_only"]:
        mount("-o", "remount,bind,ro", place)
if one["read_only"]:
    mount("-o", "remount,ro", root)
os.chroot(root)
os.chdir("/")
bounds = "-all" + "".join(f",+{name.lower()}" for name in one["capabilities"])
command = ["setpriv", "--reuid", str(one["uid"]), "--regid", str(one["gid"]), "--clear-groups", "--bounding-set", bounds, "--inh-caps", "-all"]
if one["no_new_privileges"]:
    command.append("--no-new-privs")
os.execvpe(command[0], command + ["--"] + one["command"], dict(one["environment"], PATH="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"))
