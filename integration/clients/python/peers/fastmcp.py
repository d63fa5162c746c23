"""The client of fastmcp."""

from contextlib import asynccontextmanager

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from . import Peer


class FastMcp(Peer):
    async def raw_call(self, tool: str, arguments: dict, progress):
        return await self.client.call_tool_mcp(tool, arguments, progress_handler=progress)

    async def read(self, uri: str) -> str:
        return (await self.client.read_resource(uri))[0].text


@asynccontextmanager
async def connect(url: str, headers: dict):
    async with Client(StreamableHttpTransport(url, headers=headers), timeout=20) as client:
        yield FastMcp(client)
