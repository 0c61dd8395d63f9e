"""``agentstore users`` and ``agentstore erase``."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

from agentstore.cli.connect import run_with_store
from agentstore.cli.options import Cursor, Json, Limit, Url, User, Wide, Yes, confirm, new_group
from agentstore.cli.output import counted, dump, echo, echo_json
from agentstore.cli.tables import Column, Table, echo_page
from agentstore.cli.visible import format_id, printable
from agentstore.errors import NotFound

if TYPE_CHECKING:
    from agentstore.store import AgentStore

group = new_group("List, show and delete users.")
commands = new_group()


@group.command("list")
def list_(limit: Limit = 50, cursor: Cursor = None, wide: Wide = False, url: Url = None, json_: Json = False) -> None:
    """List users, ordered by id."""

    async def run(store: AgentStore) -> None:
        page = await store.users.list_users(limit=limit, cursor=cursor)
        if json_:
            echo_json({"users": [dump(user) for user in page], "next_cursor": page.next_cursor})
            return
        rows = Table(Column("user", "id", heading=True), Column("metadata", "text"), Column("created"))
        for user in page:
            metadata = json.dumps(user.metadata, ensure_ascii=False) if user.metadata else ""
            created = f"{user.created_at:%Y-%m-%d %H:%M}" if user.created_at else ""
            rows.add_row(format_id(user.id), metadata, created)
        echo_page(rows, page, f"there are no {'more ' if cursor else ''}users", wide=wide)

    run_with_store(url, run)


@group.command()
def show(user: User, url: Url = None, json_: Json = False) -> None:
    """Show a user's metadata."""

    async def run(store: AgentStore) -> None:
        found = await store.users.get_user(user)
        if found is None:
            raise NotFound(f"there is no user {user!r}")
        if json_:
            echo_json(dump(found))
            return
        created = f"{found.created_at:%Y-%m-%d %H:%M} UTC" if found.created_at else "at an unknown time"
        echo(found.id, style="bold")
        echo(f"created {created}", style="dim")
        if found.metadata:
            echo(json.dumps(found.metadata, ensure_ascii=False, indent=2))
        echo(f"Sessions: agentstore sessions list -- {shlex.quote(user)}", style="dim")

    run_with_store(url, run)


@commands.command("erase")
@group.command()
def delete(user: User, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete a user and all of the user's data."""
    confirm(f"Delete user {printable(user)!r} and all of the user's data? This cannot be undone.", yes)

    async def run(store: AgentStore) -> None:
        existed = await store.users.get_user(user) is not None
        deleted = await store.users.delete_user(user)
        existed = existed or bool(deleted)
        if json_:
            echo_json({"users": int(existed), **asdict(deleted)})
        elif existed:
            echo(
                "deleted: the user, "
                + counted(
                    session=deleted.sessions,
                    message=deleted.messages,
                    memory=deleted.memories,
                    state_round=deleted.state_rounds,
                    workspace=deleted.workspaces,
                    value=deleted.values,
                    blob=deleted.blobs,
                    checkpoint=deleted.checkpoints,
                )
            )
        else:
            echo(f"nothing deleted: there is no user {user!r}")

    run_with_store(url, run, is_large=True)
