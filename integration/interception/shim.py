"""Lets a client that speaks plain HTTP speak through a proxy that looks into TLS.

    shim.py LISTEN_PORT PROXY_PORT HOST CA_FILE

What is accepted on 127.0.0.1:LISTEN_PORT goes, byte for byte, through a tunnel to HOST:443 that
the proxy opens, inside TLS that CA_FILE proves.
"""

import asyncio
import ssl
import sys

listen, proxy, host, authority = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]


async def copy(reader, writer):
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


async def serve(reader, writer):
    try:
        context = ssl.create_default_context(cafile=authority)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", proxy)
        inner_writer.write(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
        head = await inner_reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(head)
        await inner_writer.start_tls(context, server_hostname=host)
        up = asyncio.ensure_future(copy(reader, inner_writer))
        down = asyncio.ensure_future(copy(inner_reader, writer))
        # An agent that has said all still hears the answer; one that is gone ends the tunnel.
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        if not down.done():
            failed = up.exception()
            if failed is None:
                await asyncio.wait([down], timeout=15)
        up.cancel()
        down.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        inner_writer.close()
    except (OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
        print(f"shim: {error}", file=sys.stderr)
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", listen, backlog=256)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
