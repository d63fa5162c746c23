"""The log's disk fails in every way: calls are refused while it does, reach nobody, and pass again within a second."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from rig import Agent, Load, Sidecar, Upstream, require, spread, until

RECOVERY = 1.0  # seconds from the end of a fault to the next call that passes, as a rule
SLOWEST = 5.0  # at most: a disk that others keep busy takes its time for a sync
ERRORS = ["EIO", "ENOSPC", "EROFS"]


def account(sidecar, upstream, answers, what):
    """Nothing that was refused for want of a record reached the upstream, and what reached it is in the log."""
    unrecorded = {answer.decision for answer in answers if answer.unrecorded}
    require(not unrecorded & upstream.seen, f"{what}: a call that was refused reached the upstream")
    recorded = sidecar.decided()
    require(upstream.seen <= recorded, f"{what}: {len(upstream.seen - recorded)} calls reached the upstream without a record")
    told = {answer.decision for answer in answers} - unrecorded
    require(told <= recorded, f"{what}: {len(told - recorded)} answers without a record")


def recovered(agent, what):
    """Calls until one passes; the answers, and how long it took."""
    answers = []

    def passes():
        answers.append(agent.call())
        return answers[-1].passed

    took = until(f"{what}: the recovery", passes)
    require(took <= SLOWEST, f"{what}: recovery took {took:.2f} s")
    return answers, took


def each_nth(binary, call, durability, last, with_repair):
    """The Nth of those system calls of each thread on the log fails, and perhaps the next."""
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream, durability=durability)
    trace = sidecar.home / "strace.txt"
    times, refused = [], 0
    for nth in range(1, last + 1):
        error, more = ERRORS[nth % 3], nth % 2
        inject = ["-e", f"inject={call}:error={error}:when={nth}..{nth + more}"]
        if with_repair and nth % 4 == 0:
            inject += ["-e", f"inject=ftruncate:error={error}:when=1"]
        trace.unlink(missing_ok=True)
        sidecar.start("strace", "-f", "--seccomp-bpf", "-ttt", "-o", str(trace), "-P", str(sidecar.log),
                      "-e", f"trace={call},ftruncate", *inject)
        upstream.seen.clear()
        agent, answers, passed = Agent(sidecar.address), [], []
        what = f"{call} number {nth} fails with {error} under {durability}"

        def over():
            answers.append(agent.call())
            if answers[-1].passed:
                passed.append(time.time())
            # An outcome that no decision takes along is written 5 ms later.
            time.sleep(0.006 * (len(answers) % 2))
            return all(answer.passed for answer in answers[-5:]) and faults(trace, passed[-1])

        until(f"{what}: the end of the fault", over)
        met = faults(trace, passed[-1])
        for fault, after in zip(met, [*met[1:], float("inf")]):
            took = min([after, *(moment for moment in passed if moment > fault)]) - fault
            require(took <= SLOWEST, f"{what}: recovery took {took:.2f} s")
            times.append(took)
        refused += sum(answer.unrecorded for answer in answers)
        agent.close()
        sidecar.stop()
        account(sidecar, upstream, answers, what)
        sidecar.verify()
    require(refused > 0, f"{call}: no fault was ever met by a call")
    usual = statistics.median(times)
    require(usual <= RECOVERY, f"{call} fails under {durability}: recovery took {usual:.2f} s as a rule")
    print(f"{call} fails under {durability}, each N up to {last}: {refused} calls refused, none of them reached the "
          f"upstream; recovery {spread([1000 * t for t in times], 'ms')}; {sidecar.verify().splitlines()[0]}")
    sidecar.remove()


def faults(trace, before):
    """When system calls failed, before that time."""
    lines = (line for line in trace.read_text().splitlines() if line.endswith("(INJECTED)"))
    return [moment for line in lines if (moment := float(line.split()[1])) < before]


def holding(binary, error, durability):
    """All writing to the log fails for a while."""
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream, durability=durability)
    sidecar.start()
    what = f"{error} under {durability}"
    load = Load(sidecar.address, 4)
    until(f"{what}: calls pass", lambda: any(answer.passed for answer in load.answers))
    calls = "write,fdatasync,ftruncate"
    tracer = subprocess.Popen(["strace", "-f", "-p", str(sidecar.pid()), "-P", str(sidecar.log), "-o", "/dev/null",
                               "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"], stderr=subprocess.DEVNULL)
    try:
        until(f"{what}: calls are refused", lambda: load.answers[-1].unrecorded)
        until(f"{what}: not ready", lambda: not sidecar.ready())
        during = load.during(0.5)
        require(during and all(answer.unrecorded for answer in during), f"{what}: a call passed while the log failed")
    finally:
        tracer.send_signal(2)  # it lets go of the sidecar, which runs on
        tracer.wait()
    answers, took = recovered(Agent(sidecar.address), what)
    answers += load.end()
    until(f"{what}: ready", sidecar.ready, 1)
    sidecar.stop()
    account(sidecar, upstream, answers, what)
    print(f"{error} for a while under {durability}: {len(during)} calls refused, recovery {1000 * took:.0f} ms; "
          f"{sidecar.verify().splitlines()[0]}")
    sidecar.remove()


def hanging(binary, seconds):
    """A sync takes very long: nobody waits for it longer than a few seconds."""
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream, durability="synced")
    sidecar.start("strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-P", str(sidecar.log), "-e", "trace=fdatasync",
                  "-e", f"inject=fdatasync:delay_enter={seconds}s:when=20")
    what = "a disk that hangs"
    load = Load(sidecar.address, 4)
    begun = time.monotonic()
    until(f"{what}: a call is refused", lambda: any(answer.unrecorded for answer in list(load.answers)))
    waited = time.monotonic() - begun
    until(f"{what}: not ready", lambda: not sidecar.ready(), 1)
    agent, begun = Agent(sidecar.address), time.monotonic()
    during = [agent.call() for _ in range(10)]
    require(all(answer.unrecorded for answer in during), f"{what}: a call passed")
    require(time.monotonic() - begun < 1, f"{what}: calls are not refused at once")
    until(f"{what}: ready again", sidecar.ready, seconds)
    answers, took = recovered(agent, what)
    answers += during + load.end()
    sidecar.stop()
    account(sidecar, upstream, answers, what)
    print(f"{what} for {seconds} s under synced: who waits is refused after {waited:.1f} s, recovery {1000 * took:.0f} ms; "
          f"{sidecar.verify().splitlines()[0]}")
    sidecar.remove()


def full_disk(binary, durability):
    """A real disk, a small one, runs full and is freed again."""
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream, log="disk/decisions.jsonl", durability=durability)
    disk = sidecar.home / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        ballast = disk / "ballast"
        # What becomes free must outlast the load until one more call is seen to pass.
        ballast.write_bytes(b"x" * (704 << 10))
        sidecar.start()
        load = Load(sidecar.address, 4)
        what = f"a full disk under {durability}"
        until(f"{what}: calls are refused", lambda: load.answers and load.answers[-1].unrecorded)
        until(f"{what}: not ready", lambda: not sidecar.ready())
        during = load.during(0.5)
        refused = sum(answer.unrecorded for answer in during)
        ballast.unlink()
        answers, took = recovered(Agent(sidecar.address), what)
        answers += load.end()
        sidecar.stop()
        account(sidecar, upstream, answers, what)
        require(sidecar.log.read_bytes().endswith(b"}\n"), f"{what}: a partial line is left")
        print(f"a full disk under {durability}: {refused} of {len(during)} calls refused, recovery {1000 * took:.0f} ms; "
              f"{sidecar.verify().splitlines()[0]}")
    finally:
        if sidecar.process and sidecar.process.poll() is None:
            sidecar.kill()
        subprocess.run(["umount", str(disk)], check=True)
    sidecar.remove()


def file_limit(binary):
    """The process may not write files larger than so: its signal does not kill it."""
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream)
    sidecar.start()
    agent = Agent(sidecar.address)
    answers = [agent.call() for _ in range(20)]
    limit = lambda size: subprocess.run(["prlimit", "--pid", str(sidecar.pid()), f"--fsize={size}:unlimited"], check=True)
    until("an idle log", lambda: sidecar.log.read_bytes().count(b'"type":"outcome"') == len(answers))
    limit(sidecar.log.stat().st_size)

    def refused():
        answers.append(agent.call())
        return answers[-1].unrecorded

    until("a file limit: calls are refused", refused)
    limit("unlimited")
    more, took = recovered(agent, "a file limit")
    agent.close()
    sidecar.stop()
    account(sidecar, upstream, answers + more, "a file limit")
    print(f"a file limit: refused, recovery {1000 * took:.0f} ms; {sidecar.verify().splitlines()[0]}")
    sidecar.remove()


def replaced(binary, kind, durability):
    """Something else stands at the log's place while it runs."""
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream, durability=durability)
    sidecar.start()
    what = f"{kind} in the log's place under {durability}"
    load = Load(sidecar.address, 2)
    until(f"{what}: calls pass", lambda: any(answer.passed for answer in load.answers))
    aside = sidecar.log.with_name("aside.jsonl")
    other = sidecar.log.with_name("other")
    {"FIFO": os.mkfifo, "directory": os.mkdir, "file": lambda path: path.write_text("a letter to a friend\n"),
     "symlink": lambda path: path.symlink_to("elsewhere")}[kind](other)
    os.link(sidecar.log, aside)
    before = other.lstat()
    swap(other, sidecar.log)
    noticed = until(f"{what}: calls are refused", lambda: load.answers[-1].unrecorded, 1)
    until(f"{what}: not ready", lambda: not sidecar.ready(), 1)
    during = load.during(0.3)
    require(during and all(answer.unrecorded for answer in during), f"{what}: a call passed")
    now = sidecar.log.lstat()
    require((before.st_ino, before.st_size, before.st_mode) == (now.st_ino, now.st_size, now.st_mode), f"{what}: it was touched")
    require(not sidecar.log.with_name("elsewhere").exists(), f"{what}: a link was followed")
    swap(aside, sidecar.log)
    answers, took = recovered(Agent(sidecar.address), what)
    answers += load.end()
    sidecar.stop()
    account(sidecar, upstream, answers, what)
    print(f"{what}: noticed after {1000 * noticed:.0f} ms, untouched, recovery {1000 * took:.0f} ms; "
          f"{sidecar.verify().splitlines()[0]}")
    sidecar.remove()


