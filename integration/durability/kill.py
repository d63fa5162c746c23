"""SIGKILL at random moments under load: no call reaches the upstream without a record that outlives the process."""

import json
import random
import sys
import time

from rig import Load, Sidecar, Upstream, require, spread

RESTART = 0.3  # seconds from exec to a listener that takes connections
HALF = b'{"type":"decision","decision_id":"0197f0c0-0000-7000-8000-0000000'


def cycles(binary, count):
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream)
    torn_file = sidecar.log.with_name(sidecar.log.name + ".torn")
    starts, reached, answered, torn = [], 0, 0, 0
    for cycle in range(count):
        sidecar.config["decision_log"]["durability"] = "synced" if cycle % 4 == 3 else "written"
        torn_before = torn_file.stat().st_size if torn_file.exists() else 0
        tail = tail_of(sidecar.log)
        starts.append(sidecar.start())
        if tail:
            require(torn_file.read_bytes()[torn_before:] == tail + b"\n", f"cycle {cycle}: the torn line is not in FILE.torn")
            torn += 1
        begin = sidecar.log.stat().st_size
        upstream.seen.clear()
        load = Load(sidecar.address, 8)
        time.sleep(random.uniform(0.02, 0.25))
        sidecar.kill()
        answers = load.end()
        time.sleep(0.02)  # what is in the sockets to the upstream arrives
        seen, recorded = set(upstream.seen), sidecar.decided(begin)
        require(seen <= recorded, f"cycle {cycle}: {len(seen - recorded)} calls reached the upstream without a record")
        told = {answer.decision for answer in answers if not answer.unrecorded}
        require(told <= recorded, f"cycle {cycle}: {len(told - recorded)} answers without a record")
        reached, answered = reached + len(seen), answered + len(told)
        if cycle % 5 == 4:
            # A power loss may leave what SIGKILL rarely does: part of a line.
            with open(sidecar.log, "ab") as log:
                log.write(HALF[: random.randrange(1, len(HALF))])
    starts.append(sidecar.start())
    sidecar.stop()
    said = sidecar.verify()
    print(f"{count} x SIGKILL under load: {reached} calls reached the upstream, {answered} were answered, all recorded; "
          f"{torn} torn lines mended; {said}")
    print(f"restart over a log of {sidecar.log.stat().st_size >> 20} MiB: {spread([1000 * s for s in starts], 'ms')}")
    bounded(starts)
    sidecar.remove()


def large(binary, size):
    """The same over a log of that many bytes."""
    upstream = Upstream()
    sidecar = Sidecar(binary, upstream)
    sidecar.start()
    Load(sidecar.address, 1).end()
    sidecar.stop()
    grow(sidecar.log, size)
    sidecar.start()  # reads all that it did not sign itself
    sidecar.stop()
    starts = []
    for _ in range(10):
        starts.append(sidecar.start())
        load = Load(sidecar.address, 8)
        time.sleep(0.1)
        sidecar.kill()
        load.end()
    print(f"restart over a log of {sidecar.log.stat().st_size >> 20} MiB: {spread([1000 * s for s in starts], 'ms')}")
    bounded(starts)
    sidecar.start()
    sidecar.stop()
    print(sidecar.verify())
    sidecar.remove()


def bounded(starts):
    middle = sorted(starts)[len(starts) // 2]
    require(middle <= RESTART, f"a restart takes {1000 * middle:.0f} ms, more than {1000 * RESTART:.0f}")


def grow(log, size):
    """Continues the chain with lines of a usual length up to that size; the log signs its end when it is started."""
    import hashlib

    last = json.loads(log.read_bytes().splitlines()[-1])
    seq, prev = last["seq"], last["hash"]
    filler = '"code":"ok","filler":"' + "x" * 900 + f'","instance":"{last["instance"]}"'
    with open(log, "ab", buffering=1 << 20) as out:
        written = log.stat().st_size
        while written < size:
            seq += 1
            body = f'{{"type":"decision","decision_id":"00000000-0000-7000-8000-{seq:012}",{filler},"seq":{seq},"prev":"{prev}"'.encode()
            prev = hashlib.sha256(body).hexdigest()
            written += out.write(body + f',"hash":"{prev}"}}\n'.encode())


def tail_of(log):
    """What stands behind the last whole line."""
    if not log.exists():
        return b""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - (1 << 20)))
        return file.read().rsplit(b"\n", 1)[-1]


if __name__ == "__main__":
    cycles(sys.argv[1], int(sys.argv[2]))
    large(sys.argv[1], int(float(sys.argv[3]) * (1 << 20)))
