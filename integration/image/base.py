"""Cuts a root of Debian packages down to what distroless/cc has. Argument: its folder."""
import pathlib
import sys

base = pathlib.Path(sys.argv[1])
LIBRARIES = ("ld-linux", "libanl.", "libc.", "libdl.", "libgcc_s.", "libm.", "libmvec.", "libnss_", "libpthread.", "libresolv.", "librt.", "libstdc++.", "libutil.")
FOLDERS = ("usr/share/ca-certificates/", "usr/share/zoneinfo/")
FILES = ("etc/debian_version", "etc/os-release", "usr/lib/os-release")


def wanted(where):
    library = where.startswith(("lib", "usr/lib")) and where.rpartition("/")[2].startswith(LIBRARIES)
    return library or where.startswith(FOLDERS) or where in FILES


def cut():
    for one in sorted(base.rglob("*"), reverse=True):
        if one.is_dir() and not one.is_symlink():
            if not any(one.iterdir()):
                one.rmdir()
        elif not wanted(one.relative_to(base).as_posix()) and not one.is_dir():
            one.unlink()


def complete():
    for name in ("dev", "etc/ssl/certs", "home/nonroot", "proc", "root", "run", "sys", "tmp", "var/lib"):
        (base / name).mkdir(parents=True, exist_ok=True)
    (base / "tmp").chmod(0o1777)
    authorities = sorted((base / "usr/share/ca-certificates").rglob("*.crt"))
    (base / "etc/ssl/certs/ca-certificates.crt").write_text("".join(one.read_text() for one in authorities))
    (base / "etc/passwd").write_text("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
    (base / "etc/group").write_text("root:x:0:\nnonroot:x:65532:\n")
    (base / "etc/nsswitch.conf").write_text("hosts: files dns\n")


cut()
complete()
