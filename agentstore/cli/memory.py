"""Commands about memories: to search them, look at them and delete them."""

from typing import Annotated

import typer
from rich.text import Text

from agentstore.cli.console import (
    Json,
    Url,
    as_text,
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
from agentstore.schemas import SearchStrategy
from agentstore.schemas.memory import text_of
from agentstore.store import AgentStore

app = typer.Typer(help="Search memories, look at them and delete them.", no_args_is_help=True)

_LONGEST_TEXT = 200
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
                        "message": hit.message.model_dump(serialize_as_any=True),
                    }
                    for hit in hits
                ]
            )
            return
        rows = table("session", "role", "text", score=6, time=16)
        for hit in hits:
            said = one_line(text_of(hit.message))
            said = said if len(said) <= _LONGEST_TEXT else f"{said[:_LONGEST_TEXT]}..."
            rows.add_row(
                Text(shown_id(hit.session_id)),
                Text(one_line(hit.message.role or "")),
                Text(said),
                f"{hit.score:.2f}",
                f"{hit.time:%Y-%m-%d %H:%M}",
            )
        if hits:
            say_table(rows)
        else:
            say(f"nothing of user {user!r} fits")

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
