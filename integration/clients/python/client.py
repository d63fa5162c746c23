"""The official Python client: list, call, streamed call, refused call, call again.

client.py URL [TOKEN]: with a token the calls go through Outrider, where `erase` is not granted.
Prints `PASS step` or `FAIL step: why`; exits 1 if any failed.
"""

import asyncio
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

ALL = {"echo", "count", "release", "erase"}


async def lists(client: Client, guarded: bool) -> None:
    names = {tool.name for tool in (await client.list_tools()).tools}
    expected = ALL - {"erase"} if guarded else ALL
    assert names == expected, names


async def calls(client: Client) -> None:
    result = await client.call_tool("echo", {"message": "h\u00e9llo"})
    assert not result.is_error, result
    assert result.content[0].text == "h\u00e9llo", result


async def streams(client: Client) -> None:
    """The server waits for `release` after each step: a buffered event would never be answered."""
    seen: list[float] = []

    async def progress(step: float, total: float | None, message: str | None) -> None:
        seen.append(step)
        await client.call_tool("release", {})

    result = await client.call_tool("count", {"steps": 3}, progress_callback=progress)
    assert result.content[0].text == "counted to 3", result
    assert seen == [1, 2, 3], seen


async def is_refused(client: Client) -> None:
    result = await client.call_tool("erase", {"message": "x"})
    assert result.is_error, result
    decision = (result.meta or {})["outrider/decision"]
    assert decision["code"] == "policy_denied", decision
    assert decision["id"] in result.content[0].text, result


async def check(url: str, token: str) -> bool:
    headers = {"Outrider-Task-Token": token} if token else {}
    http = httpx2.AsyncClient(headers=headers, timeout=20)
    good = True
    async with http, Client(streamable_http_client(url, http_client=http), mode="auto") as client:
        steps = {"list": lists(client, bool(token)), "call": calls(client), "stream": streams(client)}
        if token:
            steps["refused"] = is_refused(client)
        steps["call again"] = calls(client)
        for name, step in steps.items():
            try:
                await asyncio.wait_for(step, 20)
                print(f"PASS {name}", flush=True)
            except Exception as why:  # noqa: BLE001: whatever it is, the step failed
                good = False
                print(f"FAIL {name}: {type(why).__name__} {why}", flush=True)
        version = client.protocol_version
        if version != "2026-07-28":
            good = False
            print(f"FAIL revision: fell back to {version}", flush=True)
    return good


sys.exit(not asyncio.run(check(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")))
