"""Commands about memories: to search, add, list and delete them, and to make them findable anew."""

from typing import Annotated

import typer
from rich.text import Text

from agentstore.cli.console import (
    Json,
    Url,
    as_text,
    bar,
    confirmed,
    one_line,
    plain,
    say,
    say_json,
    say_table,
    shown_id,
    table,
    with_store,
)
from agentstore.cli.sessions import Cursor, Limit, User, Yes
from agentstore.schemas import Role, SearchStrategy
from agentstore.schemas.memory import text_of
from agentstore.schemas.payload import as_message
from agentstore.store import AgentStore

app = typer.Typer(help="Search memories, add to them, list and delete them.", no_args_is_help=True)

_FULL_TEXT = SearchStrategy.FULL_TEXT
Session = Annotated[str | None, typer.Option(help="Only that session's.", callback=as_text)]


@app.command()
def search(
    user: User,
    question: Annotated[str, typer.Argument(metavar="TEXT", help="What is looked for.", callback=as_text)],
    top_k: Annotated[int, typer.Option(min=0, max=1_000, help="How many at most.")] = 10,
    session: Session = None,
    role: Annotated[str | None, typer.Option(help="Only what this role said.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what was said then or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was said before.")] = None,
    strategy: Annotated[SearchStrategy, typer.Option(help="By words, by meaning, or by both.")] = _FULL_TEXT,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Search a user's memories, the best first."""

    async def run(store: AgentStore) -> None:
        filters = {"top_k": top_k, "session_id": session, "role": role, "since": since, "until": until}
        filters["strategy"] = strategy
        hits = await store.memory.search(user, question, filters)
        if json_:
            say_json(
                [
                    {
                        "score": hit.score,
                        "session_id": hit.session_id,
                        "position": hit.position,
                        "time": hit.time.isoformat(),
                        "snippet": hit.snippet,
                        "message": hit.message.model_dump(serialize_as_any=True),
                    }
                    for hit in hits
                ]
            )
            return
        rows = table("session", "role", "text", score=6, time=16)
        for hit in hits:
            shown = Text()
            for part, is_match in hit.highlights:
                # A sign on each side keeps the blanks at its ends.
                shown.append(one_line(f"|{part}|")[1:-1], style="bold yellow" if is_match else "")
            rows.add_row(
                Text(shown_id(hit.session_id)),
                Text(one_line(hit.item.kind if hit.item else hit.message.role or "")),
                shown,
                f"{hit.score:.2f}",
                f"{hit.time:%Y-%m-%d %H:%M}",
            )
        if hits:
            say_table(rows)
        else:
            say(f"nothing of user {user!r} fits")

    with_store(url, run)


@app.command()
def add(
    user: User,
    said: Annotated[str, typer.Argument(metavar="TEXT", help="What is remembered.", callback=as_text)],
    session: Annotated[str | None, typer.Option(help="The session whose it is; else the default one.")] = None,
    role: Annotated[str, typer.Option(help="Who said it.")] = Role.USER,
    kind: Annotated[
        str | None, typer.Option(help='What it is, as in "fact", if it was not said but concluded.')
    ] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Add a memory: something that was said, or with --kind a fact."""

    async def run(store: AgentStore) -> None:
        if kind is not None:
            (item,) = await store.memory.save_items(user, {"text": said, "kind": kind}, session)
            id = item.id
        else:
            message = as_message({"role": role, "content": [{"type": "text", "text": said}]})
            await store.memory.add_memory(user, message, session)
            id = message.id
        if json_:
            say_json({"id": id})
        else:
            say(f"added: {id}")

    with_store(url, run)


@app.command("list")
def list_(user: User, limit: Limit = 50, cursor: Cursor = None, url: Url = None, json_: Json = False) -> None:
    """List a user's memories: sessions by id, messages in order."""

    async def run(store: AgentStore) -> None:
        page = await store.memory.list_memory(user, {"page_size": limit, "cursor": cursor})
        if json_:
            messages = [message.model_dump(serialize_as_any=True) for message in page]
            say_json({"messages": messages, "next_cursor": page.next_cursor})
            return
        rows = table("id", "role", "text")
        for message in page:
            rows.add_row(
                Text(shown_id(message.id)), Text(one_line(message.role or "")), Text(one_line(text_of(message)))
            )
        if page:
            say_table(rows)
        else:
            say(f"user {user!r} has no {'more ' if cursor else ''}memories")
        if page.next_cursor:
            say(f"More: --cursor {page.next_cursor}", style="dim")

    with_store(url, run)


@app.command()
def delete(user: User, session: Session = None, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete a session's memories, or all of a user's."""
    of = "all memories" if session is None else f"the memories of session {plain(session)!r}"
    confirmed(f"Delete {of} of user {plain(user)!r}? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.memory.delete_memory(user, session)
        if json_:
            say_json({"memories": deleted.memories})
        else:
            say(f"deleted: {deleted.memories:,} memories")

    with_store(url, run)


def reindex(
    user: Annotated[str | None, typer.Option(help="Only this user's memories.", callback=as_text)] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Make memories findable as this release does: after an upgrade, or another TEXT_SEARCH_CONFIG.

    It runs beside everything else, and may be stopped and said again: what is done is passed over.
    """

    async def run(store: AgentStore) -> None:
        with bar("memories") as progress:
            written = await store.memory.reindex(user_id=user, progress=progress)
        if json_:
            say_json({"reindexed": written})
        else:
            say(f"reindexed: {written:,} memories")

    with_store(url, run)
