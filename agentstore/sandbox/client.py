"""The client of a box's socket, in the protocol of :mod:`agentstore.sandbox.box.protocol`.

Code in the sandbox may forge whatever a box sends. Nothing that is received is trusted: sizes are bounded, and a
violation of the protocol raises SandboxFailed.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, cast

from agentstore.errors import InvalidContent, SandboxFailed, SandboxLost, SandboxUnavailable
from agentstore.sandbox.box.protocol import CHUNK_SIZE, MAX_REQUEST_SIZE, VALUE_KEYS, encode_frame
from agentstore.schemas.sandbox import ToolResult

_MAX_RESPONSE_SIZE = 64_000_000
# A directory may have 50,000 files, and each is a part of a result with three values.
_MAX_VALUES = 1_000_000
START_TIMEOUT = 15.0
"""Seconds in which a new box must report that it is ready."""


async def send_request(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Connect to a box, send a request and return the response, which may be an error: see :func:`raise_errors`.

    Raises:
        InvalidContent: the request cannot be encoded, or is too large.
        SandboxLost, SandboxUnavailable: there is no box at `path`, or it cannot be reached.
        SandboxFailed: the response violates the protocol.
    """
    async with _connect(path) as (reader, writer):
        await _write_request(writer, request)
        return await _read_response(reader)


async def receive_workspace(path: str, timeout: float) -> AsyncGenerator[bytes, None]:
    """Yield the workspace of a box as a tar archive, in chunks of at most CHUNK_SIZE bytes.

    Raises:
        SandboxLost, SandboxUnavailable, SandboxFailed: as :func:`send_request`, or it took longer than `timeout`
            seconds, or the workspace cannot be packed.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    async with _connect(path) as (reader, writer):
        async with _until(deadline):
            await _write_request(writer, {"op": "pack"})
        while True:
            async with _until(deadline):
                chunk = await _read_frame(reader, CHUNK_SIZE)
            if not chunk:
                break
            yield chunk
        async with _until(deadline):
            raise_errors(await _read_response(reader))


async def send_workspace(path: str, archive: AsyncIterator[bytes], timeout: float) -> None:
    """Unpack a tar archive into the workspace of a box.

    Raises:
        SandboxLost, SandboxUnavailable, SandboxFailed: as :func:`receive_workspace`.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    async with _connect(path) as (reader, writer):
        async with _until(deadline):
            await _write_request(writer, {"op": "unpack"})
        async for data in archive:
            async with _until(deadline):
                for start in range(0, len(data), CHUNK_SIZE):
                    writer.write(encode_frame(data[start : start + CHUNK_SIZE]))
                    await writer.drain()
        async with _until(deadline):
            writer.write(encode_frame(b""))
            await writer.drain()
            raise_errors(await _read_response(reader))


async def configure(owner: socket.socket, configuration: bytes) -> Any:
    """Send a new box its configuration, on the socket of its owner, and return its first message."""
    loop = asyncio.get_running_loop()
    owner.setblocking(False)
    async with asyncio.timeout(START_TIMEOUT):
        await loop.sock_sendall(owner, encode_frame(configuration))
        received = b""
        while len(received) < 4 or len(received) < 4 + min(struct.unpack("!I", received[:4])[0], 1000):
            data = await loop.sock_recv(owner, 1000)
            if not data:
                raise EOFError
            received += data
    return json.loads(received[4:])


def can_connect(path: str) -> bool:
    """Return whether a process listens on a socket. Blocks for at most 0.2 s."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def raise_errors(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response, or raise the error that it reports.

    Raises:
        InvalidContent, SandboxUnavailable, SandboxFailed: the response is ``invalid``, ``unavailable`` or ``failed``.
    """
    for key, error in (("invalid", InvalidContent), ("unavailable", SandboxUnavailable), ("failed", SandboxFailed)):
        if key in response:
            raise error(str(response[key])[:2000])
    return response


