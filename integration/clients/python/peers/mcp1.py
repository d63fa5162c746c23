"""The official Python client 1.x."""

import asyncio
from contextlib import asynccontextmanager

import httpx
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from . import Peer, command, noting


@asynccontextmanager
async def connect(url: str, headers: dict):
    announced = asyncio.Event()
    http = httpx.AsyncClient(headers=headers, timeout=20)
    local = command(url, headers)
    transport = (
        stdio_client(StdioServerParameters(**local)) if local else streamable_http_client(url, http_client=http)
    )
    async with (
        http,
        transport as (read, write, *_),
        ClientSession(read, write, message_handler=noting(announced)) as session,
    ):
        await session.initialize()
        peer = Peer(session)
        peer.announced = announced
        yield peer
