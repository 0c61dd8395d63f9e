"""Commands about sandboxes: to look at them, run something in them, and end them."""

import shlex
import sys
from typing import Annotated, TextIO

import typer
from rich.text import Text

from agentstore.cli.console import (
    Json,
    Url,
    as_text,
    complain,
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
from agentstore.cli.sessions import Cursor, Limit, SessionId, Yes
from agentstore.errors import NotFound
from agentstore.interfaces import Sandbox
from agentstore.schemas import ToolResult
from agentstore.store import AgentStore

app = typer.Typer(help="Look at sandboxes, run something in them, and end them.", no_args_is_help=True)

User = Annotated[str, typer.Argument(metavar="USER", help='The user\'s id, or "".', callback=as_text)]

_PAGE = 1_000


@app.command("list")
def list_(user: User, limit: Limit = 50, cursor: Cursor = None, url: Url = None, json_: Json = False) -> None:
    """List a user's sandboxes by session and type, those of other machines among them."""

    async def run(store: AgentStore) -> None:
        page = await store.sandboxes.list(user, limit=limit, cursor=cursor)
        if json_:
            say_json({"sandboxes": [dumped(each) for each in page], "next_cursor": page.next_cursor})
            return
        rows = table("session", "host", type=4, state=5, provider=8, lease_until=16)
        for each in page:
            words = (Text(one_line(word)) for word in (each.host, each.type, each.state, each.provider))
            rows.add_row(Text(shown_id(each.session_id)), *words, f"{each.lease_until:%Y-%m-%d %H:%M}")
        say_page(rows, page, f"user {user!r} has no {'more ' if cursor else ''}sandboxes")

    with_store(url, run)


@app.command("exec")
def exec_(
    user: User,
    session: SessionId,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND]...",
            help="A line of the shell, or a program and its arguments: after -- if there are options among them.",
            callback=as_text,
        ),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="CODE", help="A cell of IPython instead of a command.", callback=as_text)
    ] = None,
    type_: Annotated[str, typer.Option("--type", help="The sandbox's type.", callback=as_text)] = "base",
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds; by default AGENTSTORE_SANDBOX_TIMEOUT.")
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make a sandbox if there is none, which ends with this command.")
    ] = False,
    url: Url = None,
) -> None:
    """Run a command or a cell in a session's sandbox, and print what it prints.

    A sandbox that is there goes on as it is. One that --create makes is this command's own, and ends with it, whatever
    makes it: with AGENTSTORE_SANDBOX_SNAPSHOTS its workspace is kept, and is the next one's. The exit code is 1 if the
    command or the cell fails.
    """
    if (python is None) == (not command):
        raise typer.BadParameter("say either a COMMAND or --python CODE")

    async def run(store: AgentStore) -> ToolResult:
        generation = None if create else await _generation(store, user, session, type_)
        (sandbox,) = await store.sandboxes.connect(session, user, [type_])
        if generation is not None and sandbox.generation != generation:
            # It ended meanwhile, or does not answer. What was made in its place ends with the store.
            raise _none(user, session, type_)
        return await _run(sandbox, command or [], python, timeout)

    result = with_store(url, run)
    for part in result["content"]:
        if part["type"] != "text":
            complain(f"a part that is no text: {part.get('mimeType', part['type'])}", label="left out", style="yellow")
        elif part.get("description") != "returncode":
            _print(part["text"], sys.stderr if part.get("description") == "stderr" else sys.stdout)
    if result.is_error:
        raise typer.Exit(1)


@app.command()
def release(
    user: User,
    session: SessionId,
    snapshot: Annotated[
        bool, typer.Option(help="Keep its workspace, where AGENTSTORE_SANDBOX_SNAPSHOTS says so.")
    ] = True,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """End a session's sandboxes, whoever made them, and what runs in them."""
    confirmed(f"End the sandboxes of session {plain(session)!r} of user {plain(user)!r}?", yes)

    async def run(store: AgentStore) -> None:
        ended = await store.sandboxes.release(session, user, snapshot=snapshot)
        if json_:
            say_json({"ended": [dumped(each) for each in ended]})
        elif ended:
            say(f"ended: {', '.join(each.type for each in ended)}")
        else:
            say(f"nothing ended: session {session!r} of user {user!r} has no sandboxes")

    with_store(url, run)


@app.command()
def reap(url: Url = None, json_: Json = False) -> None:
    """End the sandboxes of all users that nobody uses any more: those whose lease has passed."""

    async def run(store: AgentStore) -> None:
        ended = await store.sandboxes.reap()
        if json_:
            say_json({"ended": ended})
        else:
            say(f"ended: {ended:,} sandboxes")

    with_store(url, run)


@app.command()
def forget(user: User, session: SessionId, yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Delete what is kept of the workspaces of a session: its next sandbox begins with nothing."""
    confirmed(f"Delete the workspaces of session {plain(session)!r} of user {plain(user)!r}?", yes)

    async def run(store: AgentStore) -> None:
        deleted = await store.sandboxes.delete_workspaces(session, user)
        if json_:
            say_json({"deleted": deleted})
        else:
            say(f"deleted: {deleted:,} workspaces")

    with_store(url, run)


async def _generation(store: AgentStore, user: str, session: str, type_: str) -> int:
    """Return the generation of a session's sandbox.

    Raises:
        NotFound: there is none.
    """
    cursor: str | None = None
    while True:
        page = await store.sandboxes.list(user, limit=_PAGE, cursor=cursor)
        for each in page:
            if (each.session_id, each.type) == (session, type_):
                return each.generation
        cursor = page.next_cursor
        if cursor is None:
            raise _none(user, session, type_)


def _none(user: str, session: str, type_: str) -> NotFound:
    return NotFound(f"session {session!r} of user {user!r} has no sandbox {type_!r}: --create makes one")


async def _run(sandbox: Sandbox, command: list[str], python: str | None, timeout: float | None) -> ToolResult:
    if python is not None:
        return await sandbox.run_ipython_cell(python, timeout=timeout)
    line = command[0] if len(command) == 1 else shlex.join(command)
    return await sandbox.run_shell_command(line, timeout=timeout)


def _print(text: str, file: TextIO) -> None:
    """Write what was printed in a sandbox: as it is, but where a terminal would do what it says."""
    file.write(plain(text) if file.isatty() else text)
    file.flush()
