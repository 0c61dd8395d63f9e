"""``agentstore sandboxes``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from agentstore.cli.connect import run_with_store
from agentstore.cli.options import Cursor, Json, Limit, SessionId, Url, Wide, Yes, confirm, new_group, require_text
from agentstore.cli.output import counted, dump, echo, echo_error, echo_json
from agentstore.cli.tables import Column, Table, echo_page
from agentstore.cli.visible import format_id, printable
from agentstore.errors import NotFound

if TYPE_CHECKING:
    from agentstore.interfaces import Sandbox
    from agentstore.schemas import ToolResult
    from agentstore.store import AgentStore

group = new_group("List, use and end sandboxes.")

User = Annotated[str, typer.Argument(metavar="USER", help='User id; may be "".', callback=require_text)]

_PAGE = 1_000


@group.command("list")
def list_(
    user: User,
    limit: Limit = 50,
    cursor: Cursor = None,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """List a user's sandboxes on all hosts, by session and type."""

    async def run(store: AgentStore) -> None:
        page = await store.sandboxes.list(user, limit=limit, cursor=cursor)
        if json_:
            echo_json({"sandboxes": [dump(each) for each in page], "next_cursor": page.next_cursor})
            return
        rows = Table(
            Column("session", "id", heading=True),
            Column("host", "id"),
            Column("type"),
            Column("state"),
            Column("provider", droppable=True),
            Column("lease until"),
        )
        for each in page:
            until = f"{each.lease_until:%Y-%m-%d %H:%M}"
            rows.add_row(format_id(each.session_id), each.host, each.type, each.state, each.provider, until)
        echo_page(rows, page, f"user {user!r} has no {'more ' if cursor else ''}sandboxes", wide=wide)

    run_with_store(url, run)


@group.command("exec")
def exec_(
    user: User,
    session: SessionId,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="A shell command line, or a program and its arguments; put -- before it if it has options.",
            callback=require_text,
        ),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="CODE", help="Run this IPython cell instead.", callback=require_text)
    ] = None,
    type_: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="Type of the sandbox.", callback=require_text)
    ] = "base",
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.001, help="Timeout in seconds; default: AGENTSTORE_SANDBOX_TIMEOUT."),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Create a sandbox if there is none, and end it with this command.")
    ] = False,
    url: Url = None,
) -> None:
    """Run a command or an IPython cell in a sandbox and print its output.

    An existing sandbox is left running. A sandbox that --create creates ends with this command; with
    AGENTSTORE_SANDBOX_SNAPSHOTS its workspace is stored, and the next sandbox of the session starts with it. The exit
    code is 1 if the command or cell fails.
    """
    if (python is None) == (not command):
        raise typer.BadParameter("give either a COMMAND or --python CODE")

    async def run(store: AgentStore) -> ToolResult:
        generation = None if create else await _find_generation(store, user, session, type_)
        (sandbox,) = await store.sandboxes.connect(session, user, [type_])
        if generation is not None and sandbox.generation != generation:
            # The sandbox ended meanwhile or does not respond. Its replacement ends with the store.
            raise _not_found(user, session, type_)
        return await _run(sandbox, command or [], python, timeout)

    result = run_with_store(url, run)
    for part in result["content"]:
        if part["type"] != "text":
            echo_error(f"output of type {part.get('mimeType', part['type'])}", label="not shown", style="yellow")
        elif part.get("description") != "returncode":
            _print(part["text"], sys.stderr if part.get("description") == "stderr" else sys.stdout)
    if result.is_error:
        raise typer.Exit(1)


@group.command()
def release(
    user: User,
    session: SessionId,
    snapshot: Annotated[bool, typer.Option(help="Store its workspace, if AGENTSTORE_SANDBOX_SNAPSHOTS is on.")] = True,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """End a session's sandboxes, whichever process created them."""
    confirm(f"End the sandboxes of session {printable(session)!r} of user {printable(user)!r}?", yes)

    async def run(store: AgentStore) -> None:
        ended = await store.sandboxes.release(session, user, snapshot=snapshot)
        if json_:
            echo_json({"ended": [dump(each) for each in ended]})
        elif ended:
            echo(f"ended: {', '.join(each.type for each in ended)}")
        else:
            echo(f"nothing ended: session {session!r} of user {user!r} has no sandboxes")

    run_with_store(url, run)


@group.command()
def reap(yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """End the sandboxes of all users whose lease has expired."""
    confirm("End all sandboxes whose lease has expired?", yes)

    async def run(store: AgentStore) -> None:
        ended = await store.sandboxes.reap()
        if json_:
            echo_json({"ended": ended})
        else:
            echo(f"ended: {counted(sandbox=ended)}")

    run_with_store(url, run)


@group.command()
def forget(user: User, session: SessionId, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete a session's stored workspaces: its next sandbox starts empty."""
    confirm(f"Delete the stored workspaces of session {printable(session)!r} of user {printable(user)!r}?", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.sandboxes.delete_workspaces(session, user)
        if json_:
            echo_json({"deleted": deleted})
        else:
            echo(f"deleted: {counted(workspace=deleted)}")

    run_with_store(url, run)


async def _find_generation(store: AgentStore, user: str, session: str, type_: str) -> int:
    """Return the generation of a session's sandbox.

    Raises:
        NotFound: the session has no sandbox of this type.
    """
    cursor: str | None = None
    while True:
        page = await store.sandboxes.list(user, limit=_PAGE, cursor=cursor)
        for each in page:
            if (each.session_id, each.type) == (session, type_):
                return each.generation
        cursor = page.next_cursor
        if cursor is None:
            raise _not_found(user, session, type_)


def _not_found(user: str, session: str, type_: str) -> NotFound:
    return NotFound(f"session {session!r} of user {user!r} has no sandbox of type {type_!r}: use --create")


async def _run(sandbox: Sandbox, command: list[str], python: str | None, timeout: float | None) -> ToolResult:
    if python is not None:
        return await sandbox.run_ipython_cell(python, timeout=timeout)
    line = command[0] if len(command) == 1 else shlex.join(command)
    return await sandbox.run_shell_command(line, timeout=timeout)


def _print(text: str, file: TextIO) -> None:
    """Write output of a sandbox: unchanged, but with its control characters replaced on a terminal."""
    file.write(printable(text) if file.isatty() else text)
    file.flush()
