"""Commands about the states of agents: to look at them, compare and delete them."""

import json
from typing import Annotated

import typer
from rich.text import Text

from agentstore.cli.console import (
    Json,
    Url,
    as_text,
    confirmed,
    dumped,
    one_line,
    plain,
    say,
    say_json,
    say_page,
    table,
    with_store,
)
from agentstore.cli.sessions import Cursor, Limit, User, Yes
from agentstore.errors import NotFound
from agentstore.store import AgentStore

app = typer.Typer(help="Look at the states of agents, compare and delete them.", no_args_is_help=True)

SessionId = Annotated[str, typer.Argument(metavar="[SESSION]", help="The session's id.", callback=as_text)]
Round = Annotated[int | None, typer.Option("--round", min=1, help="The number of a round.")]


@app.command("list")
def list_(
    user: User,
    session: SessionId = "default",
    limit: Limit = 50,
    cursor: Cursor = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """List the rounds of a session, the highest first."""

    async def run(store: AgentStore) -> None:
        page = await store.states.list_states(user, session, limit=limit, cursor=cursor)
        if json_:
            say_json({"rounds": [dumped(each) for each in page], "next_cursor": page.next_cursor})
            return
        rows = table("round", "bytes", "metadata", saved=16)
        for each in page:
            metadata = one_line(json.dumps(each.metadata, ensure_ascii=False)) if each.metadata else ""
            rows.add_row(str(each.round_id), f"{each.size:,}", Text(metadata), f"{each.saved_at:%Y-%m-%d %H:%M}")
        say_page(rows, page, f"session {session!r} of user {user!r} has no {'more ' if cursor else ''}states")

    with_store(url, run)


@app.command()
def show(user: User, session: SessionId = "default", round_: Round = None, url: Url = None) -> None:
    """Print a state as JSON: the highest round's, or another one's."""

    async def run(store: AgentStore) -> None:
        state = await store.states.export_state(user, session, round_)
        if state is None:
            which = "states" if round_ is None else f"round {round_}"
            raise NotFound(f"session {session!r} of user {user!r} has no {which}")
        say_json(state)

    with_store(url, run)


@app.command()
def diff(
    user: User,
    session: SessionId,
    a: Annotated[int, typer.Argument(metavar="ROUND", min=1, help="What is compared,")],
    b: Annotated[int, typer.Argument(metavar="ROUND", min=1, help="and with what.")],
    url: Url = None,
    json_: Json = False,
) -> None:
    """Say what changed from one round to another, as a JSON Patch (RFC 6902)."""

    async def run(store: AgentStore) -> None:
        operations = await store.states.diff_states(user, a, b, session)
        if json_:
            say_json(operations)
            return
        for each in operations:
            value = one_line(json.dumps(each["value"], ensure_ascii=False)) if "value" in each else each.get("from", "")
            say(f"{each['op']:8} {each['path'] or '(all)'} {value}".rstrip())
        if not operations:
            say("they are equal")

    with_store(url, run)


@app.command()
def delete(
    user: User,
    session: SessionId,
    round_: Round = None,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Delete all states of a session, or one round."""
    what = "all states" if round_ is None else f"round {round_}"
    confirmed(f"Delete {what} of session {plain(session)!r} of user {plain(user)!r}? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.states.delete_state(user, session, round_)
        if json_:
            say_json({"state_rounds": deleted.state_rounds})
        elif deleted:
            say(f"deleted: {deleted.state_rounds:,} rounds")
        else:
            say(f"nothing deleted: session {session!r} of user {user!r} has no such states")

    with_store(url, run)
