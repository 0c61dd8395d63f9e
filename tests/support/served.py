"""An ASGI application with a store, and a server for it: ``python -m tests.support.served URL asyncio|uvicorn``.

The store is stopped by the shutdown of the lifespan, as in an application with FastAPI or Starlette. The server of
asyncio ends as uvicorn does: on SIGTERM it accepts no more requests, cancels those that are still running after the
timeout for a graceful shutdown, and then shuts the lifespan down. Prints the port, and a line for each request.
"""

import asyncio
import importlib
import signal
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from agentstore import AgentStore
from tests.support.pgbouncer import free_port

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

GRACE = 1
CALLS = 5


class Application:
    """Each request makes some calls at once."""

    def __init__(self, url: str) -> None:
        self._store = AgentStore(url)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self._store.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._store.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
        print("request", flush=True)
        await asyncio.gather(*(self._store.users.set_metadata(f"u{number}", {}) for number in range(CALLS)))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


async def _serve(app: Application, port: int) -> None:
    lifespan: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    requests: set[asyncio.Task[None]] = set()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        task = asyncio.current_task()
        assert task is not None
        requests.add(task)
        try:
            if await reader.readline():  # otherwise a client that only connects
                await app({"type": "http"}, lifespan.get, send)
        except asyncio.CancelledError:
            pass  # by the shutdown
        finally:
            requests.discard(task)
            writer.close()

    running = asyncio.create_task(app({"type": "lifespan"}, lifespan.get, sent.put))
    await lifespan.put({"type": "lifespan.startup"})
    await sent.get()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(respond, "127.0.0.1", port)
    await ended.wait()
    server.close()
    if requests:
        _, pending = await asyncio.wait(set(requests), timeout=GRACE)
        for task in pending:
            task.cancel()
    await lifespan.put({"type": "lifespan.shutdown"})
    await running


if __name__ == "__main__":
    app, port = Application(sys.argv[1]), free_port()
    print(port, flush=True)
    if sys.argv[2] == "uvicorn":
        uvicorn = importlib.import_module("uvicorn")
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=GRACE)
    else:
        asyncio.run(_serve(app, port))
