"""The official Python client 2.x."""

import asyncio
from contextlib import asynccontextmanager

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from . import Peer, command, noting


@asynccontextmanager
async def connect(url: str, headers: dict):
    announced = asyncio.Event()
    http = httpx2.AsyncClient(headers=headers, timeout=20)
    local = command(url, headers)
    transport = (
        stdio_client(StdioServerParameters(**local)) if local else streamable_http_client(url, http_client=http)
    )
    async with http, Client(transport, mode="auto", message_handler=noting(announced)) as client:
        peer = Peer(client)
        peer.modern, peer.revision, peer.announced = True, client.protocol_version, announced
        yield peer
