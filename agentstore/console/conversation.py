"""The pages about a session: the conversation, new messages as they are stored, one message as it is stored."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Send

from agentstore.console import files
from agentstore.console import messages as shown
from agentstore.console.rendering import render_argument, render_json
from agentstore.console.view import PAGE_SIZE, Busy, Panel, View, load
from agentstore.errors import AgentStoreError, LimitExceeded, NotFound, UnreadableRow
from agentstore.schemas import Message, Page, Session, StateRound

_log = logging.getLogger(__name__)

# The rounds that are shown beside the messages, and the sessions that are searched for forks.
_ROUNDS, _FORKS = 200, 200
_MOST_ANCESTORS = 20
# In characters: what one page shows of one message as JSON, and the messages after which one page reads no more.
_MOST_RAW, _MOST_READ = 200_000, 16_000_000
# Seconds: between two reads, between two signs of life, and until the browser has to connect again.
_INTERVAL, _HEARTBEAT, _LIFETIME = 1.0, 15.0, 900.0
# How many unreadable messages wait to be sent to a page that follows a session.
_MOST_PASSED = 100


class _Enough(Exception):
    """A page has as many messages as it shows."""


@dataclass
class Excerpt:
    """A part of a session's messages, and whether there are others around it."""

    messages: list[Message]
    unreadable: list[UnreadableRow]
    """Those of the part that another program has changed, and that are not valid."""
    has_earlier: bool = False
    has_later: bool = False

    @property
    def seqs(self) -> list[int]:
        """The numbers of all messages, in order."""
        unreadable = [each.seq or 0 for each in self.unreadable]
        return sorted([*unreadable, *(each.seq or 0 for each in self.messages)])

    def up_to(self, seq: int) -> "Excerpt":
        """Return the messages up to one, before others."""
        messages = [each for each in self.messages if (each.seq or 0) <= seq]
        unreadable = [each for each in self.unreadable if (each.seq or 0) <= seq]
        return Excerpt(messages, unreadable, self.has_earlier, has_later=True)


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
        excerpt = await _preceding(view, user_id, session_id, PAGE_SIZE)
    entries = await asyncio.to_thread(shown.entries, excerpt.messages, _beside(excerpt, rounds), excerpt.unreadable)
    seqs = excerpt.seqs
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
        first_seq=seqs[0] if seqs else 0,
        last_seq=seqs[-1] if seqs else 0,
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
        found = await _following(view, user_id, session_id, after, PAGE_SIZE)
        found.has_earlier = after > 0
        return found
    before = view.number("before", 0) or None
    found = await _preceding(view, user_id, session_id, PAGE_SIZE, before_seq=before)
    found.has_later = before is not None
    return found


async def _preceding(view: View, user_id: str, session_id: str, count: int, **end: Any) -> Excerpt:
    """Return up to `count` messages before one, or the last ones; fewer if they are too large together.

    `end` is the id or the number of a message, as ``before`` or ``before_seq``.
    """
    limit = count + 1
    while True:
        try:
            page = await view.store.sessions.read_messages(user_id, session_id, limit=limit, **end)
        except LimitExceeded:
            if limit <= 2:
                raise
            limit = limit // 4 + 1
        else:
            if page is None:
                return Excerpt([], [])
            unreadable: list[UnreadableRow] = []
            found = await asyncio.to_thread(page[1 - limit :].models, on_unreadable=unreadable.append)
            return Excerpt(found, unreadable, has_earlier=len(page) == limit)


async def _following(view: View, user_id: str, session_id: str, after: int, count: int) -> Excerpt:
    """Return up to `count` messages after a position; fewer if they are large."""
    found = Excerpt([], [])
    size = 0

    def pass_over(error: UnreadableRow) -> None:
        if len(found.unreadable) > count:
            raise _Enough
        found.unreadable.append(error)

    messages: Any = view.store.sessions.iter_messages(
        user_id, session_id, after_seq=after, batch=count + 1, on_unreadable=pass_over
    )
    async with aclosing(messages):
        with suppress(_Enough):
            async for message in messages:
                if len(found.messages) == count or size > _MOST_READ:
                    found = found.up_to(found.messages[-1].seq or 0)
                    break
                found.messages.append(message)
                size += await asyncio.to_thread(shown.size_of, message)
    seqs = found.seqs
    return found if len(seqs) <= count else found.up_to(seqs[count - 1])