def swap(path, place):
    """Puts what is at `path` at `place` in one step, and what was there away."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, bytes(path), -100, bytes(place), 2) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


def deleted(binary, durability):
    """The log is deleted while it runs: its chain goes on in a new file."""
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream, durability=durability)
    sidecar.start()
    load = Load(sidecar.address, 2)
    until("calls pass", lambda: any(answer.passed for answer in load.answers))
    kept = sidecar.log.with_name("kept.jsonl")
    os.link(sidecar.log, kept)
    sidecar.log.unlink()
    took = until("a deleted log: a new file", sidecar.log.exists, 1)
    until("a deleted log: calls pass", lambda: load.answers[-1].passed, 1)
    answers = load.end()
    sidecar.stop()
    said = sidecar.verify(kept, sidecar.log).splitlines()[0]
    recorded = sidecar.decided()
    sidecar.log = kept
    recorded |= sidecar.decided()
    require(upstream.seen <= recorded, "a deleted log: a call without a record in the old or the new file")
    require({answer.decision for answer in answers if not answer.unrecorded} <= recorded, "a deleted log: an answer without a record")
    print(f"a deleted log under {durability}: a new file after {1000 * took:.0f} ms; both together: {said}")
    sidecar.remove()


def mounts():
    with tempfile.TemporaryDirectory() as place:
        mounted = os.geteuid() == 0 and works("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
        return mounted and works("umount", place)


def traces():
    return shutil.which("strace") and works("strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "true")


def works(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def main(binary, last):
    for durability in ("written", "synced", "memory"):
        deleted(binary, durability)
        for kind in ("FIFO", "symlink", "directory", "file"):
            replaced(binary, kind, durability)
    file_limit(binary)
    if mounts():
        for durability in ("written", "synced", "memory"):
            full_disk(binary, durability)
    else:
        print("skipped: a full disk (a small one cannot be mounted here)")
    if not traces():
        print("skipped: errors of system calls (no strace, or it may not trace here)")
        return
    for error in ERRORS:
        for durability in ("written", "synced", "memory"):
            holding(binary, error, durability)
    hanging(binary, 8)
    each_nth(binary, "write", "written", last, True)
    each_nth(binary, "write", "synced", last, True)
    each_nth(binary, "fdatasync", "synced", last, True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
