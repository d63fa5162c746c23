"""What each Python client does, whatever its own way of saying it.

scenario.py PEER URL CELL ERA [TOKEN]: PEER is a module of peers/; CELL goes into what is said, so that
the servers' output tells whose call ran; ERA is the server's, `modern` or `legacy`; with a TOKEN the
calls go through Outrider, which hides what is not granted; `-` stands for one that comes by the proxy's URL. Prints `PASS step` or `FAIL step: why`;
exits 1 if any failed.
"""

import asyncio
import importlib
import re
import sys

from peers import Peer

TOOLS = {"echo", "count", "release", "announce", "vanish", "erase"}
DECISION = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")
STEP_SECONDS = 20


def same(got, expected) -> None:
    assert got == expected, f"got {got!r}, not {expected!r}"


def said_by(why: BaseException) -> str:
    """All that an exception says, with what it was raised from or is a group of."""
    inner = [*getattr(why, "exceptions", []), *([why.__cause__] if why.__cause__ else [])]
    return " / ".join([f"{type(why).__name__} {why}".strip(), *map(said_by, inner)]).replace("\n", " ")


def hiding(everything: set[str], hidden: str, guarded: bool) -> set[str]:
    return everything - {hidden} if guarded else everything


class Scenario:
    def __init__(self, peer: Peer, cell: str, guarded: bool):
        self.peer, self.cell, self.guarded = peer, cell, guarded

    async def tools(self) -> None:
        same(await self.peer.names("tools"), hiding(TOOLS, "erase", self.guarded))

    async def call(self) -> None:
        said = f"h\u00e9llo {self.cell}"
        same(await self.peer.call("echo", {"message": said}), (said, False))

    async def stream(self) -> None:
        """The server waits for `release` after each step: a buffered event would never be answered."""
        seen: list[float] = []
        releases = []

        async def progress(step: float, *_) -> None:
            seen.append(step)
            # not awaited here: some clients read no further until this returns
            releases.append(asyncio.create_task(self.peer.release(self.cell)))

        answer = await self.peer.call("count", {"steps": 3, "who": self.cell}, progress)
        same(answer, ("counted to 3", False))
        same(seen, [1, 2, 3])
        await asyncio.gather(*releases)

    async def is_refused(self, code: str, tool: str, arguments: dict) -> None:
        text, is_error = await self.peer.call(tool, arguments)
        assert is_error, text
        assert DECISION.search(text) and code in text, text

    async def refused_tool(self) -> None:
        await self.is_refused("policy_denied", "erase", {"message": self.cell})

    async def refused_by_rule(self) -> None:
        await self.is_refused("policy_denied", "echo", {"message": f"forbidden {self.cell}"})

    async def refused_by_schema(self) -> None:
        await self.is_refused("schema_violation", "echo", {"message": ["forbidden", self.cell]})

    async def resources(self) -> None:
        everything = {"note://today", "note://secret"}
        same(await self.peer.names("resources"), hiding(everything, "note://secret", self.guarded))
        same(await self.peer.read("note://today"), "a note")
        if self.guarded:
            await self.is_not_read("note://secret")

    async def is_not_read(self, uri: str) -> None:
        try:
            read = await self.peer.read(uri)
        except Exception as refusal:  # noqa: BLE001: each client has an error type of its own
            assert DECISION.search(said_by(refusal)), said_by(refusal)
            return
        raise AssertionError(f"read {read!r}")

    async def template(self) -> None:
        same(await self.peer.names("resource_templates"), {"book://{title}"})
        same(await self.peer.read("book://dune"), "the book dune")

    async def prompt(self) -> None:
        same(await self.peer.names("prompts"), {"greet"})
        same(await self.peer.prompt("greet", {"name": "Ada"}), "Greet Ada.")

    async def completion(self) -> None:
        same(await self.peer.complete("greet", "name", "A"), ["Ada", "Alan"])

    async def announced(self) -> None:
        """What the server says without being asked comes over the stream that GET opened."""
        for _ in range(STEP_SECONDS):
            await self.peer.call("announce", {})
            try:
                await asyncio.wait_for(self.peer.announced.wait(), 1)
                return
            except TimeoutError:
                pass  # the stream was not open yet
        raise AssertionError("nothing came")

    async def resumed(self) -> None:
        """The stream ends before the answer, which comes when the client asks for the rest."""
        same(await self.peer.call("vanish", {"message": self.cell}), (self.cell, False))

    async def agent(self) -> None:
        """A model calls the tools."""
        said = f"said by a model in {self.cell}"
        same(await self.peer.agent("echo", {"message": said}), said)
        if self.guarded:
            told = await self.peer.agent("echo", {"message": f"forbidden {self.cell}"})
            assert DECISION.search(told), told

    def steps(self, era: str) -> list[str]:
        steps = ["tools", "call", "stream"]
        if self.guarded:
            steps += ["refused_tool"] if self.peer.calls_unlisted else []
            steps += ["refused_by_rule", "refused_by_schema"]
        if era == "legacy":
            steps += ["resumed", *(["announced"] if self.peer.announced else [])]
        return [*steps, *self.peer.more, "call"]


async def check(module: str, url: str, cell: str, era: str, token: str = "") -> bool:
    headers = {"Outrider-Task-Token": token} if token not in ("", "-") else {}
    good = True

    def failed(step: str, why: str) -> None:
        nonlocal good
        good = False
        print(f"FAIL {step}: {why}", flush=True)

    try:
        async with importlib.import_module(f"peers.{module}").connect(url, headers) as peer:
            scenario = Scenario(peer, cell, bool(token))
            for step in scenario.steps(era):
                try:
                    await asyncio.wait_for(getattr(scenario, step)(), STEP_SECONDS)
                    print(f"PASS {step}", flush=True)
                except Exception as why:  # noqa: BLE001: whatever it is, the step failed
                    failed(step, said_by(why))
            if era == "modern" and peer.modern and peer.revision != "2026-07-28":
                failed("revision", f"fell back to {peer.revision}")
    except Exception as why:  # noqa: BLE001: as above
        failed("connection", said_by(why))
    return good


if __name__ == "__main__":
    sys.exit(not asyncio.run(check(*sys.argv[1:])))
