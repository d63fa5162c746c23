"""The official Python client 1.x."""

import asyncio
from contextlib import asynccontextmanager

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from . import Peer, noting


@asynccontextmanager
async def connect(url: str, headers: dict):
    announced = asyncio.Event()
    http = httpx.AsyncClient(headers=headers, timeout=20)
    async with (
        http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write, message_handler=noting(announced)) as session,
    ):
        await session.initialize()
        peer = Peer(session)
        peer.announced = announced
        yield peer
