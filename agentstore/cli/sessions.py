"""Commands about sessions: to look at them, take them out and delete them."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.text import Text

from agentstore.cli.console import (
    Json,
    Url,
    complain,
    confirmed,
    one_line,
    out,
    plain,
    say,
    say_json,
    say_table,
    table,
    with_store,
    write_json,
)
from agentstore.cli.transcript import transcript
from agentstore.errors import NotFound
from agentstore.schemas import Session
from agentstore.store import AgentStore

app = typer.Typer(help="Look at sessions, export and delete them.", no_args_is_help=True)

User = Annotated[str, typer.Argument(help="The user's id.")]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
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
        rows = table("session", "title", "created", "last used")
        for session in page:
            times = (f"{time:%Y-%m-%d %H:%M}" if time else "" for time in (session.created_at, session.updated_at))
            rows.add_row(Text(one_line(session.id)), Text(one_line(session.title or "")), *times)
        if page:
            say_table(rows)
        else:
            say(f"user {user!r} has no {'more ' if cursor else ''}sessions")
        if page.next_cursor:
            say(f"More: --cursor {page.next_cursor}", style="dim")

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
        found = await store.sessions.get_session(user, session, limit=limit, before=before)
        if found is None:
            raise NotFound(f"user {user!r} has no session {session!r}")
        if json_:
            say_json(_exported(found))
            return
        for part in transcript(found):
            out.print(part)
        if limit is not None and found.messages and len(found.messages) == limit:
            say(f"Earlier ones: --limit {limit} --before {found.messages[0].id}", style="dim")

    with_store(url, run)


@app.command()
def export(
    user: User,
    sessions: Annotated[list[str] | None, typer.Argument(metavar="[SESSION]...", help="All by default.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="A file; by default stdout.")
    ] = None,
    url: Url = None,
) -> None:
    """Export a user's sessions as JSON Lines, exactly: `agentstore import` makes the same ones of them."""

    async def run(store: AgentStore) -> None:
        if output is None:
            await _export(store, user, sessions, sys.stdout)
            return
        # In one piece or not at all.
        part = output.with_name(f"{output.name}.part")
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            count = await _export(store, user, sessions, file)
        part.replace(output)
        complain(f"{count:,} sessions in {output}", label="exported", style="green")

    with_store(url, run)


@app.command()
def delete(user: User, session: SessionId, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete a session and its messages."""
    confirmed(f"Delete session {plain(session)!r} of user {plain(user)!r} for ever?", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.sessions.delete_session(user, session)
        if json_:
            say_json({"sessions": deleted.sessions, "messages": deleted.messages})
        else:
            say(f"deleted: {deleted.sessions:,} sessions, {deleted.messages:,} messages")

    with_store(url, run)


async def _export(store: AgentStore, user: str, ids: list[str] | None, file: TextIO) -> int:
    """Write sessions as JSON Lines, one held at a time; return how many."""
    count = 0
    async for id in _named(ids) if ids else _all(store, user):
        session = await store.sessions.get_session(user, id)
        if session is not None:
            write_json(_exported(session), file)
            count += 1
        elif ids:
            raise NotFound(f"user {user!r} has no session {id!r}")
    return count


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
    return {"object": "session", **session.model_dump(mode="json", serialize_as_any=True)}


def _head(session: Session) -> dict[str, Any]:
    return session.model_dump(mode="json", exclude={"messages"})
