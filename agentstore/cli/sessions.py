"""``agentstore sessions``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from agentstore.cli.connect import load_settings, run_with_store
from agentstore.cli.files import replace_file
from agentstore.cli.options import (
    Cursor,
    Json,
    Limit,
    SessionId,
    Url,
    User,
    Wide,
    Yes,
    confirm,
    new_group,
    require_text,
)
from agentstore.cli.output import dump, echo, echo_error, echo_json, write_json
from agentstore.cli.tables import Column, Table, echo_page
from agentstore.cli.visible import format_id, printable
from agentstore.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from agentstore.schemas import Message, Session
    from agentstore.store import AgentStore

group = new_group("List, show, export, fork, rewind and delete sessions.")


@group.command("list")
def list_(
    user: User,
    limit: Limit = 50,
    cursor: Cursor = None,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """List a user's sessions, most recently used first."""

    async def run(store: AgentStore) -> None:
        page = await store.sessions.list_sessions(user, limit=limit, cursor=cursor)
        if json_:
            echo_json({"sessions": [_without_messages(session) for session in page], "next_cursor": page.next_cursor})
            return
        rows = Table(
            Column("session", "id", heading=True),
            Column("title", "text"),
            Column("messages", "number"),
            Column("created", droppable=True),
            Column("last used"),
        )
        for session in page:
            times = (f"{time:%Y-%m-%d %H:%M}" if time else "" for time in (session.created_at, session.updated_at))
            rows.add_row(format_id(session.id), session.title or "", f"{session.message_count or 0:,}", *times)
        echo_page(rows, page, f"user {user!r} has no {'more ' if cursor else ''}sessions", wide=wide)

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
    wide: Annotated[bool, typer.Option("--wide", help="Do not wrap long lines.")] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Show a session and its messages in order."""

    async def run(store: AgentStore) -> None:
        # One more message than requested shows whether there are earlier ones.
        fetched = limit if limit is None or json_ else limit + 1
        found = await store.sessions.get_session(user, session, limit=fetched, before=before)
        if found is None:
            raise NotFound(f"user {user!r} has no session {session!r}")
        if json_:
            echo_json({**_for_export(found), "messages": [_with_place(message) for message in found.messages]})
            return
        has_earlier = limit is not None and len(found.messages) > limit
        if has_earlier:
            found.messages = found.messages[1:]
        from agentstore.cli.transcript import echo_transcript

        echo_transcript(found, wide=wide)
        if has_earlier and found.messages:
            echo(f"Earlier messages: --limit {limit} --before={shlex.quote(found.messages[0].id)}", style="dim")

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
        echo_error(f"{count:,} sessions to {output}", label="exported", style="green")


At = Annotated[str | None, typer.Option(metavar="ID", help="Id of the last message to include.", callback=require_text)]
First = Annotated[int | None, typer.Option(metavar="N", min=0, help="Number of messages to include, instead of --at.")]
NewId = Annotated[str | None, typer.Option(metavar="ID", help="Id of the fork; default: a generated one.")]


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
        copy = await store.sessions.fork_session(user, session, at=place, new_id=new_id)
        if json_:
            echo_json(_without_messages(copy))
        else:
            echo(f"session {copy.id!r} has the first {len(copy.messages):,} messages of {session!r}")

    run_with_store(url, run)


@group.command()
def rewind(
    user: User,
    session: SessionId,
    at: At = None,
    first: First = None,
    keep: Annotated[bool, typer.Option(help="Fork the session before it is rewound.")] = True,
    new_id: NewId = None,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Rewind a session and its states to a message.

    By default the session is forked first, so that what is removed can be restored.
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
        rewound = await store.sessions.rewind_session(user, session, place, keep=keep, new_id=fork_id)
        forked = keep and await store.sessions.get_session(user, fork_id, limit=0) is not None
        if json_:
            echo_json({**_without_messages(rewound), "kept_in": fork_id if forked else None})
            return
        echo(f"session {session!r} now has {len(rewound.messages):,} messages")
        if forked:
            echo(f"session {fork_id!r} is a copy of it before the rewind")

    run_with_store(url, run)


@group.command()
def delete(user: User, session: SessionId, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete a session and its messages."""
    confirm(f"Delete session {printable(session)!r} of user {printable(user)!r}? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.sessions.delete_session(user, session)
        if json_:
            echo_json({"sessions": deleted.sessions, "messages": deleted.messages})
        elif deleted:
            echo(f"deleted: {deleted.sessions:,} sessions, {deleted.messages:,} messages")
        else:
            echo(f"nothing deleted: user {user!r} has no session {session!r}")

    run_with_store(url, run)


async def _export(store: AgentStore, user: str, ids: list[str] | None, file: TextIO) -> int:
    """Write sessions as JSON Lines, with one session in memory at a time; return how many.

    Raises:
        NotFound: there is no such user, or no such session.
    """
    if await store.users.get_user(user) is None:
        raise NotFound(f"there is no user {user!r}")
    longest = load_settings().max_message_bytes
    count = 0
    async for id in _given(ids) if ids else _all(store, user):
        session = await store.sessions.get_session(user, id)
        if session is not None:
            for part in _split(session, longest):
                write_json(part, file)
            count += 1
        elif ids:
            raise NotFound(f"user {user!r} has no session {id!r}")
    return count


def _split(session: Session, longest: int) -> Iterator[dict[str, Any]]:
    """Yield a session as one or more objects, each of which fits into a line that an import accepts."""
    part = _for_export(session)
    messages, part["messages"] = part["messages"], []
    size = 0
    for message in messages:
        length = len(json.dumps(message))
        if size and size + length > longest:
            yield part
            part["messages"], size = [], 0
        part["messages"].append(message)
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
