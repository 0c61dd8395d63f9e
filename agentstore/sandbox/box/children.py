"""Work of the box that runs in forked processes: file tools and archives. Unlike a thread, a process can be killed."""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .files import Files
from .processes import Child, Processes
from .protocol import ToolFailed, encode_frame, encode_response, error_result
from .tasks import run_to_completion


class _Worker(NamedTuple):
    child: Child
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class FileTools:
    """Call the file tools in forked processes, of which an idle one is used again."""

    def __init__(self, processes: Processes, files: Files) -> None:
        self._processes = processes
        self._files = files
        self._idle: _Worker | None = None

    async def call(self, tool: str, arguments: dict[str, Any], timeout: float) -> bytes:
        """Call a tool, and return the encoded response with its result.

        Raises:
            TimeoutError: it took longer than `timeout` seconds, and was killed.
            ToolFailed: the process could not be started, or was killed.
        """
        worker, self._idle = self._idle, None
        if worker is None or worker.child.exited.done():
            worker = await self._start()
        is_reusable = False
        try:
            async with asyncio.timeout(timeout):
                worker.writer.write(encode_frame(json.dumps([tool, arguments]).encode()))
                (size,) = struct.unpack("!Q", await worker.reader.readexactly(8))
                response = await worker.reader.readexactly(size)
            is_reusable = True
            return response
        except (EOFError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise ToolFailed("the tool was killed: the sandbox reached one of its limits") from error
        finally:
            if is_reusable and self._idle is None:
                self._idle = worker
            else:
                worker.writer.close()
                await end(self._processes, worker.child)

    async def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = await self._processes.fork(lambda: self._serve(theirs), {theirs.fileno()})
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return _Worker(child, reader, writer)

    def _serve(self, connection: socket.socket) -> None:
        """Call tools, in the forked process, until the box closes the connection."""
        stream = connection.makefile("rb")
        while header := stream.read(4):
            tool, arguments = json.loads(stream.read(struct.unpack("!I", header)[0]))
            try:
                result = self._files.call(tool, arguments)
            except MemoryError:
                result = error_result("the sandbox ran out of memory while the tool was running")
            pieces = list(encode_response({"result": result}))
            write(connection.fileno(), [struct.pack("!Q", sum(map(len, pieces))), *pieces])


async def fork(processes: Processes, work: Callable[[], None], reading: int, writing: int, *kept: int) -> Child:
    """Run a function in a forked process that keeps `writing` and `kept`, while this process keeps `reading`.

    Raises:
        ToolFailed: no process can be started; `reading` and `writing` are closed.
    """
    try:
        child = await processes.fork(work, {writing, *kept})
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return child


async def end(processes: Processes, child: Child) -> None:
    """Kill a forked process, unless it has exited."""
    if not child.exited.done():
        await asyncio.shield(run_to_completion(processes.kill_child(child)))


def write(descriptor: int, pieces: Iterable[bytes]) -> None:
    """Write all pieces to a blocking descriptor."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]
