"""The MCP connection of openai-agents, and an agent that uses it with a model that is made up."""

from contextlib import asynccontextmanager

from agents.mcp import MCPServerStreamableHttp

from . import Peer


class Agents(Peer):
    more = ["prompt", "resources", "template"]

    def __init__(self, server, second):
        super().__init__(server)
        self.second = second
        self.progress = None

    async def raw_call(self, tool: str, arguments: dict, progress):
        self.progress = progress
        meta = {"progressToken": "1"} if progress else None
        return await self.client.call_tool(tool, arguments, meta=meta)

    async def release(self, who: str) -> None:
        await self.second.call_tool("release", {"who": who})

    async def hear(self, message) -> None:
        params = getattr(getattr(message, "root", message), "params", None)
        if self.progress and hasattr(params, "progress"):
            await self.progress(params.progress)


@asynccontextmanager
async def connect(url: str, headers: dict):
    peer: Agents

    async def hear(message) -> None:
        await peer.hear(message)

    def server(handler):
        params = {"url": url, "headers": headers, "timeout": 20}
        return MCPServerStreamableHttp(params, message_handler=handler, client_session_timeout_seconds=20)

    async with server(hear) as first, server(None) as second:
        peer = Agents(first, second)
        yield peer
