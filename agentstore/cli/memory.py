"""``agentstore memory`` and ``agentstore reindex``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentstore.cli.connect import run_with_store
from agentstore.cli.options import Cursor, Json, Limit, Url, User, Wide, Yes, confirm, new_group, require_text
from agentstore.cli.output import echo, echo_json
from agentstore.cli.progress import count_bar
from agentstore.cli.tables import Column, Table, echo_page
from agentstore.cli.visible import format_id, printable
from agentstore.schemas import Role, SearchStrategy
from agentstore.schemas.message import text_of
from agentstore.schemas.payload import as_message

if TYPE_CHECKING:
    from agentstore.store import AgentStore

group = new_group("Search, add, list and delete memories.")
commands = new_group()

_FULL_TEXT = SearchStrategy.FULL_TEXT
Session = Annotated[
    str | None, typer.Option(metavar="SESSION", help="Only memories of this session.", callback=require_text)
]


@group.command()
def search(
    user: User,
    query: Annotated[str, typer.Argument(metavar="TEXT", help="Text to search for.", callback=require_text)],
    top_k: Annotated[int, typer.Option(metavar="N", min=0, max=1_000, help="Maximum number of results.")] = 10,
    session: Session = None,
    role: Annotated[str | None, typer.Option(metavar="ROLE", help="Only messages of this role.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only memories from this time on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only memories from before this time.")] = None,
    strategy: Annotated[
        SearchStrategy, typer.Option(help="Search by words, by meaning (vectors), or by both.")
    ] = _FULL_TEXT,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Search a user's memories; best matches first."""

    async def run(store: AgentStore) -> None:
        filters = {"top_k": top_k, "session_id": session, "role": role, "since": since, "until": until}
        filters["strategy"] = strategy
        hits = await store.memory.search(user, query, filters)
        if json_:
            echo_json(
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
        rows = Table(
            Column("session", "id", heading=True),
            Column("score", "number"),
            Column("time"),
            Column("kind"),
            Column("text", "text"),
        )
        for hit in hits:
            rows.add_row(
                format_id(hit.session_id),
                f"{hit.score:.2f}",
                f"{hit.time:%Y-%m-%d %H:%M}",
                hit.item.kind if hit.item else hit.message.role or "",
                [(part, "bold yellow" if is_match else "") for part, is_match in hit.highlights],
            )
        if hits:
            rows.echo(wide=wide)
        else:
            echo(f"no memories of user {user!r} match")

    run_with_store(url, run)


@group.command()
def add(
    user: User,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text of the memory.", callback=require_text)],
    session: Annotated[
        str | None, typer.Option(metavar="SESSION", help="Session of the memory; default: the default session.")
    ] = None,
    role: Annotated[str, typer.Option(metavar="ROLE", help="Role of the message.")] = Role.USER,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help='Add an item of this kind, such as "fact", instead of a message.')
    ] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Add a message or, with --kind, a fact to a user's memories."""

    async def run(store: AgentStore) -> None:
        if kind is not None:
            (item,) = await store.memory.save_items(user, {"text": text, "kind": kind}, session)
            id = item.id
        else:
            message = as_message({"role": role, "content": text})
            await store.memory.add_memory(user, message, session)
            id = message.id
        if json_:
            echo_json({"id": id})
        else:
            echo(f"added: {id}")

    run_with_store(url, run)


@group.command("list")
def list_(
    user: User,
    limit: Limit = 50,
    cursor: Cursor = None,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """List a user's memories, by session and position."""

    async def run(store: AgentStore) -> None:
        page = await store.memory.list_memory(user, {"page_size": limit, "cursor": cursor})
        if json_:
            messages = [message.model_dump(serialize_as_any=True) for message in page]
            echo_json({"messages": messages, "next_cursor": page.next_cursor})
            return
        rows = Table(Column("id", "id", heading=True), Column("role"), Column("text", "text"))
        for message in page:
            rows.add_row(format_id(message.id), message.role or "", text_of(message))
        echo_page(rows, page, f"user {user!r} has no {'more ' if cursor else ''}memories", wide=wide)

    run_with_store(url, run)


@group.command()
def delete(user: User, session: Session = None, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete all memories of a user or, with --session, those of a session."""
    subject = "all memories" if session is None else f"the memories of session {printable(session)!r}"
    confirm(f"Delete {subject} of user {printable(user)!r}? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.memory.delete_memory(user, session)
        if json_:
            echo_json({"memories": deleted.memories})
        else:
            echo(f"deleted: {deleted.memories:,} memories")

    run_with_store(url, run)


@commands.command()
def reindex(
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Only memories of this user.", callback=require_text)
    ] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Update the full-text index of memories to this release.

    Needed after an upgrade that changes text analysis, or a change of AGENTSTORE_TEXT_SEARCH_CONFIG. Runs while the
    store is in use, and is safe to interrupt and run again: up-to-date memories are skipped.
    """

    async def run(store: AgentStore) -> None:
        with count_bar("memories") as progress:
            written = await store.memory.reindex(user_id=user, progress=progress)
        if json_:
            echo_json({"reindexed": written})
        else:
            echo(f"reindexed: {written:,} memories")

    run_with_store(url, run)
