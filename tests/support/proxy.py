"""A TCP proxy that simulates network failures between clients and a server."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards bytes between clients and a server, and fails on demand.

    ``cut_after_send``: the next data of a client reaches the server, whose answer is lost with the connection.
    ``blackhole``: nothing is forwarded, and nothing is closed. ``drop_open()``: the same for open connections only.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._is_closed = False
        self.cut_after_send = False
        self.blackhole = False
        self.connections = 0
        self._dropped: range = range(0)

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for writer in self._writers:  # also of tasks that were canceled before they began
            writer.transport.abort()
        await self._listener.wait_closed()
        await asyncio.sleep(0)  # the aborted connections are closed in the next turn of the loop

    def drop_open(self, first: int | None = None) -> None:
        """Forward nothing more on the connections that are open now, or on the first of them."""
        self._dropped = range(self.connections if first is None else first)

    def refuse(self) -> None:
        """Refuse new connections."""
        self._listener.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self._is_closed:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer, self.connections))
        self.connections += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._server)
        self._writers.append(up_writer)
        answers = asyncio.create_task(self._forward_all(up_reader, writer, number))

        def close_client(_: asyncio.Task[None]) -> None:
            writer.transport.abort()

        answers.add_done_callback(close_client)
        try:
            while data := await reader.read(65536):
                await self._forward(data, up_writer, number)
                if self.cut_after_send:
                    self.cut_after_send = False
                    answers.remove_done_callback(close_client)
                    answers.cancel()
                    await asyncio.wait([answers])
                    await up_reader.read(65536)  # the server answers after it has executed what was sent
                    return
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            answers.cancel()
            await asyncio.wait([answers])
            for each in (writer, up_writer):
                each.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await each.wait_closed()

    async def _forward_all(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, number: int) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self._forward(data, target, number)

    async def _forward(self, data: bytes, target: asyncio.StreamWriter, number: int) -> None:
        if self.blackhole or number in self._dropped:
            await asyncio.Event().wait()
        target.write(data)
        await target.drain()
