"""The pages about files: a stored file and its versions, downloads, and images as thumbnails.

What is sent was written by strangers. A download is an attachment of no particular type, so that no browser runs it in
the origin of the console; an image is sent with the type that its first bytes have, which is that of no document.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from agentstore.console.view import PAGE_SIZE, View, load
from agentstore.errors import NotFound
from agentstore.schemas import AudioContent, Blob, FileContent, ImageContent, Message

MOST_IMAGE = 10_000_000
"""The size in bytes of the largest image that is shown; larger ones are links."""
# The first bytes of images that cannot have scripts.
_IMAGES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)
IMAGE_TYPES = frozenset(kind for _, kind in _IMAGES)
"""The media types of images that are shown."""
_HEAD = 16
# The start of a data: URL may be as long as a caller likes.
_MOST_TYPE = 200


def image_type(content: bytes) -> str | None:
    """Return the media type of an image that may be shown, by its first bytes; None for anything else."""
    return next((kind for pattern, kind in _IMAGES if pattern.match(content)), None)


def may_be_image(blob: Blob) -> bool:
    """Return whether a stored file says that it is an image that can be shown; its bytes are checked when it is."""
    return (blob.content_type or "").partition(";")[0].strip().lower() in IMAGE_TYPES and blob.size <= MOST_IMAGE


class _Download(StreamingResponse):
    """A content that is sent as it is read, and of which no more is read after the visitor has left."""

    async def stream_response(self, send: Send) -> None:
        """Send the parts."""
        async with aclosing(cast("AsyncGenerator[bytes, None]", self.body_iterator)):
            await super().stream_response(send)


def _headers(name: str, size: int) -> dict[str, str]:
    """Return the headers of a download. The name is one of a file, whatever it was stored as."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)[-100:].strip(". ") or "file"
    exact = quote(re.sub(r"[\0-\x1f\x7f/\\]", "_", name)[-200:].encode(errors="replace"), safe="")
    return {
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}",
        "content-length": str(size),
        "content-security-policy": "default-src 'none'; sandbox",
    }


_IMAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; sandbox",
    "content-disposition": "inline",
}


def _place(view: View) -> dict[str, Any]:
    return {
        "user_id": view.query("user"),
        "name": view.query("name"),
        "session_id": view.query("session") or None,
        "app": view.query("app"),
    }


async def _blob(view: View) -> Blob:
    """Return the version of a file that the URL names, or the highest one.

    Raises:
        NotFound: it does not exist.
    """
    version = view.number("version", 0) if "version" in view.request.query_params else None
    found = await view.store.blobs.get(**_place(view), version=version)
    if found is None:
        raise NotFound(f"user {view.query('user')!r} has no file {view.query('name')!r} with this version")
    return found


def _read(view: View, blob: Blob) -> AsyncIterator[bytes]:
    """Return the parts of a version, whatever is stored meanwhile."""
    return view.store.blobs.read(blob.user_id, blob.name, blob.session_id, app=blob.app, version=blob.version)


async def file(view: View) -> Response:
    """Show a file: what is stored with it, its versions, and a thumbnail if it is an image.

    Raises:
        NotFound: it does not exist.
    """
    versions = await load(view.store.blobs.list_versions(**_place(view), limit=PAGE_SIZE, cursor=view.cursor()))
    found = await _blob(view)
    return view.render("file.html", user_id=found.user_id, file=found, versions=versions, is_image=may_be_image(found))


async def download(view: View) -> Response:
    """Send a version of a file as an attachment, a chunk at a time.

    Raises:
        NotFound: it does not exist.
    """
    blob = await _blob(view)
    parts = _read(view, blob)
    first = await anext(parts, b"")  # an error is a page, as long as nothing was sent
    headers = _headers(blob.filename or blob.name, blob.size)
    return _Download(_after(first, parts), media_type="application/octet-stream", headers=headers)


async def _after(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(cast("AsyncGenerator[bytes, None]", parts)):
        yield first
        async for part in parts:
            yield part


async def image(view: View) -> Response:
    """Send a version of a file that is an image, to be shown.

    Raises:
        NotFound: it does not exist, is none that can be shown, or is too large.
    """
    blob = await _blob(view)
    content = bytearray()
    if may_be_image(blob):
        async with aclosing(cast("AsyncGenerator[bytes, None]", _read(view, blob))) as parts:
            async for part in parts:
                content += part
                if image_type(bytes(content[:_HEAD])) is None:
                    break
    return _image(bytes(content), f"the file {blob.name!r} is not an image that can be shown")


def _image(content: bytes | None, problem: str) -> Response:
    kind = None if content is None or len(content) > MOST_IMAGE else image_type(content[:_HEAD])
    if kind is None:
        raise NotFound(problem)
    return Response(content, media_type=kind, headers=_IMAGE_HEADERS)


def embedded(message: Message, index: int) -> tuple[str, str] | None:
    """Return the name and the base64 of a file, an image or audio that a message contains; None if it has none."""
    parts = message.content or []
    part = parts[index] if 0 <= index < len(parts) else None
    if isinstance(part, ImageContent):
        return _of_url(part.image_url, f"image-{message.seq}")
    if isinstance(part, AudioContent) and part.data:
        extension = re.sub("[^a-z0-9]", "", (part.format or "").lower())[:10] or "bin"
        return _of_url(part.data, "") or (f"audio-{message.seq}.{extension}", part.data)
    if isinstance(part, FileContent):
        name = part.filename or f"file-{message.seq}"
        given = part.file_data or part.file_url
        return _of_url(given, name) or ((name, part.file_data) if part.file_data else None)
    return None


def _of_url(url: str | None, name: str) -> tuple[str, str] | None:
    """Return a name and the base64 in a ``data:`` URL."""
    head, comma, _ = (url or "")[:_MOST_TYPE].partition(",")
    if not comma or not head.lower().startswith("data:") or not head.lower().endswith(";base64"):
        return None
    kind = head[5:].partition(";")[0].lower()
    if not name or name.startswith("image-"):
        name = f"{name or 'audio'}.{re.sub('[^a-z0-9]', '', kind.rpartition('/')[2])[:10] or 'bin'}"
    return name, (url or "")[len(head) + 1 :]


def embedded_image(message: Message, index: int) -> bool:
    """Return whether a part of a message is an image that can be shown, by its first bytes and its size."""
    found = embedded(message, index)
    if found is None or len(found[1]) > MOST_IMAGE * 4 // 3:
        return False
    try:
        return image_type(base64.b64decode(found[1][:24], validate=True)) is not None
    except (binascii.Error, ValueError):
        return False


def decoded(message: Message, index: int) -> tuple[str, bytes] | None:
    """Return the name and the bytes of what a message contains; None if it is not valid base64."""
    found = embedded(message, index)
    if found is None:
        return None
    try:
        return found[0], base64.b64decode(found[1], validate=True)
    except (binascii.Error, ValueError):
        return None


async def send_embedded(message: Message | None, index: int, *, as_image: bool) -> Response:
    """Send what a message contains: an image to be shown, or anything as an attachment.

    Raises:
        NotFound: there is nothing, or it is not an image that can be shown.
    """
    found = None if message is None else await asyncio.to_thread(decoded, message, index)
    if as_image:
        return _image(found and found[1], "the message has no image that can be shown there")
    if found is None:
        raise NotFound("the message has no file there")
    name, content = found
    headers: Mapping[str, str] = _headers(name, len(content))
    return Response(content, media_type="application/octet-stream", headers=headers)
