"""An official MCP server on a port of its own: prints the port, then a line per tool that ran.

With mcp 1.x it is a legacy one, with sessions; with 2.x it serves both eras.

server.py [FILE]: notes each request that carries an assertion in FILE, for verify.py.
server.py --stdio FILE: speaks on its standard input instead, and says in FILE what ran.
"""

import asyncio
import base64
import contextlib
import json
import socket
import sys
import time
from collections import defaultdict

import uvicorn
from mcp.server.streamable_http import EventMessage, EventStore

try:
    from mcp.server.mcpserver import Context, MCPServer  # 2.x
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer

try:
    from mcp.types import Completion
except ImportError:
    from mcp_types import Completion


class Events(EventStore):
    """Keeps what was sent, so that a stream can be taken up again."""

    def __init__(self):
        self.kept: list = []

    async def store_event(self, stream_id, message):
        self.kept.append((stream_id, message))
        return str(len(self.kept) - 1)

    async def replay_events_after(self, last_event_id, send_callback):
        last = int(last_event_id)
        stream = self.kept[last][0]
        for number, (of, message) in enumerate(self.kept):
            if number > last and of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


LEGACY = MCPServer.__name__ == "FastMCP"
# reconnecting takes a client as long as the server tells it to wait
server = MCPServer("tools", **({"event_store": Events(), "retry_interval": 50} if LEGACY else {}))
released: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))


STDIO = sys.argv[1:2] == ["--stdio"]


def ran(tool: str, message: str) -> None:
    if STDIO:
        with open(sys.argv[2], "a", encoding="utf-8") as said:
            print(f"ran {tool} {message}", file=said)
    else:
        print(f"ran {tool} {message}", flush=True)


@server.tool()
def echo(message: str) -> str:
    """Says it again."""
    ran("echo", message)
    return message


@server.tool()
async def count(steps: int, who: str, ctx: Context) -> str:
    """Counts; goes on to the next step only after `release` was called."""
    ran("count", who)
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await released[who].acquire()
    return f"counted to {steps}"


@server.tool()
def release(who: str) -> str:
    """Lets `count` go on by one step."""
    released[who].release()
    return "released"


@server.tool()
async def announce(ctx: Context) -> str:
    """Says, without being asked, that the list of tools has changed: to sessions only."""
    with contextlib.suppress(AttributeError, RuntimeError):
        await ctx.session.send_tool_list_changed()
    return "announced"


@server.tool()
async def vanish(message: str, ctx: Context) -> str:
    """Closes its stream before it answers, to clients that can take it up again."""
    if LEGACY and not STDIO:
        await ctx.request_context.close_sse_stream()
    return message


@server.tool()
def erase(message: str) -> str:
    """What nobody is granted."""
    ran("erase", message)
    return message


@server.resource("note://today", mime_type="text/plain")
def today() -> str:
    """A note."""
    return "a note"


@server.resource("note://secret", mime_type="text/plain")
def secret() -> str:
    """What nobody is granted."""
    ran("read", "note://secret")
    return "a secret"


@server.resource("book://{title}", mime_type="text/plain")
def book(title: str) -> str:
    """Any book."""
    return f"the book {title}"


@server.prompt()
def greet(name: str) -> str:
    """Asks for a greeting."""
    return f"Greet {name}."


@server.completion()
async def complete(ref, argument, context) -> Completion:
    return Completion(values=[name for name in ("Ada", "Alan", "Grace") if name.startswith(argument.value)])


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
            note = {"at": time.time(), "method": scope["method"], "path": scope["path"], "headers": headers}
            note["body"] = base64.b64encode(body).decode()
            with open(file, "a", encoding="utf-8") as notes:
                print(json.dumps(note), file=notes)
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again():
            return next(whole, None) or await receive()

        return await app(scope, again, send)

    return wrapped


async def main() -> None:
    if STDIO:
        return await server.run_stdio_async()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = server.streamable_http_app()
    if len(sys.argv) > 1:
        app = noting(app, sys.argv[1])
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(main())
