"""The pages about the checkpoints of graphs: the threads of a user, their steps, and the values of one step.

Values are as a serializer has written them. What is JSON, text or MessagePack is shown; objects in MessagePack are
shown as their parts, and are never created: that could run the code of the application.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from agentstore.console.rendering import render_argument, render_json, summarize
from agentstore.console.view import PAGE_SIZE, Panel, View, load
from agentstore.errors import NotFound
from agentstore.schemas import Page
from agentstore.schemas.checkpoint import Checkpoint, CheckpointInfo, Serialized

# In characters of a value, and in bytes of one that is decoded at all.
_MOST_SHOWN, _MOST_DECODED = 100_000, 20_000_000
_MOST_ANCESTORS, _MOST_LEVELS = 20, 50
# As LangGraph numbers them: 32 digits, and a random part.
_VERSION = re.compile(r"0*(\d+)\.\d[\d.e-]*", re.ASCII)


async def threads_of(view: View, user_id: str) -> Panel[Page[tuple[str, str]]]:
    """Return the sessions of a user that have checkpoints."""
    return await load(view.store.checkpoints.list_sessions(user_id, limit=PAGE_SIZE, cursor=view.cursor()))


@dataclass(frozen=True)
class Shown:
    """A serialized value, as it is shown."""

    type: str
    size: int
    summary: str = ""


async def checkpoints(view: View) -> Response:
    """Show the checkpoints of a session, newest first, with their parents and their metadata."""
    user_id, session_id = view.query("user"), view.query("session")
    namespace = view.query("namespace") if "namespace" in view.request.query_params else None
    listed = await load(
        view.store.checkpoints.list(user_id, session_id, namespace, limit=PAGE_SIZE, cursor=view.cursor())
    )
    rows: list[tuple[CheckpointInfo, str]] = []
    if listed.value is not None:
        page = listed.value
        rows = await asyncio.to_thread(lambda: [(each, _summary(each.metadata)) for each in page])
    return view.render(
        "checkpoints.html",
        user_id=user_id,
        session_id=session_id,
        namespace=namespace,
        listed=listed,
        rows=rows,
        next_cursor=None if listed.value is None else listed.value.next_cursor,
    )


async def checkpoint(view: View) -> Response:
    """Show a checkpoint: its ancestors, metadata, channels and writes; with ``channel=`` the value of one.

    Raises:
        NotFound: it does not exist, or has no value of the channel.
    """
    user_id, session_id, namespace = view.query("user"), view.query("session"), view.query("namespace")
    found = await view.store.checkpoints.get(user_id, session_id, namespace, view.query("id") or None)
    if found is None:
        raise NotFound(f"session {session_id!r} of user {user_id!r} has no such checkpoint")
    of = {"user": user_id, "session": session_id, "namespace": namespace, "id": found.id}
    if "channel" in view.request.query_params:
        return await _value(view, of, found)
    ancestors = await load(_ancestors(view, found))
    html, left_out = await asyncio.to_thread(render_serialized, found.metadata)
    body, body_left_out = await asyncio.to_thread(render_serialized, found.body)
    writes = [
        (each, Shown(each.value.type, len(each.value.data), await asyncio.to_thread(_summary, each.value)))
        for each in found.writes[:PAGE_SIZE]
    ]
    return view.render(
        "checkpoint.html",
        of=of,
        checkpoint=found,
        ancestors=ancestors,
        channels=_channels(found),
        short_version=_short_version,
        metadata=html,
        left_out=left_out,
        body=body,
        body_left_out=body_left_out,
        writes=writes,
        more_writes=max(0, len(found.writes) - PAGE_SIZE),
    )


def _short_version(version: str) -> str:
    """Return a version without the zeros and the random part of its usual form: which of two is newer."""
    match = _VERSION.fullmatch(version)
    return version if match is None else match[1]


def _channels(found: Checkpoint) -> list[tuple[str, str, Shown | None]]:
    """Return the channels with their versions, and what their values are."""
    values = found.values
    return [
        (name, version, Shown(values[name].type, len(values[name].data)) if name in values else None)
        for name, version in sorted(found.versions.items())
    ]


async def _ancestors(view: View, found: Checkpoint) -> tuple[list[str], bool]:
    """Return the ids of the checkpoints that one follows, the nearest first, and whether there may be more."""
    page: Sequence[CheckpointInfo] = ()
    if found.parent_id is not None:
        page = await view.store.checkpoints.list(
            view.query("user"), view.query("session"), found.namespace, before=found.id, limit=PAGE_SIZE
        )
    parents = {each.id: each.parent_id for each in page}
    chain: list[str] = []
    current = found.parent_id
    while current is not None and current not in chain and len(chain) < _MOST_ANCESTORS:
        chain.append(current)
        current = parents.get(current)
    return chain, current is not None or (bool(chain) and chain[-1] not in parents)


async def _value(view: View, of: dict[str, str], found: Checkpoint) -> Response:
    channel = view.query("channel")
    value = found.values.get(channel)
    if value is None:
        raise NotFound(f"checkpoint {found.id!r} has no value of channel {channel!r}")
    html, left_out = await asyncio.to_thread(render_serialized, value)
    return view.render(
        "channel.html",
        of=of,
        channel=channel,
        channel_version=found.versions[channel],
        value=Shown(value.type, len(value.data)),
        html=html,
        left_out=left_out,
    )


def decode(value: Serialized) -> Any:
    """Return a serialized value as JSON values, without creating any object of the application.

    Raises:
        ValueError: it is in another format, too large, or not valid.
    """
    if len(value.data) > _MOST_DECODED:
        raise ValueError("too large")
    if value.type == "null":
        return None
    if value.type == "json":
        return json.loads(value.data)
    if value.type == "msgpack":
        return _plain(_unpack(value.data, _MOST_LEVELS))
    raise ValueError("another format")


def _unpack(data: bytes, levels: int) -> Any:
    try:
        import ormsgpack
    except ImportError as error:
        raise ValueError("ormsgpack is not installed") from error

    def extension(code: int, inner: bytes) -> Any:
        """Return an object of the application as its parts: the names of its module and class, and its fields."""
        if levels == 0:
            return f"<{len(inner):,} bytes>"
        try:
            parts = _unpack(inner, levels - 1)
        except ValueError:
            return f"<{len(inner):,} bytes>"
        if isinstance(parts, list) and len(parts) >= 2 and all(isinstance(each, str) for each in parts[:2]):
            return {f"{parts[0]}.{parts[1]}": parts[2] if len(parts) > 2 else None}
        return parts

    return ormsgpack.unpackb(data, ext_hook=extension, option=ormsgpack.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    """Return a value with texts as keys, and without bytes."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value):,} bytes>"
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)


def _text(value: Serialized) -> str | None:
    """Return the text of a value in a format that is not known, or None if it is none."""
    try:
        text = value.data[:_MOST_DECODED].decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() or value.type in ("json", "str") else None


def render_serialized(value: Serialized) -> tuple[Markup, int]:
    """Return a value as HTML, and how many characters are left out; empty if it cannot be shown."""
    try:
        return render_json(decode(value), _MOST_SHOWN)
    except (ValueError, RecursionError):
        text = _text(value)
        return (Markup(""), 0) if text is None else render_argument(text, _MOST_SHOWN)


def _summary(value: Serialized) -> str:
    try:
        return summarize(decode(value))
    except (ValueError, RecursionError):
        return summarize(_text(value) or "")
