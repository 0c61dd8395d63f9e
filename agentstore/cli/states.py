"""``agentstore states``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from agentstore.cli.connect import run_with_store
from agentstore.cli.options import (
    Cursor,
    Json,
    Limit,
    Metadata,
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
from agentstore.cli.output import counted, dump, echo, echo_json
from agentstore.cli.tables import Column, Table, echo_page
from agentstore.cli.visible import one_line, printable
from agentstore.errors import NotFound

if TYPE_CHECKING:
    from agentstore.store import AgentStore

group = new_group("List, show, save, compare and delete agent states.")

OptionalSessionId = Annotated[str, typer.Argument(metavar="SESSION", help="Session id.", callback=require_text)]
Round = Annotated[int | None, typer.Option("--round", metavar="ROUND", min=1, help="Number of the round.")]


@group.command("list")
def list_(
    user: User,
    session: OptionalSessionId = "default",
    limit: Limit = 50,
    cursor: Cursor = None,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """List the rounds of a session, highest first."""

    async def run(store: AgentStore) -> None:
        page = await store.states.list_states(user, session, limit=limit, cursor=cursor)
        if json_:
            echo_json({"rounds": [dump(each) for each in page], "next_cursor": page.next_cursor})
            return
        rows = Table(Column("round", "number"), Column("bytes", "number"), Column("metadata", "text"), Column("saved"))
        for each in page:
            metadata = json.dumps(each.metadata, ensure_ascii=False) if each.metadata else ""
            rows.add_row(str(each.round_id), f"{each.size:,}", metadata, f"{each.saved_at:%Y-%m-%d %H:%M}")
        echo_page(
            rows, page, f"session {session!r} of user {user!r} has no {'more ' if cursor else ''}states", wide=wide
        )

    run_with_store(url, run)


@group.command()
def show(user: User, session: OptionalSessionId = "default", round_: Round = None, url: Url = None) -> None:
    """Print a state as JSON; by default that of the highest round."""

    async def run(store: AgentStore) -> None:
        state = await store.states.export_state(user, session, round_)
        if state is None:
            missing = "states" if round_ is None else f"round {round_}"
            raise NotFound(f"session {session!r} of user {user!r} has no {missing}")
        echo_json(state)

    run_with_store(url, run)


@group.command()
def save(
    user: User,
    session: SessionId,
    state: Annotated[
        str, typer.Argument(metavar="JSON", help="State, a JSON object; - is stdin.", callback=require_text)
    ],
    round_: Annotated[
        int | None,
        typer.Option("--round", metavar="ROUND", min=1, help="Round to write or overwrite; default: the next one."),
    ] = None,
    expected_round: Annotated[
        int | None,
        typer.Option(metavar="ROUND", min=0, help="Save only if this is the highest round; 0: there is none."),
    ] = None,
    metadata: Metadata = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Save a state and print the number of its round."""
    value = parse_object(read_text(state))
    about = None if metadata is None else parse_object(metadata)

    async def run(store: AgentStore) -> None:
        saved = await store.states.save_state(
            user, value, session, round_, metadata=about, expected_round=expected_round
        )
        if json_:
            echo_json({"round_id": saved})
        else:
            echo(f"round {saved}")

    run_with_store(url, run)


@group.command()
def diff(
    user: User,
    session: SessionId,
    a: Annotated[int, typer.Argument(metavar="ROUND", min=1, help="The earlier round,")],
    b: Annotated[int, typer.Argument(metavar="ROUND", min=1, help="and the round to compare it with.")],
    url: Url = None,
    json_: Json = False,
) -> None:
    """Print the changes between two rounds as a JSON Patch (RFC 6902)."""

    async def run(store: AgentStore) -> None:
        operations = await store.states.diff_states(user, a, b, session)
        if json_:
            echo_json(operations)
            return
        for each in operations:
            value = one_line(json.dumps(each["value"], ensure_ascii=False)) if "value" in each else each.get("from", "")
            echo(f"{each['op']:8} {each['path'] or '(all)'} {value}".rstrip())
        if not operations:
            echo("no changes")

    run_with_store(url, run)


@group.command()
def delete(
    user: User,
    session: SessionId,
    round_: Round = None,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Delete one round, or all states of a session."""
    subject = "all states" if round_ is None else f"round {round_}"
    confirm(
        f"Delete {subject} of session {printable(session)!r} of user {printable(user)!r}? This cannot be undone.", yes
    )

    async def run(store: AgentStore) -> None:
        deleted = await store.states.delete_state(user, session, round_)
        if json_:
            echo_json({"state_rounds": deleted.state_rounds})
        elif deleted:
            echo(f"deleted: {counted(round=deleted.state_rounds)}")
        else:
            missing = "states" if round_ is None else f"round {round_}"
            echo(f"nothing deleted: session {session!r} of user {user!r} has no {missing}")

    run_with_store(url, run, is_large=True)
