"""``agentstore sessions``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from agentstore.cli.connect import load_settings, run_with_store
from agentstore.cli.files import replace_file
from agentstore.cli.options import (
    Cursor,
    Json,
    Limit,
    Metadata,
    NewTitle,
    SessionId,
    Url,
    User,
    Wide,
    Yes,
    confirm,
    new_group,
    parse_object,
    read_text,
    require_text,
)
from agentstore.cli.output import counted, dump, echo, echo_error, echo_json, write_json
from agentstore.cli.tables import Column, Table, echo_page
from agentstore.cli.visible import format_id, printable
from agentstore.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from agentstore.schemas import Message, Session
    from agentstore.store import AgentStore

group = new_group("List, show, create, append to, fork and delete sessions.")


class _Order(StrEnum):
    LAST_USED = "last_used"
    CREATED = "created"


@group.command("list")
def list_(
    user: Annotated[
        str | None, typer.Argument(metavar="USER", help="User id; default: all users.", callback=require_text)
    ] = None,
    app: Annotated[
        str | None, typer.Option(metavar="APP", help="Only sessions of this app.", callback=require_text)
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only sessions with this text in their title.", callback=require_text),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Only sessions whose metadata has these keys and values.", callback=require_text
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only sessions used from this time on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only sessions last used before it.")] = None,
    order: Annotated[_Order, typer.Option(help="Time by which they are ordered, latest first.")] = _Order.LAST_USED,
    limit: Limit = 50,
    cursor: Cursor = None,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """List the sessions of a user or of all, latest first.

    TIME is in ISO 8601, such as 2026-01-31 or 2026-01-31T12:00+01:00, or in seconds since 1970.
    """
    values = None if metadata is None else parse_object(metadata)

    async def run(store: AgentStore) -> None:
        page = await store.sessions.list_sessions(
            user,
            app=app,
            metadata=values,
            title=title,
            since=since,
            until=until,
            order=order.value,
            limit=limit,
            cursor=cursor,
        )
        if json_:
            echo_json({"sessions": [_without_messages(session) for session in page], "next_cursor": page.next_cursor})
            return
        rows = Table(
            *([Column("user", "id", heading=True)] if user is None else []),
            Column("session", "id", heading=user is not None),
            Column("title", "text"),
            Column("messages", "number"),
            Column("created", droppable=True),
            Column("last used"),
        )
        for session in page:
            times = (f"{time:%Y-%m-%d %H:%M}" if time else "" for time in (session.created_at, session.updated_at))
            ids = [format_id(id) for id in (*([session.user_id] if user is None else []), session.id)]
            rows.add_row(*ids, session.title or "", f"{session.message_count or 0:,}", *times)
        is_filtered = any(each is not None for each in (app, values, title, since, until))
        whose = "there are no" if user is None else f"user {user!r} has no"
        missing = f"{whose} {'more ' if cursor else ''}sessions{' that match' if is_filtered else ''}"
        echo_page(rows, page, missing, wide=wide)

    run_with_store(url, run)


@group.command()
def show(
    user: User,
    session: SessionId,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Show the last N messages only; default: all.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Show only messages before the one with this id.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then print each new message as it is stored, until interrupted.")
    ] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Do not wrap long lines.")] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Show a session and its messages in order.

    With --follow and --json, the session is one line of JSON, and each new message another one.
    """
    if follow and before is not None:
        raise typer.BadParameter("--follow shows the end of a session: give either --follow or --before")

    async def run(store: AgentStore) -> None:
        # One more message than requested shows whether there are earlier ones, and from which one on to follow.
        fetched = limit if limit is None or (json_ and not follow) else limit + 1
        found = await store.sessions.get_session(user, session, limit=fetched, before=before)
        if found is None:
            raise NotFound(f"user {user!r} has no session {session!r}")
        last = (found.messages[-1].seq if found.messages else None) or 0
        has_earlier = limit is not None and len(found.messages) > limit
        if has_earlier:
            found.messages = found.messages[1:]
        if json_:
            echo_json({**_for_export(found), "messages": [_with_place(message) for message in found.messages]})
        else:
            from agentstore.cli.transcript import echo_transcript

            echo_transcript(found, wide=wide)
            if has_earlier and found.messages:
                echo(f"Earlier messages: --limit {limit} --before={shlex.quote(found.messages[0].id)}", style="dim")
        if follow:
            await _follow(store, user, session, last, wide=wide, as_json=json_)

    run_with_store(url, run)


