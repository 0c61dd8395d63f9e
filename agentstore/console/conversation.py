"""The pages about a session: the conversation, new messages as they are stored, one message as it is stored."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Send

from agentstore.console import messages as shown
from agentstore.console.rendering import render_json
from agentstore.console.view import PAGE_SIZE, Busy, Panel, View, load
from agentstore.errors import AgentStoreError, LimitExceeded, NotFound
from agentstore.schemas import Message, Page, Session, StateRound

_log = logging.getLogger(__name__)

# The rounds that are shown beside the messages, and the sessions that are searched for forks.
_ROUNDS, _FORKS = 200, 200
_MOST_ANCESTORS = 20
# In characters: what one page shows of one message as JSON, and the messages after which one page reads no more.
_MOST_RAW, _MOST_READ = 200_000, 16_000_000
# Seconds: between two reads, between two signs of life, and until the browser has to connect again.
_INTERVAL, _HEARTBEAT, _LIFETIME = 1.0, 15.0, 900.0


@dataclass
class Excerpt:
    """A part of a session's messages, and whether there are others around it."""

    messages: list[Message]
    has_earlier: bool
    has_later: bool


@dataclass
class Lineage:
    """The sessions that a session was forked from, the nearest last, and those that were forked from it."""

    ancestors: list[tuple[str, int | None]]
    forks: "list[Fork]"
    is_complete: bool


@dataclass
class Fork:
    """A session that was forked from another one, with its own forks."""

    session: Session
    forks: "list[Fork]"


async def session(view: View) -> Response:
    """Show a part of a conversation: the end, or the messages before, after or around one.

    Raises:
        NotFound: the session does not exist.
    """
    user_id, session_id = view.query("user"), view.query("session")
    head, rounds, lineage = await asyncio.gather(
        view.store.sessions.get_session(user_id, session_id, limit=0),
        load(view.store.states.list_states(user_id, session_id, limit=_ROUNDS)),
        load(_lineage(view, user_id, session_id)),
    )
    if head is None:
        raise NotFound(f"user {user_id!r} has no session {session_id!r}")
    is_gone = False
    try:
        excerpt = await _excerpt(view, user_id, session_id)
    except NotFound:  # the message of the URL was deleted
        is_gone = True
        excerpt = Excerpt(*await _preceding(view, user_id, session_id, None, PAGE_SIZE), has_later=False)
    entries = await asyncio.to_thread(shown.entries, excerpt.messages, _beside(excerpt, rounds))
    return view.render(
        "session.html",
        user_id=user_id,
        session_id=session_id,
        session=head,
        entries=entries,
        excerpt=excerpt,
        rounds=rounds,
        lineage=lineage,
        is_gone=is_gone,
        marked=view.query("around"),
        last_seq=excerpt.messages[-1].seq if excerpt.messages else 0,
        page_size=PAGE_SIZE,
    )


def _beside(excerpt: Excerpt, rounds: Panel[Page[StateRound]]) -> Sequence[StateRound]:
    """Return the rounds that belong beside the messages of an excerpt."""
    times = [each.created_at for each in excerpt.messages if each.created_at is not None]
    if not times or rounds.value is None:
        return ()
    after = max(times) if excerpt.has_later else None
    return [each for each in rounds.value if each.saved_at >= min(times) and (after is None or each.saved_at <= after)]


async def _excerpt(view: View, user_id: str, session_id: str) -> Excerpt:
    if around := view.query("around"):
        return await _around(view, user_id, session_id, around)
    if "after" in view.request.query_params:
        after = view.number("after", 0)
        found, has_later = await _following(view, user_id, session_id, after, PAGE_SIZE)
        return Excerpt(found, after > 0, has_later)
    before = view.query("before") or None
    return Excerpt(*await _preceding(view, user_id, session_id, before, PAGE_SIZE), before is not None)


async def _preceding(
    view: View, user_id: str, session_id: str, before: str | None, count: int
) -> tuple[list[Message], bool]:
    """Return up to `count` messages before one, or the last ones, and whether there are earlier ones.

    They are fewer if they are too large together.
    """
    limit = count + 1
    while True:
        try:
            page = await view.store.sessions.read_messages(user_id, session_id, limit=limit, before=before)
        except LimitExceeded:
            if limit <= 2:
                raise
            limit = limit // 4 + 1
        else:
            found = [] if page is None else await asyncio.to_thread(page.models)
            return found[1 - limit :], len(found) == limit


async def _following(view: View, user_id: str, session_id: str, after: int, count: int) -> tuple[list[Message], bool]:
    """Return up to `count` messages after a position, fewer if they are large, and whether there are later ones."""
    found: list[Message] = []
    size = 0
    messages: Any = view.store.sessions.iter_messages(user_id, session_id, after_seq=after, batch=count + 1)
    async with aclosing(messages):
        async for message in messages:
            if len(found) == count or size > _MOST_READ:
                return found, True
            found.append(message)
            size += await asyncio.to_thread(shown.size_of, message)
    return found, False


async def _around(view: View, user_id: str, session_id: str, message_id: str) -> Excerpt:
    """Return a message with those before and after it."""
    half = PAGE_SIZE // 2
    before, has_earlier = await _preceding(view, user_id, session_id, message_id, half)
    after = before[-1].seq if before else 0
    following, has_later = await _following(view, user_id, session_id, after or 0, half)
    return Excerpt(before + following, has_earlier, has_later)