async def _around(view: View, user_id: str, session_id: str, message_id: str) -> Excerpt:
    """Return a message with those before and after it."""
    half = PAGE_SIZE // 2
    before = await _preceding(view, user_id, session_id, half, before=message_id)
    following = await _following(view, user_id, session_id, max(before.seqs, default=0), half)
    return Excerpt(
        before.messages + following.messages,
        before.unreadable + following.unreadable,
        before.has_earlier,
        following.has_later,
    )


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
        passed = deque[UnreadableRow](maxlen=_MOST_PASSED)
        following: Any = view.store.sessions.follow(
            user_id, session_id, after, interval=_INTERVAL, on_unreadable=passed.append
        )
        ends_at = asyncio.get_running_loop().time() + _LIFETIME
        reading = asyncio.ensure_future(anext(following))
        try:
            while asyncio.get_running_loop().time() < ends_at:  # then the browser connects again
                await asyncio.wait({reading}, timeout=_HEARTBEAT)
                message = await reading if reading.done() else None
                # In order: a browser that connects again names the last one that it has.
                while passed and (message is None or (passed[0].seq or 0) < (message.seq or 0)):
                    yield await asyncio.to_thread(_event, view, user_id, session_id, passed.popleft())
                if message is None:
                    yield ": waiting\n\n"
                    continue
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


def _event(view: View, user_id: str, session_id: str, message: Message | UnreadableRow) -> str:
    if isinstance(message, UnreadableRow):
        (entry,) = shown.entries([], unreadable=[message])
    else:
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
        text = await asyncio.to_thread(_text_of, found)
        return PlainTextResponse(text.encode(errors="backslashreplace"))
    if view.query("as") == "json":
        text = await asyncio.to_thread(_json_of, found)
        headers = {"content-disposition": f'attachment; filename="message-{seq}.json"'}
        return Response(text, media_type="application/json", headers=headers)
    html, left_out = await asyncio.to_thread(_rendered, found)
    values = {"user_id": user_id, "session_id": session_id, "seq": seq, "html": html, "left_out": left_out}
    if isinstance(found, Damaged):
        return view.render("message.html", id=None, problem=found.error.reason, **values)
    return view.render("message.html", id=found.id, problem="", **values)


@dataclass(frozen=True)
class Damaged:
    """A message that is not valid."""

    error: UnreadableRow
    text: str
    """As it is stored: JSON."""


def _text_of(found: Message | Damaged) -> str:
    return found.text if isinstance(found, Damaged) else shown.raw_text(found)


def _json_of(found: Message | Damaged) -> str:
    return found.text if isinstance(found, Damaged) else json.dumps(shown.raw_json(found))


def _rendered(found: Message | Damaged) -> tuple[Markup, int]:
    if isinstance(found, Damaged):
        return render_argument(found.text, _MOST_RAW)
    return render_json(shown.raw_json(found), _MOST_RAW)


async def _one(view: View, user_id: str, session_id: str, seq: int) -> Message | Damaged:
    stored = await view.store.sessions.read_messages(user_id, session_id, limit=1, before_seq=seq + 1)
    if stored is not None:
        unreadable: list[UnreadableRow] = []
        found = await asyncio.to_thread(stored.models, on_unreadable=unreadable.append)
        if found and found[0].seq == seq:
            return found[0]
        if unreadable and unreadable[0].seq == seq:
            return Damaged(unreadable[0], stored.json()[1:-1].decode())
    raise NotFound(f"session {session_id!r} of user {user_id!r} has no message number {seq}")


async def media(view: View) -> Response:
    """Send an image that a message contains, or with ``as=file`` anything that it contains as an attachment.

    Raises:
        NotFound: there is nothing, or it is not an image that can be shown.
    """
    found = await _one(view, view.query("user"), view.query("session"), view.number("seq", 0))
    message = found if isinstance(found, Message) else None
    return await files.send_embedded(message, view.number("part", 0), as_image=view.query("as") != "file")
