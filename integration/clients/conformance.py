"""The conformance suite against an official server, directly and through Outrider: no check may get worse."""

import json
import pathlib
import socket
import subprocess

import harness

# what Outrider passes on from this server to a client only because its configuration names it
SERVER_REQUESTS = ["sampling/createMessage", "elicitation/create"]
EXPECTED = 44  # checks of suite 0.1.16 that an official server passes; with fewer, nothing is compared
RANK = {"SUCCESS": 3, "INFO": 2, "SKIPPED": 2, "WARNING": 1, "FAILURE": 0}


def verdicts(url: str, results: pathlib.Path) -> dict[str, str]:
    """The worst status of each check, as `scenario: check`."""
    command = ["conformance", "server", "--url", url, "--suite", "all", "-o", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    found: dict[str, str] = {}
    for file in sorted(results.glob("server-*/checks.json")):
        scenario = file.parent.name.removeprefix("server-").rsplit("-", 6)[0]
        for check in json.loads(file.read_text()):
            name = f"{scenario}: {check['id']}"
            if RANK[check["status"]] < RANK[found.get(name, "SUCCESS")] or name not in found:
                found[name] = check["status"]
    if not found:
        raise RuntimeError(f"the suite said nothing:\n{done.stdout}\n{done.stderr}")
    return found


def compare(direct: dict[str, str], through: dict[str, str]) -> bool:
    """Prints each check that says more than what was sent; tells whether none got worse."""
    worse = 0
    print(f"{'check':72} {'direct':8} {'through':8}")
    for name in sorted(direct | through):
        # what one side did not come to says nothing, unless it was a verdict
        one, other = direct.get(name, "INFO"), through.get(name, "absent")
        rank = RANK.get(other, RANK["FAILURE"] if RANK[one] != RANK["INFO"] else RANK["INFO"])
        if rank == RANK[one] == RANK["INFO"]:
            continue
        said = "same" if rank == RANK[one] else "better" if rank > RANK[one] else "WORSE"
        worse += said == "WORSE"
        print(f"{name:72} {direct.get(name, 'absent'):8} {other:8} {said}")
    print(f"{worse} checks are worse through Outrider")
    return worse == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def through(outrider: str, upstream: str, work: pathlib.Path) -> dict[str, str]:
    sidecar = harness.Sidecar(outrider, work)
    try:
        sidecar.add("server", upstream, server_requests=SERVER_REQUESTS)
        port = free_port()  # the suite sends an Origin, which the configuration must name with its port
        listener = {"address": f"127.0.0.1:{port}", "origins": [f"http://127.0.0.1:{port}"]}
        # the suite cannot send a header
        sidecar.start(["*/*"], listener=listener, options=("--open-task",))
        return verdicts(f"http://{sidecar.address}/server", work / "through")
    finally:
        sidecar.stop()


def check(outrider: str, work: pathlib.Path) -> bool:
    work.mkdir()
    server = harness.Process(work, "server", harness.node("conformance.mjs"))
    try:
        upstream = f"http://127.0.0.1:{server.first_line()}/mcp"
        direct = verdicts(upstream, work / "direct")
        if "FAILURE" in direct.values() or list(direct.values()).count("SUCCESS") < EXPECTED:
            raise RuntimeError(f"the server alone does not pass: {direct}")
        return compare(direct, through(outrider, upstream, work))
    finally:
        server.stop()
