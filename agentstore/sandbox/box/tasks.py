"""Asyncio tasks and I/O: cleanup that survives cancellation, and pipes."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from .protocol import CHUNK_SIZE

_T = TypeVar("_T")
_running: set["asyncio.Task[Any]"] = set()


def run_to_completion(work: "Coroutine[Any, Any, _T]") -> "asyncio.Task[_T]":
    """Start a task that is not canceled with its caller, and hold a reference to it until it is done."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def open_pipe_reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """Open the reading end of a pipe as a stream; closing the transport closes the descriptor."""
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=CHUNK_SIZE)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", buffering=0)
    )
    return stream, transport


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
