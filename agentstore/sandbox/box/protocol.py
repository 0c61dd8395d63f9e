"""The protocol between the box and its client: size limits, frames, tool results and errors.

A frame is a length, 4 bytes in network byte order, followed by that many bytes. A request is one frame of JSON with
the key ``op``; the response is one frame of JSON with ``result``, ``ok``, or one of the errors ``invalid``,
``unavailable`` and ``failed``. Values of more than INLINE_SIZE bytes in the parts of a result are not in its JSON: the
part has ``size`` instead, and the values follow the frame in the order of their parts. An archive is sent as frames of
at most CHUNK_SIZE bytes, with an empty frame at its end.
"""

import asyncio
import json
import struct
from collections.abc import Iterator
from typing import Any

CHUNK_SIZE = 1_000_000
MAX_REQUEST_SIZE = 64_000_000
INLINE_SIZE = 10_000
MAX_FILE_SIZE = 16_000_000
"""The largest file that the tools read: results are held in memory, by the box and by its client."""

VALUE_KEYS = {"text": "text", "image": "data", "blob": "blob"}
"""The key of the value of a result's part, by the type of the part."""

Result = dict[str, Any]
"""The result of a tool: ``{"content": [part, ...], "isError": bool}``."""


class InvalidCall(Exception):
    """The sandbox has no such tool, or an argument does not match the tool's schema."""


class ToolFailed(Exception):
    """A tool could not be run. The message is the tool's result."""


class ArchiveFailed(Exception):
    """A workspace could not be packed, or an archive could not be unpacked."""


class KernelMissing(Exception):
    """The sandbox's Python has no IPython kernel."""


def text_part(value: str, description: str) -> dict[str, str]:
    """Return a part of a result."""
    return {"type": "text", "text": value, "description": description}


def tool_result(*content: dict[str, Any], is_error: bool = False) -> Result:
    """Return a result with these parts."""
    return {"content": list(content), "isError": is_error}


def error_result(message: str) -> Result:
    """Return a result that is an error, with a line of stderr."""
    return tool_result(text_part(message + "\n", "stderr"), is_error=True)


def encode_frame(data: bytes) -> bytes:
    """Prefix data with its length."""
    return struct.pack("!I", len(data)) + data


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Read a frame of at most MAX_REQUEST_SIZE bytes.

    Raises:
        ValueError: the frame is larger.
        EOFError: the stream ended before the frame did.
    """
    size = struct.unpack("!I", await reader.readexactly(4))[0]
    if size > MAX_REQUEST_SIZE:
        raise ValueError(f"a request may have {MAX_REQUEST_SIZE:,} bytes, and this one has {size:,}")
    return await reader.readexactly(size)


def encode_response(response: dict[str, Any]) -> Iterator[bytes]:
    """Yield the frame of a response, then the long values that are sent behind it."""
    long_values: list[bytes] = []
    if "result" in response:
        content = []
        for part in response["result"]["content"]:
            key = VALUE_KEYS[part["type"]]
            if len(part[key]) > INLINE_SIZE:
                long_values.append(part[key].encode("utf-8", "surrogatepass"))
                part = {**{name: value for name, value in part.items() if name != key}, "size": len(long_values[-1])}
            content.append(part)
        response = {"result": {**response["result"], "content": content}}
    yield encode_frame(json.dumps(response).encode())
    yield from long_values
