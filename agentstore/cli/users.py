"""Commands about users: to look at them, and delete them with everything that is theirs."""

import json
import shlex
from dataclasses import asdict

import typer
from rich.text import Text

from agentstore.cli.console import (
    Json,
    Url,
    confirmed,
    dumped,
    one_line,
    plain,
    say,
    say_json,
    say_page,
    shown_id,
    table,
    with_store,
)
from agentstore.cli.sessions import Cursor, Limit, User, Yes
from agentstore.errors import NotFound
from agentstore.store import AgentStore

app = typer.Typer(help="Look at users, and delete them.", no_args_is_help=True)


@app.command("list")
def list_(limit: Limit = 50, cursor: Cursor = None, url: Url = None, json_: Json = False) -> None:
    """List users by their ids."""

    async def run(store: AgentStore) -> None:
        page = await store.users.list_users(limit=limit, cursor=cursor)
        if json_:
            say_json({"users": [dumped(user) for user in page], "next_cursor": page.next_cursor})
            return
        rows = table("user", "metadata", since=16)
        for user in page:
            metadata = one_line(json.dumps(user.metadata, ensure_ascii=False)) if user.metadata else ""
            since = f"{user.created_at:%Y-%m-%d %H:%M}" if user.created_at else ""
            rows.add_row(Text(shown_id(user.id)), Text(metadata), since)
        say_page(rows, page, f"there are no {'more ' if cursor else ''}users")

    with_store(url, run)


@app.command()
def show(user: User, url: Url = None, json_: Json = False) -> None:
    """Show what is known of a user."""

    async def run(store: AgentStore) -> None:
        found = await store.users.get_user(user)
        if found is None:
            raise NotFound(f"there is no user {user!r}")
        if json_:
            say_json(dumped(found))
            return
        out_of = f"{found.created_at:%Y-%m-%d %H:%M} UTC" if found.created_at else "unknown"
        say(found.id, style="bold")
        say(f"since {out_of}", style="dim")
        if found.metadata:
            say(json.dumps(found.metadata, ensure_ascii=False, indent=2))
        say(f"Sessions: agentstore sessions list -- {shlex.quote(user)}", style="dim")

    with_store(url, run)


@app.command()
def delete(user: User, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete a user and everything that is the user's."""
    confirmed(f"Delete user {plain(user)!r} and everything that is the user's? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        known = await store.users.get_user(user) is not None
        deleted = await store.users.delete_user(user)
        known = known or bool(deleted)
        if json_:
            say_json({"users": int(known), **asdict(deleted)})
        elif known:
            say(
                f"deleted: the user, {deleted.sessions:,} sessions, {deleted.messages:,} messages, "
                f"{deleted.memories:,} memories, {deleted.state_rounds:,} state rounds, "
                f"{deleted.workspaces:,} workspaces"
            )
        else:
            say(f"nothing deleted: there is no user {user!r}")

    with_store(url, run)
