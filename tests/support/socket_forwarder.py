"""Forwards TCP connections to a Unix socket: ``python -m tests.support.socket_forwarder HOST PORT SOCKET``.

In a network namespace, it makes a server reachable there that runs outside.
"""

import asyncio
import sys


async def forward(host: str, port: int, path: str) -> None:
    """Forward every connection, until the process is killed."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))

    server = await asyncio.start_server(handle, host, port)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(2**16):
            writer.write(content)
            await writer.drain()
    except ConnectionError as error:
        sys.stderr.write(f"a connection has ended: {error}\n")
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(forward(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