async def _lineage(view: View, user_id: str, session_id: str) -> Lineage:
    """Follow a session to the one that it was forked from first, and find forks among the sessions used last."""
    ancestors: list[tuple[str, int | None]] = []
    current = await view.store.sessions.get_session(user_id, session_id, limit=0)
    seen = {session_id}
    while current is not None and current.forked_from is not None and len(ancestors) < _MOST_ANCESTORS:
        ancestors.insert(0, (current.forked_from, current.forked_at))
        if current.forked_from in seen:
            break
        seen.add(current.forked_from)
        current = await view.store.sessions.get_session(user_id, current.forked_from, limit=0)
    listed = await view.store.sessions.list_sessions(user_id, limit=_FORKS)
    return Lineage(ancestors, _forks(session_id, listed, {session_id}), listed.next_cursor is None)


def _forks(session_id: str, listed: Sequence[Session], seen: set[str]) -> list[Fork]:
    """Return the forks of a session among others, each once."""
    found = [each for each in listed if each.forked_from == session_id and each.id not in seen]
    seen |= {each.id for each in found}
    return [Fork(each, _forks(each.id, listed, seen) if len(seen) < _MOST_ANCESTORS else []) for each in found]


async def events(view: View) -> Response:
    """Send new messages of a session as server-sent events, each with the HTML of the message.

    Raises:
        NotFound: the session does not exist.
        Busy: too many pages follow sessions.
    """
    user_id, session_id = view.query("user"), view.query("session")
    if await view.store.sessions.get_session(user_id, session_id, limit=0) is None:
        raise NotFound(f"user {user_id!r} has no session {session_id!r}")
    if view.console.followers.locked():
        raise Busy("too many pages follow sessions at once")
    last = view.request.headers.get("last-event-id", "")
    after = int(last) if last.isascii() and last.isdecimal() and len(last) < 19 else view.number("after", 0)
    headers = {"x-accel-buffering": "no"}
    return _Events(_stream(view, user_id, session_id, after), media_type="text/event-stream", headers=headers)


async def _stream(view: View, user_id: str, session_id: str, after: int) -> AsyncIterator[str]:
    async with view.console.followers:
        yield "retry: 2000\n\n"
        following: Any = view.store.sessions.follow(user_id, session_id, after, interval=_INTERVAL)
        ends_at = asyncio.get_running_loop().time() + _LIFETIME
        reading = asyncio.ensure_future(anext(following))
        try:
            while asyncio.get_running_loop().time() < ends_at:  # then the browser connects again
                await asyncio.wait({reading}, timeout=_HEARTBEAT)
                if not reading.done():
                    yield ": waiting\n\n"
                    continue
                message = await reading
                reading = asyncio.ensure_future(anext(following))
                yield await asyncio.to_thread(_event, view, user_id, session_id, message)
        except NotFound:
            yield "event: gone\ndata: {}\n\n"
        except AgentStoreError as error:  # the browser connects again, and may succeed
            _log.warning("cannot follow a session: %s", error)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await following.aclose()


class _Events(StreamingResponse):
    """A stream that ends at once when the browser leaves, and stops reading."""

    async def stream_response(self, send: Send) -> None:
        """Send the parts."""
        parts: Any = self.body_iterator
        async with aclosing(parts):
            await super().stream_response(send)


def _event(view: View, user_id: str, session_id: str, message: Message) -> str:
    (entry,) = shown.entries([message])
    html = view.fragment("entry.html", entry=entry, user_id=user_id, session_id=session_id, marked="")
    data = json.dumps({"seq": entry.seq, "html": html})
    return f"id: {entry.seq}\nevent: message\ndata: {data}\n\n"


async def message(view: View) -> Response:
    """Show one message as it is stored: its JSON, or with ``as=text`` or ``as=json`` all of it as a file.

    Raises:
        NotFound: the session has no such message.
    """
    user_id, session_id, seq = view.query("user"), view.query("session"), view.number("seq", 0)
    found = await _one(view, user_id, session_id, seq)
    if view.query("as") == "text":
        text = await asyncio.to_thread(shown.raw_text, found)
        return PlainTextResponse(text.encode(errors="backslashreplace"))
    if view.query("as") == "json":
        text = await asyncio.to_thread(lambda: json.dumps(shown.raw_json(found)))
        headers = {"content-disposition": f'attachment; filename="message-{seq}.json"'}
        return Response(text, media_type="application/json", headers=headers)
    html, left_out = await asyncio.to_thread(lambda: render_json(shown.raw_json(found), _MOST_RAW))
    return view.render(
        "message.html", user_id=user_id, session_id=session_id, message=found, html=html, left_out=left_out
    )


async def _one(view: View, user_id: str, session_id: str, seq: int) -> Message:
    messages: Any = view.store.sessions.iter_messages(user_id, session_id, after_seq=max(0, seq - 1), batch=1)
    async with aclosing(messages):
        found: Message | None = await anext(messages, None)
    if found is None or found.seq != seq:
        raise NotFound(f"session {session_id!r} of user {user_id!r} has no message number {seq}")
    return found


async def media(view: View) -> Response:
    """Send an image that a message contains.

    Raises:
        NotFound: there is no such image, or it is of a type that is not shown.
    """
    seq = view.number("seq", 0)
    found = await _one(view, view.query("user"), view.query("session"), seq)
    image = await asyncio.to_thread(shown.inline_image, found, view.number("part", 0))
    if image is None:
        raise NotFound(f"message number {seq} has no image that can be shown there")
    return Response(image[0], media_type=image[1], headers={"content-security-policy": "default-src 'none'; sandbox"})
