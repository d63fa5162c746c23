"""The command line of the MCP inspector: each request is a process of its own."""

import asyncio
import json
from contextlib import asynccontextmanager

from . import Peer

MEMBERS = {"resource_templates": ("resources/templates/list", "resourceTemplates", "uriTemplate")}


class Inspector(Peer):
    """It shows no progress: the steps are let go one after the other while the call runs."""

    more = ["resources", "template", "prompt"]
    calls_unlisted = False

    def __init__(self, url: str, headers: dict):
        heads = [f"{name}: {value}" for name, value in headers.items()]
        self.common = ["mcp-inspector", "--cli", url, "--transport", "http", "--protocol-era", "auto"]
        self.common += ["--header", *heads] if heads else []

    async def ask(self, method: str, *options: str) -> dict:
        command = [*self.common, "--method", method, "--format", "json", "-q", *options]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        try:
            answer = json.loads(out)
        except ValueError:
            raise RuntimeError(f"status {process.returncode}: {err.decode().strip()}") from None
        return answer.get("result", answer)

    async def names(self, kind: str) -> set[str]:
        name = "uri" if kind == "resources" else "name"
        method, member, name = MEMBERS.get(kind, (f"{kind}/list", kind, name))
        return {item[name] for item in (await self.ask(method))[member]}

    async def call(self, tool: str, arguments: dict, progress=None) -> tuple[str, bool]:
        options = ["--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
        call = asyncio.create_task(self.ask("tools/call", *options))
        if progress:
            for step in range(1, arguments["steps"] + 1):
                await progress(step)
        result = await call
        return result["content"][0]["text"], result.get("isError", False)

    async def read(self, uri: str) -> str:
        return (await self.ask("resources/read", "--uri", uri))["contents"][0]["text"]

    async def prompt(self, name: str, arguments: dict) -> str:
        pairs = [f"{key}={value}" for key, value in arguments.items()]
        answer = await self.ask("prompts/get", "--prompt-name", name, "--prompt-args", *pairs)
        return answer["messages"][0]["content"]["text"]


@asynccontextmanager
async def connect(url: str, headers: dict):
    yield Inspector(url, headers)
