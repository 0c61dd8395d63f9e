"""A local HTTP server with responses that a test chooses, for clients of JSON APIs."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

Answer = tuple[int, Any] | None


@asynccontextmanager
async def json_api(
    answer: Callable[[dict[str, Any]], Answer], port: int = 0
) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Run a server that responds with a status and a body, text or JSON; for None it closes the connection."""
    requests: list[dict[str, Any]] = []
    connections: dict[asyncio.Task[Any] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                requests.append({**body, "path": lines[0].split()[1], "authorization": headers.get("authorization")})
                response = answer(body)
                if response is None:
                    break
                status, content = response
                raw = (content if isinstance(content, str) else json.dumps(content)).encode()
                writer.write(
                    b"HTTP/1.1 %d X\r\nretry-after: 0.01\r\ncontent-length: %d\r\n\r\n" % (status, len(raw)) + raw
                )
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/", requests
    for writer in connections.values():
        writer.close()
    await asyncio.gather(*(task for task in connections if task is not None))  # not cancelled with the event loop
