"""What is in the image. Arguments: the image's configuration as JSON, the image's root, the size of its archive."""
import json
import pathlib
import stat
import sys

PROGRAMS = ["usr/local/bin/outrider", "usr/sbin/nft"]


def configured(image):
    found = {key: image.get(key) for key in ("User", "Entrypoint", "Cmd", "WorkingDir")}
    assert found == {
        "User": "65532:65532",
        "Entrypoint": ["/usr/local/bin/outrider"],
        "Cmd": ["run", "-c", "/etc/outrider/outrider.yaml"],
        "WorkingDir": "/etc/outrider",
    }, found
    assert set(image["Volumes"]) == {"/var/lib/outrider", "/run/outrider"}, image["Volumes"]
    assert image["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/outrider", "health", "-c", "/etc/outrider/outrider.yaml"], image["Healthcheck"]
    assert not [one for one in image["Env"] if one.startswith("LD_")], image["Env"]
    assert not image.get("ExposedPorts"), image["ExposedPorts"]


def holds(root):
    """Checks each file of the image; the sum of their sizes."""
    programs, size = [], 0
    for one in sorted(root.rglob("*")):
        where, about = one.relative_to(root).as_posix(), one.lstat()
        assert not about.st_mode & (stat.S_ISUID | stat.S_ISGID), f"setuid: {where}"
        assert stat.S_ISLNK(about.st_mode) or where == "tmp" or not about.st_mode & stat.S_IWOTH, f"everybody may write: {where}"
        own = where in ("var/lib/outrider", "run/outrider")
        assert about.st_uid == (65532 if own else 0), f"{where} belongs to {about.st_uid}"
        if not stat.S_ISREG(about.st_mode):
            continue
        size += about.st_size
        if about.st_mode & 0o111 and ".so" not in one.name:
            programs.append(where)
    assert programs == PROGRAMS, programs
    return size


def inventory(root):
    """Packages that a scanner of images finds."""
    packages = sorted(one.name for one in (root / "var/lib/dpkg/status.d").iterdir())
    assert "nftables" in packages and "libnftables1" in packages, packages
    for name in packages:
        assert f"Package: {name}\n" in (root / "var/lib/dpkg/status.d" / name).read_text(), name
        assert (root / "usr/share/doc" / name / "copyright").stat().st_size, name
    return packages


configured(json.loads(pathlib.Path(sys.argv[1]).read_text()))
root = pathlib.Path(sys.argv[2])
size, packages = holds(root), inventory(root)
outrider, nft = ((root / one).stat().st_size for one in PROGRAMS)
print(f"image: {size / 1e6:.1f} MB on disk, {int(sys.argv[3]) / 1e6:.1f} MB compressed; outrider alone {outrider / 1e6:.1f} MB")
print(f"in it: outrider and nft ({', '.join(packages)}), no shell, nothing setuid, nothing that everybody may write")