@group.command()
def create(
    user: User,
    session: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="Session id; default: a UUID.", callback=require_text)
    ] = None,
    title: NewTitle = None,
    metadata: Metadata = None,
    app: Annotated[str | None, typer.Option(metavar="APP", help="App of the session.", callback=require_text)] = None,
    ttl: Annotated[
        int | None, typer.Option(metavar="SECONDS", min=1, help="Time to live after the last write.")
    ] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Create a session and print its id."""
    values = None if metadata is None else parse_object(metadata)

    async def run(store: AgentStore) -> None:
        created = await store.sessions.create_session(
            user, session, exist_ok=False, title=title, metadata=values, app=app, ttl=ttl, messages=False
        )
        if json_:
            echo_json(_without_messages(created))
        else:
            echo(format_id(created.id))

    run_with_store(url, run)


@group.command()
def append(
    user: User,
    session: SessionId,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="Text of the message; - is stdin.", callback=require_text)
    ],
    role: Annotated[str, typer.Option(metavar="ROLE", help="Role of the message.", callback=require_text)] = "user",
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Id of the message; default: a generated one.", callback=require_text),
    ] = None,
    expected_seq: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Append only if the session has this number of messages."),
    ] = None,
    create_missing: Annotated[bool, typer.Option("--create", help="Create the session if there is none.")] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Append a message to a session.

    With --id it is safe to repeat: a message that is stored already is not stored again.
    """
    from agentstore.schemas.payload import as_message

    message = as_message({"role": role, "content": read_text(text), **({} if id_ is None else {"id": id_})})

    async def run(store: AgentStore) -> None:
        appended = await store.sessions.append(user, session, message, create=create_missing, expected_seq=expected_seq)
        if json_:
            created_at = appended.created_at and appended.created_at.isoformat()
            echo_json({"id": message.id, "seq": appended.last_seq, "created_at": created_at})
        else:
            echo(f"#{appended.last_seq} {format_id(message.id)}")

    run_with_store(url, run)


@group.command()
def rename(
    user: User,
    session: SessionId,
    title: Annotated[str, typer.Argument(metavar="TITLE", help='New title; "" removes it.', callback=require_text)],
    url: Url = None,
    json_: Json = False,
) -> None:
    """Set the title of a session."""

    async def run(store: AgentStore) -> None:
        await store.sessions.set_title(user, session, title or None)
        if json_:
            echo_json({"id": session, "title": title or None})
        else:
            echo(f"session {session!r} " + (f"is now {title!r}" if title else "has no title now"))

    run_with_store(url, run)


@group.command()
def export(
    user: User,
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="SESSION", help="Session ids; default: all.", callback=require_text),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="File to write; default: stdout."),
    ] = None,
    url: Url = None,
) -> None:
    """Export a user's sessions as JSON Lines.

    `agentstore import` restores them unchanged.
    """

    async def run(store: AgentStore) -> int:
        if output is None:
            return await _export(store, user, sessions, sys.stdout)
        with replace_file(output) as file:
            return await _export(store, user, sessions, file)

    count = run_with_store(url, run)
    if output is not None:
        echo_error(f"{counted(session=count)} to {output}", label="exported", style="green")


At = Annotated[str | None, typer.Option(metavar="ID", help="Id of the last message to include.", callback=require_text)]
First = Annotated[int | None, typer.Option(metavar="N", min=0, help="Number of messages to include, instead of --at.")]
NewId = Annotated[str | None, typer.Option(metavar="ID", help="Id of the new session; default: a generated one.")]


def _place(at: str | None, first: int | None) -> str | int | None:
    if at is not None and first is not None:
        raise typer.BadParameter("give either --at or --first, not both")
    return first if at is None else at


