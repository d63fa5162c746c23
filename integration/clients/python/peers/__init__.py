"""One way of asking for all the Python clients, which say the same things under the same names."""

import asyncio
import json
import os

EVERYTHING = ["resources", "template", "prompt", "completion"]
LISTED = {"tools": "name", "resources": "uri", "resource_templates": "uri_template", "prompts": "name"}


def member(value, name: str):
    """A member that the 1.x models spell in camel case."""
    head, *rest = name.split("_")
    camel = head + "".join(word.capitalize() for word in rest)
    return getattr(value, name) if hasattr(value, name) else getattr(value, camel)


class Peer:
    """A connection.

    `more`: the steps it can do beyond tools; `calls_unlisted`: it calls what no list has; `modern`: it
    speaks 2026-07-28 and tells its `revision`; `announced`: set once it heard that the tools changed.
    """

    more = EVERYTHING
    calls_unlisted = True
    modern = False
    revision = ""
    announced: asyncio.Event | None = None

    def __init__(self, client):
        self.client = client

    async def names(self, kind: str) -> set[str]:
        result = await getattr(self.client, f"list_{kind}")()
        items = result if isinstance(result, list) else member(result, kind)
        return {str(member(item, LISTED[kind])) for item in items}

    async def raw_call(self, tool: str, arguments: dict, progress):
        return await self.client.call_tool(tool, arguments, progress_callback=progress)

    async def call(self, tool: str, arguments: dict, progress=None) -> tuple[str, bool]:
        result = await self.raw_call(tool, arguments, progress)
        return result.content[0].text, bool(member(result, "is_error"))

    async def release(self, who: str) -> None:
        await self.call("release", {"who": who})

    async def read(self, uri: str) -> str:
        return (await self.client.read_resource(uri)).contents[0].text

    async def prompt(self, name: str, arguments: dict) -> str:
        return (await self.client.get_prompt(name, arguments)).messages[0].content.text

    async def complete(self, prompt: str, argument: str, value: str) -> list[str]:
        reference = self.types().PromptReference(type="ref/prompt", name=prompt)
        result = await self.client.complete(reference, {"name": argument, "value": value})
        return result.completion.values if hasattr(result, "completion") else result.values

    def types(self):
        import mcp.types

        return mcp.types


def command(url: str, headers: dict) -> dict | None:
    """What starts a server that is named by `stdio:` and a command in JSON; none for other URLs."""
    kind, _, words = url.partition(":")
    if kind != "stdio":
        return None
    program, *args = json.loads(words)
    token = headers.get("Outrider-Task-Token")
    return {"command": program, "args": args, "env": os.environ | ({"OUTRIDER_TASK_TOKEN": token} if token else {})}


def noting(event: asyncio.Event):
    """A message handler that sets the event when the list of tools is said to have changed."""

    async def handle(message) -> None:
        if "ToolListChanged" in f"{type(message).__name__} {type(getattr(message, 'root', None)).__name__}":
            event.set()

    return handle
