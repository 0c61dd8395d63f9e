"""Asyncio tasks and I/O: cleanup that survives cancellation, threads that may fail to start, and pipes."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .protocol import CHUNK_SIZE, ToolFailed

_T = TypeVar("_T")
_running: set["asyncio.Task[Any]"] = set()


def run_to_completion(work: "Coroutine[Any, Any, _T]") -> "asyncio.Task[_T]":
    """Start a task that is not canceled with its caller, and hold a reference to it until it is done."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def run_in_thread(work: Callable[[], _T], timeout: float) -> _T:
    """Run a function in a thread and return its result.

    Raises:
        TimeoutError: it took longer than `timeout` seconds; the thread continues.
        ToolFailed: no thread could be started.
    """
    try:
        future = asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:
        raise ToolFailed("no thread can be started: the sandbox has reached its limit of processes") from None
    async with asyncio.timeout(timeout):
        return await future


async def join_thread(thread: threading.Thread) -> None:
    """Wait until a thread has ended."""
    while thread.is_alive():  # noqa: ASYNC110 - waiting for the event would take another thread
        await asyncio.sleep(0.002)


async def open_pipe_reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """Open the reading end of a pipe as a stream; closing the transport closes the descriptor."""
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=CHUNK_SIZE)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", buffering=0)
    )
    return stream, transport


async def read_chunk(stream: asyncio.StreamReader) -> bytes:
    """Read CHUNK_SIZE bytes, or what is left before the end of the stream."""
    try:
        return await stream.readexactly(CHUNK_SIZE)
    except asyncio.IncompleteReadError as error:
        return error.partial


async def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data to a non-blocking descriptor."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await _wait_until_writable(descriptor)


async def _wait_until_writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)
