"""Commands about sessions: to look at them, take them out, go back in time and delete them."""

import json
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO
from uuid import uuid4

import typer
from pydantic import ValidationError
from rich.text import Text

from agentstore.cli.console import (
    Json,
    Url,
    as_text,
    complain,
    confirmed,
    dumped,
    one_line,
    out,
    plain,
    replacing,
    say,
    say_json,
    say_page,
    settings,
    shown_id,
    table,
    with_store,
    write_json,
)
from agentstore.cli.transcript import transcript
from agentstore.errors import AgentStoreError, AlreadyExists, NotFound
from agentstore.schemas import Session
from agentstore.store import AgentStore

app = typer.Typer(help="Look at sessions, export, fork, rewind and delete them.", no_args_is_help=True)

User = Annotated[str, typer.Argument(metavar="USER", help="The user's id.", callback=as_text)]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.", callback=as_text)]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]
Cursor = Annotated[str | None, typer.Option(help="Where the page before ended.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_(user: User, limit: Limit = 50, cursor: Cursor = None, url: Url = None, json_: Json = False) -> None:
    """List a user's sessions, the last used first."""

    async def run(store: AgentStore) -> None:
        page = await store.sessions.list_sessions(user, limit=limit, cursor=cursor)
        if json_:
            say_json({"sessions": [_head(session) for session in page], "next_cursor": page.next_cursor})
            return
        rows = table("session", "title", created=16, last_used=16)
        for session in page:
            times = (f"{time:%Y-%m-%d %H:%M}" if time else "" for time in (session.created_at, session.updated_at))
            rows.add_row(Text(shown_id(session.id)), Text(one_line(session.title or "")), *times)
        say_page(rows, page, f"user {user!r} has no {'more ' if cursor else ''}sessions")

    with_store(url, run)


@app.command()
def show(
    user: User,
    session: SessionId,
    limit: Annotated[int | None, typer.Option(min=0, help="The last so many messages; all by default.")] = None,
    before: Annotated[str | None, typer.Option(help="Only messages before the one with this id.")] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Show a session's messages in order."""

    async def run(store: AgentStore) -> None:
        # One more than wanted says whether there are more.
        more = None if limit is None or json_ else limit + 1
        found = await _get(store, user, session, limit=more or limit, before=before)
        if found is None:
            raise NotFound(f"user {user!r} has no session {session!r}")
        if json_:
            say_json(_exported(found))
            return
        earlier = limit is not None and len(found.messages) > limit
        if earlier:
            found.messages = found.messages[1:]
        for part in transcript(found):
            out.print(part)
        if earlier and found.messages:
            say(f"Earlier ones: --limit {limit} --before={shlex.quote(found.messages[0].id)}", style="dim")

    with_store(url, run)


@app.command()
def export(
    user: User,
    sessions: Annotated[
        list[str] | None, typer.Argument(metavar="[SESSION]...", help="All by default.", callback=as_text)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="A file; by default stdout.")
    ] = None,
    url: Url = None,
) -> None:
    """Export a user's sessions as JSON Lines, exactly: `agentstore import` makes the same ones of them."""

    async def run(store: AgentStore) -> int:
        if output is None:
            return await _export(store, user, sessions, sys.stdout)
        with replacing(output) as file:
            return await _export(store, user, sessions, file)

    count = with_store(url, run)
    if output is not None:
        complain(f"{count:,} sessions in {output}", label="exported", style="green")


At = Annotated[str | None, typer.Option(metavar="ID", help="The last message that is wanted.", callback=as_text)]
First = Annotated[int | None, typer.Option(min=0, help="Instead of its id, how many messages are wanted.")]
NewId = Annotated[str | None, typer.Option(metavar="ID", help="The id of the fork; a new one by default.")]


def _place(at: str | None, first: int | None) -> str | int | None:
    if at is not None and first is not None:
        raise typer.BadParameter("say --at or --first, not both")
    return first if at is None else at


@app.command()
def fork(
    user: User,
    session: SessionId,
    at: At = None,
    first: First = None,
    new_id: NewId = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Copy a session under a new id, up to a message, with the states of then. All of it by default."""
    place = _place(at, first)

    async def run(store: AgentStore) -> None:
        made = await store.sessions.fork_session(user, session, at=place, new_id=new_id)
        if json_:
            say_json(_head(made))
        else:
            say(f"session {made.id!r} has the first {len(made.messages):,} messages of {session!r}")

    with_store(url, run)


@app.command()
def rewind(
    user: User,
    session: SessionId,
    at: At = None,
    first: First = None,
    keep: Annotated[bool, typer.Option(help="Keep the session as it was in a fork.")] = True,
    new_id: NewId = None,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Take a session and its states back to a message; what came after it is kept in a fork."""
    place = _place(at, first)
    if place is None:
        raise typer.BadParameter("say where to: --at or --first")
    if not keep:
        confirmed(f"Remove what came after it from session {plain(session)!r}? This cannot be undone.", yes)
    fork_id = (new_id or "").strip() or str(uuid4())

    async def run(store: AgentStore) -> None:
        if keep and await store.sessions.get_session(user, fork_id, limit=0) is not None:
            raise AlreadyExists(f"user {user!r} has a session {fork_id!r}")
        left = await store.sessions.rewind_session(user, session, place, keep=keep, new_id=fork_id)
        kept = keep and await store.sessions.get_session(user, fork_id, limit=0) is not None
        if json_:
            say_json({**_head(left), "kept_in": fork_id if kept else None})
            return
        say(f"session {session!r} has {len(left.messages):,} messages now")
        if kept:
            say(f"as it was, it is session {fork_id!r}")

    with_store(url, run)


@app.command()
def delete(user: User, session: SessionId, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete a session and its messages."""
    confirmed(f"Delete session {plain(session)!r} of user {plain(user)!r}? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.sessions.delete_session(user, session)
        if json_:
            say_json({"sessions": deleted.sessions, "messages": deleted.messages})
        elif deleted:
            say(f"deleted: {deleted.sessions:,} sessions, {deleted.messages:,} messages")
        else:
            say(f"nothing deleted: user {user!r} has no session {session!r}")

    with_store(url, run)


async def _get(store: AgentStore, user: str, session: str, **part: Any) -> Session | None:
    """Return a session.

    Raises:
        AgentStoreError: something that was not written by agentstore is stored where its messages are.
    """
    try:
        return await store.sessions.get_session(user, session, **part)
    except ValidationError as error:
        raise AgentStoreError(f"session {session!r} of user {user!r} has a message that is none: {error}") from error


async def _export(store: AgentStore, user: str, ids: list[str] | None, file: TextIO) -> int:
    """Write sessions as JSON Lines, one held at a time; return how many.

    Raises:
        NotFound: there is no such user, or no such session.
    """
    if await store.users.get_user(user) is None:
        raise NotFound(f"there is no user {user!r}")
    longest = settings().max_message_bytes
    count = 0
    async for id in _named(ids) if ids else _all(store, user):
        session = await _get(store, user, id)
        if session is not None:
            for part in _parts(session, longest):
                write_json(part, file)
            count += 1
        elif ids:
            raise NotFound(f"user {user!r} has no session {id!r}")
    return count


def _parts(session: Session, longest: int) -> Iterator[dict[str, Any]]:
    """Yield the lines that a session is: more than one if it is longer than an import takes a line."""
    head = _exported(session)
    messages, head["messages"] = head["messages"], []
    size = 0
    for message in messages:
        length = len(json.dumps(message))
        if size and size + length > longest:
            yield head
            head["messages"], size = [], 0
        head["messages"].append(message)
        size += length
    yield head


async def _named(ids: list[str]) -> AsyncIterator[str]:
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


def _exported(session: Session) -> dict[str, Any]:
    """A session as JSON, in the form that an import takes for exactly this."""
    return {"object": "session", **dumped(session)}


def _head(session: Session) -> dict[str, Any]:
    return {name: each for name, each in dumped(session).items() if name != "messages"}
