"""The tools that langchain-mcp-adapters makes of a server's; each call opens a session of its own."""

from contextlib import asynccontextmanager

from langchain_mcp_adapters.callbacks import Callbacks
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import convert_mcp_tool_to_langchain_tool
from mcp.types import Tool

from . import Peer


class LangChain(Peer):
    more = ["resources", "template", "prompt"]

    def __init__(self, connection: dict):
        self.connection = connection
        super().__init__(self.with_progress(None))

    def with_progress(self, progress) -> MultiServerMCPClient:
        callbacks = Callbacks(on_progress=progress) if progress else None
        return MultiServerMCPClient({"server": self.connection}, callbacks=callbacks)

    async def names(self, kind: str) -> set[str]:
        if kind == "tools":
            return {tool.name for tool in await self.client.get_tools()}
        async with self.client.session("server") as session:
            return await Peer(session).names(kind)

    async def call(self, tool: str, arguments: dict, progress=None) -> tuple[str, bool]:
        tools = {tool.name: tool for tool in await self.with_progress(progress).get_tools()}
        if tool not in tools:  # a model names what it was never shown
            made_up = Tool(name=tool, inputSchema={"type": "object"})
            tools[tool] = convert_mcp_tool_to_langchain_tool(None, made_up, connection=self.connection)
        call = {"type": "tool_call", "id": "1", "name": tool, "args": arguments}
        message = await tools[tool].ainvoke(call)
        return message.content[0]["text"], message.status == "error"

    async def read(self, uri: str) -> str:
        return (await self.client.get_resources("server", uris=uri))[0].as_string()

    async def prompt(self, name: str, arguments: dict) -> str:
        return (await self.client.get_prompt("server", name, arguments=arguments))[0].content


@asynccontextmanager
async def connect(url: str, headers: dict):
    yield LangChain({"transport": "streamable_http", "url": url, "headers": headers})
