"""An official MCP server on a port of its own: prints the port, then a line per tool that ran.

server.py [FILE]: notes each request that carries an assertion in FILE, for verify.py.
"""

import asyncio
import base64
import json
import socket
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("tools")
released = asyncio.Semaphore(0)


def ran(tool: str) -> None:
    print(f"ran {tool}", flush=True)


@server.tool()
def echo(message: str) -> str:
    """Says it again."""
    ran("echo")
    return message


@server.tool()
async def count(steps: int, ctx: Context) -> str:
    """Counts; goes on to the next step only after `release` was called."""
    ran("count")
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await released.acquire()
    return f"counted to {steps}"


@server.tool()
def release() -> str:
    """Lets `count` go on by one step."""
    released.release()
    return "released"


@server.tool()
def erase(message: str) -> str:
    """What nobody is granted."""
    ran("erase")
    return message


def noting(app, file: str):
    """Wraps an ASGI application: writes down method, path, headers and body before it sees them."""

    async def wrapped(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if "outrider-assertion" in headers:
            note = {"method": scope["method"], "path": scope["path"], "headers": headers}
            note["body"] = base64.b64encode(body).decode()
            with open(file, "a", encoding="utf-8") as notes:
                print(json.dumps(note), file=notes)
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again():
            return next(whole, None) or await receive()

        return await app(scope, again, send)

    return wrapped


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = server.streamable_http_app(stateless_http=True)
    if len(sys.argv) > 1:
        app = noting(app, sys.argv[1])
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(main())
