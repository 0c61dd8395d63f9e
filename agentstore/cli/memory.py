"""``agentstore memory`` and ``agentstore reindex``."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from agentstore.cli.connect import run_with_store
from agentstore.cli.options import (
    Cursor,
    Json,
    Limit,
    Url,
    User,
    Wide,
    Yes,
    confirm,
    new_group,
    parse_object,
    require_text,
)
from agentstore.cli.output import counted, echo, echo_json
from agentstore.cli.progress import count_bar
from agentstore.cli.tables import Column, Table, echo_page
from agentstore.cli.visible import format_id, printable
from agentstore.schemas import Role, SearchStrategy
from agentstore.schemas.memory import listed_memory
from agentstore.schemas.message import text_of
from agentstore.schemas.payload import as_message

if TYPE_CHECKING:
    from agentstore.schemas import ListFilters, SearchFilters
    from agentstore.store import AgentStore

group = new_group("Search, add, list and delete memories.")
commands = new_group()

_FULL_TEXT = SearchStrategy.FULL_TEXT
Session = Annotated[
    str | None, typer.Option(metavar="SESSION", help="Only memories of this session.", callback=require_text)
]
Sessions = Annotated[
    list[str] | None,
    typer.Option(
        "--session", metavar="SESSION", help="Only memories of this session; may be repeated.", callback=require_text
    ),
]
OtherSessions = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-session",
        metavar="SESSION",
        help="No memories of this session; may be repeated.",
        callback=require_text,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        metavar="NAMESPACE", help="Only memories in this namespace, such as a/b, or below it.", callback=require_text
    ),
]
Having = Annotated[
    str | None,
    typer.Option(
        "--metadata", metavar="JSON", help="Only memories whose metadata has these values.", callback=require_text
    ),
]


class _Order(StrEnum):
    RELEVANCE = "relevance"
    CHRONOLOGICAL = "chronological"


@group.command()
def search(
    user: User,
    query: Annotated[str, typer.Argument(metavar="TEXT", help="Text to search for.", callback=require_text)],
    top_k: Annotated[int, typer.Option(metavar="N", min=0, max=1_000, help="Maximum number of results.")] = 10,
    session: Sessions = None,
    exclude_session: OtherSessions = None,
    namespace: Namespace = None,
    metadata: Having = None,
    role: Annotated[str | None, typer.Option(metavar="ROLE", help="Only messages of this role.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help='Only this kind: "message", or an item\'s, such as "fact".'),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only memories from this time on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only memories from before this time.")] = None,
    valid_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only items that are valid at this time; default: now.")
    ] = None,
    now: Annotated[
        str | None, typer.Option(metavar="TIME", help='Time of the question, by which "last week" is a date.')
    ] = None,
    min_score: Annotated[float, typer.Option(metavar="SCORE", help="Minimum score of a result.")] = 0.0,
    neighbors: Annotated[bool, typer.Option(help="Also find memories by their neighbors in the session.")] = True,
    order: Annotated[_Order, typer.Option(help="Best first, or by time.")] = _Order.RELEVANCE,
    strategy: Annotated[
        SearchStrategy, typer.Option(help="Search by words, by meaning (vectors), or by both.")
    ] = _FULL_TEXT,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Search a user's memories; best matches first.

    TIME is in ISO 8601, such as 2026-01-31 or 2026-01-31T12:00+01:00, or in seconds since 1970.
    """
    filters: SearchFilters = {
        "top_k": top_k,
        "session_id": session or None,
        "exclude_session_id": exclude_session or None,
        "namespace": namespace,
        "metadata": None if metadata is None else parse_object(metadata),
        "role": role,
        "kind": kind,
        "since": since,
        "until": until,
        "valid_at": valid_at,
        "now": now,
        "min_score": min_score,
        "neighbors": neighbors,
        "order": order.value,
        "strategy": strategy,
    }

    async def run(store: AgentStore) -> None:
        hits = await store.memory.search(user, query, filters)
        if json_:
            echo_json(
                [
                    {
                        "score": hit.score,
                        "rerank_score": hit.rerank_score,
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
            return
        echo(f"no memories of user {user!r} match")
        if not await store.memory.list_memory(user, {"page_size": 1}):
            _echo_hints(user, has_sessions=bool(await store.sessions.list_sessions(user, limit=1)))

    run_with_store(url, run)


def _echo_hints(user: str, *, has_sessions: bool) -> None:
    """Say how a user without memories gets some."""
    echo(f"user {user!r} has no memories; to add some:", style="dim")
    name = shlex.quote(user)
    if has_sessions:
        echo(f"  agentstore memory add-sessions -- {name}", style="dim")
    echo("  agentstore import --remember FILE", style="dim")
    echo(f"  agentstore memory add -- {name} TEXT", style="dim")


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


@group.command()
def add_sessions(
    user: User,
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="SESSION", help="Session ids; default: all.", callback=require_text),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE", help="Namespace of the memories, such as a/b.", callback=require_text),
    ] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Add the messages of a user's sessions to memory.

    Safe to interrupt and run again: messages that memory has already are skipped.
    """

    async def run(store: AgentStore) -> None:
        added = await store.memory.add_sessions(user, sessions or None, namespace=namespace)
        if json_:
            echo_json({"added": added})
        else:
            echo(f"added: {counted(memory=added)}")

    run_with_store(url, run)


@group.command("list")
def list_(
    user: User,
    session: Sessions = None,
    exclude_session: OtherSessions = None,
    namespace: Namespace = None,
    metadata: Having = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """List a user's memories, by session and position."""
    filters: ListFilters = {
        "session_id": session or None,
        "exclude_session_id": exclude_session or None,
        "namespace": namespace,
        "metadata": None if metadata is None else parse_object(metadata),
        "page_size": limit,
        "cursor": cursor,
    }

    async def run(store: AgentStore) -> None:
        page = await store.memory.list_memory(user, filters)
        places = list(map(listed_memory, page))
        if json_:
            messages = [
                {**message.model_dump(serialize_as_any=True), **place._asdict(), "time": place.time.isoformat()}
                for message, place in zip(page, places, strict=True)
            ]
            echo_json({"messages": messages, "next_cursor": page.next_cursor})
            return
        rows = Table(
            Column("session", "id", heading=True),
            Column("id", "id"),
            Column("time"),
            Column("kind"),
            Column("text", "text"),
        )
        for message, place in zip(page, places, strict=True):
            rows.add_row(
                format_id(place.session_id),
                format_id(message.id),
                f"{place.time:%Y-%m-%d %H:%M}",
                (message.role or "") if place.kind == "message" else place.kind,
                text_of(message),
            )
        is_filtered = any(each is not None for name, each in filters.items() if name not in ("page_size", "cursor"))
        missing = f"user {user!r} has no {'more ' if cursor else ''}memories{' that match' if is_filtered else ''}"
        echo_page(rows, page, missing, wide=wide)

    run_with_store(url, run)


@group.command()
def delete(user: User, session: Session = None, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete all memories of a user, or those of one session."""
    subject = "all memories" if session is None else f"the memories of session {printable(session)!r}"
    confirm(f"Delete {subject} of user {printable(user)!r}? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.memory.delete_memory(user, session)
        if json_:
            echo_json({"memories": deleted.memories})
        else:
            echo(f"deleted: {counted(memory=deleted.memories)}")

    run_with_store(url, run, is_large=True)


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
            echo(f"reindexed: {counted(memory=written)}")

    run_with_store(url, run)
