"""An agent in its container: it calls as soon as it runs, and does what its arguments say after that."""
import os
import signal
import socket
import sys
import time
import urllib.request

URL = "https://api.example.org/v1/hello"


def call(url=URL):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return f"{answer.status} {answer.read().decode().strip()}"
    except Exception as error:
        return f"failed {error}"


def tried(name, work):
    try:
        said = work()
        print(f"{name}: {said}", flush=True)
    except Exception as error:
        print(f"{name}: refused ({type(error).__name__} {error})", flush=True)


def out(kind, port, bind=None):
    with socket.socket(socket.AF_INET, kind) as one:
        one.settimeout(3)
        if bind:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bind)
        one.connect(("192.0.2.1", port))
        one.sendall(b"a way out\r\n\r\n")
        return one.recv(100)


def as_sidecar():
    os.setuid(15001)
    return out(socket.SOCK_STREAM, 9001)


print("first:", call(), flush=True)
what = sys.argv[1]
if what == "end":
    sys.exit(0)
if what == "fail":
    sys.exit(3)
if what == "hostile":
    for variable in list(os.environ):
        if variable.lower().endswith("_proxy"):
            del os.environ[variable]
    tried("tcp", lambda: out(socket.SOCK_STREAM, 9001))
    tried("bound", lambda: out(socket.SOCK_STREAM, 9001, b"eth0\0"))
    tried("udp", lambda: out(socket.SOCK_DGRAM, 9001))
    tried("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).sendto(b"\x08\0\0\0\0\0\0\0", ("192.0.2.1", 0)))
    tried("uid", as_sidecar)
    for path in ("/run/outrider/control.sock", "/etc/outrider/outrider.yaml", "/var/lib/outrider/decisions.jsonl"):
        tried(path, lambda: open(path).read(1))
    tried("trust", lambda: open("/run/outrider-trust/outrider-ca.pem", "a").write("x"))
    tried("rules", lambda: os.system("nft flush ruleset 2>/dev/null") and "refused" or "flushed")
    tried("processes", lambda: [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()])
    print("second:", call(), flush=True)
    sys.exit(0)
if what == "slow":
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    print("slow:", call("https://api.example.org/v1/slow"), flush=True)
    print("told to end:", bool(ended), flush=True)
    print("after that:", call(), flush=True)
    sys.exit(0)
if what == "steady":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        print("call:", call(), flush=True)
        time.sleep(0.2)