def parse_result(value: Any) -> ToolResult:
    """Return the result of a tool.

    Raises:
        SandboxFailed: it is malformed.
    """
    if isinstance(value, dict) and isinstance(value.get("isError"), bool) and isinstance(value.get("content"), list):
        parts = value["content"]
        if all(
            isinstance(part, dict)
            and all(isinstance(each, str) for each in part.values())
            and VALUE_KEYS.get(part.get("type", ""), "") in part
            for part in parts
        ):
            return ToolResult.of(*parts, is_error=value["isError"])
    raise SandboxFailed("the sandbox returned a malformed tool result")


@contextlib.asynccontextmanager
async def _connect(path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to a box, and translate the errors of the socket.

    Raises:
        SandboxLost: the box has ended.
        SandboxUnavailable: the socket cannot be opened: it belongs to another user, or has too many connections.
    """
    writer = None
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        yield reader, writer
    except (FileNotFoundError, ConnectionError) as error:
        raise SandboxLost("the sandbox no longer exists") from error
    except EOFError as error:
        raise SandboxLost("the sandbox ended before it responded") from error
    except OSError as error:
        raise SandboxUnavailable(f"the sandbox cannot be reached: {error}") from error
    finally:
        if writer is not None:
            # Abort instead of flushing what the box has not read: a request is canceled by disconnecting.
            writer.transport.abort()


@contextlib.asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise SandboxUnavailable("the sandbox did not respond in time") from None


async def _write_request(writer: asyncio.StreamWriter, request: Mapping[str, Any]) -> None:
    try:
        data = json.dumps(request, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidContent(f"the arguments cannot be encoded as JSON: {error}") from error
    if len(data) > MAX_REQUEST_SIZE:
        raise InvalidContent(
            f"the arguments have {len(data):,} bytes as JSON, and at most {MAX_REQUEST_SIZE:,} are allowed"
        )
    writer.write(encode_frame(data))
    await writer.drain()


async def _read_frame(reader: asyncio.StreamReader, largest: int) -> bytes:
    size = struct.unpack("!I", await reader.readexactly(4))[0]
    if size > largest:
        raise SandboxFailed(f"the sandbox sent {size:,} bytes, and at most {largest:,} are allowed")
    return await reader.readexactly(size)


async def _read_response(reader: asyncio.StreamReader) -> dict[str, Any]:
    data = await _read_frame(reader, _MAX_RESPONSE_SIZE // 4)
    # json.loads blocks the event loop, so the number of values is bounded. Long strings are not part of the JSON.
    if sum(map(data.count, (b"[", b"{", b","))) > _MAX_VALUES:
        raise SandboxFailed(f"the sandbox sent a response with more than {_MAX_VALUES:,} values")
    try:
        response = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SandboxFailed("the sandbox sent a response that is not valid JSON") from error
    if not isinstance(response, dict):
        raise SandboxFailed("the sandbox sent a response that is not a JSON object")
    await _read_long_values(reader, response.get("result"))
    return cast("dict[str, Any]", response)


async def _read_long_values(reader: asyncio.StreamReader, result: Any) -> None:
    """Read the values that follow a response, and put them into the parts of its result."""
    content = result.get("content") if isinstance(result, dict) else None
    total = 0
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict) or "size" not in part:
            continue
        size, key = part.pop("size"), VALUE_KEYS.get(str(part.get("type")))
        if type(size) is not int or size < 0 or key is None:
            raise SandboxFailed("the sandbox sent a result with an invalid size or type of a part")
        total += size
        if total > _MAX_RESPONSE_SIZE:
            raise SandboxFailed(f"the sandbox sent {total:,} bytes, and at most {_MAX_RESPONSE_SIZE:,} are allowed")
        try:
            part[key] = (await reader.readexactly(size)).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise SandboxFailed("the sandbox sent text that is not valid UTF-8") from error