@group.command()
def fork(
    user: User,
    session: SessionId,
    at: At = None,
    first: First = None,
    new_id: NewId = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Copy a session, up to a message, to a new id.

    The states up to that message are copied as well. By default the whole session is copied.
    """
    place = _place(at, first)

    async def run(store: AgentStore) -> None:
        copy = await store.sessions.fork_session(user, session, at=place, new_id=new_id, messages=False)
        if json_:
            echo_json(_without_messages(copy))
        else:
            echo(f"session {copy.id!r} has the first {counted(message=copy.message_count or 0)} of {session!r}")

    run_with_store(url, run, is_large=True)


@group.command()
def rewind(
    user: User,
    session: SessionId,
    at: At = None,
    first: First = None,
    keep: Annotated[bool, typer.Option(help="Move what is removed to a new session.")] = True,
    new_id: NewId = None,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Rewind a session and its states to a message.

    By default what is removed is moved to a new session, so that it can be restored.
    """
    from agentstore.schemas.payload import new_session_id

    place = _place(at, first)
    if place is None:
        raise typer.BadParameter("name the message to rewind to: --at or --first")
    if not keep:
        confirm(f"Remove all later messages of session {printable(session)!r}? This cannot be undone.", yes)
    fork_id = new_session_id(new_id)

    async def run(store: AgentStore) -> None:
        if keep and await store.sessions.get_session(user, fork_id, limit=0) is not None:
            raise AlreadyExists(f"user {user!r} already has a session {fork_id!r}")
        rewound = await store.sessions.rewind_session(user, session, place, keep=keep, new_id=fork_id, messages=False)
        kept = await store.sessions.get_session(user, fork_id, limit=0) if keep else None
        if json_:
            echo_json({**_without_messages(rewound), "kept_in": None if kept is None else fork_id})
            return
        echo(f"session {session!r} now has {counted(message=rewound.message_count or 0)}")
        if kept is not None:
            echo(f"session {fork_id!r} has the {counted(message=kept.message_count or 0)} that followed")

    run_with_store(url, run, is_large=True)


@group.command()
def delete(user: User, session: SessionId, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete a session and its messages."""
    confirm(f"Delete session {printable(session)!r} of user {printable(user)!r}? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.sessions.delete_session(user, session)
        if json_:
            echo_json({"sessions": deleted.sessions, "messages": deleted.messages})
        elif deleted:
            echo(f"deleted: {counted(session=deleted.sessions, message=deleted.messages)}")
        else:
            echo(f"nothing deleted: user {user!r} has no session {session!r}")

    run_with_store(url, run, is_large=True)


async def _follow(store: AgentStore, user: str, session: str, after_seq: int, *, wide: bool, as_json: bool) -> None:
    from agentstore.cli.transcript import echo_message

    async for message in store.sessions.follow(user, session, after_seq):
        if as_json:
            echo_json(_with_place(message))
        else:
            echo_message(message, wide)


async def _export(store: AgentStore, user: str, ids: list[str] | None, file: TextIO) -> int:
    """Write sessions as JSON Lines, with one line in memory at a time; return how many.

    Raises:
        NotFound: there is no such user, or no such session.
    """
    if await store.users.get_user(user) is None:
        raise NotFound(f"there is no user {user!r}")
    longest = load_settings().max_message_bytes
    count = 0
    async for id in _given(ids) if ids else _all(store, user):
        session = await store.sessions.get_session(user, id, limit=0)
        try:
            if session is None:
                raise NotFound(f"user {user!r} has no session {id!r}")
            async for part in _split(session, store.sessions.iter_messages(user, id), longest):
                write_json(part, file)
        except NotFound:
            if ids:
                raise
        else:
            count += 1
    return count


async def _split(session: Session, messages: AsyncIterator[Message], longest: int) -> AsyncIterator[dict[str, Any]]:
    """Yield a session as one or more objects, each of which fits into a line that an import accepts."""
    part = _for_export(session)
    size = 0
    async for message in messages:
        dumped = dump(message)
        length = len(json.dumps(dumped))
        if size and size + length > longest:
            yield part
            part["messages"], size = [], 0
        part["messages"].append(dumped)
        size += length
    yield part


async def _given(ids: list[str]) -> AsyncIterator[str]:
    for id in ids:
        yield id


async def _all(store: AgentStore, user: str) -> AsyncIterator[str]:
    cursor = None
    while True:
        page = await store.sessions.list_sessions(user, limit=1_000, cursor=cursor)
        for session in page:
            yield session.id
        if (cursor := page.next_cursor) is None:
            return


def _for_export(session: Session) -> dict[str, Any]:
    """Return a session in the form in which an import restores it unchanged."""
    return {"object": "session", **dump(session)}


def _with_place(message: Message) -> dict[str, Any]:
    """Return the fields of a message with its number and the time at which it was stored."""
    return {**dump(message), "seq": message.seq, "created_at": message.created_at and message.created_at.isoformat()}


def _without_messages(session: Session) -> dict[str, Any]:
    return {name: value for name, value in dump(session).items() if name != "messages"}
