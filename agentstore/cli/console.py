"""What all commands share: how they reach a store, and how they print."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TextIO, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentstore.database import Database
from agentstore.repositories.connect import open_database
from agentstore.store import AgentStore

T = TypeVar("T")

Url = Annotated[
    str | None, typer.Option("--url", help="The database; by default AGENTSTORE_DATABASE_URL, else the embedded one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

# What was stored is other people's text: shown, it must not move the cursor, change colours or turn the writing.
_CONTROLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}


def plain(value: object) -> str:
    """Return a text as it can be shown: its control characters as pictures of them."""
    return str(value).translate(_CONTROLS).replace("\r", "␍")


def one_line(value: object) -> str:
    """Return a text as it can be shown in one line of a table."""
    return " ".join(plain(value).split())


def say(line: str, style: str = "") -> None:
    """Print a line."""
    out.print(Text(plain(line), style=style))


def complain(line: str, label: str = "error", style: str = "red") -> None:
    """Print a line on stderr."""
    err.print(Text(f"{label}:", style=style).append(f" {plain(line)}", style="default"))


def say_json(value: Any) -> None:
    """Print JSON."""
    write_json(value, sys.stdout)


def write_json(value: Any, file: TextIO) -> None:
    """Write a line of JSON that is exact, whatever the file's encoding: what that lacks is written as an escape."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(file.encoding)
    except UnicodeEncodeError:
        text = json.dumps(value)
    file.write(text + "\n")


def table(*columns: str) -> Table:
    """Return a table in which nothing is cut off."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column, overflow="fold")
    return found


def say_table(filled: Table) -> None:
    """Print a table, as wide as it is where no terminal sets a width."""
    if out.is_terminal:
        out.print(filled, soft_wrap=False)
    else:
        Console(file=sys.stdout, width=400, highlight=False).print(filled)


def with_database(url: str | None, run: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Run something on the database that is meant, whatever its schema is."""

    async def main() -> T:
        database = open_database(url)
        try:
            return await run(database)
        finally:
            await database.stop()

    return asyncio.run(main())


def with_store(url: str | None, run: Callable[[AgentStore], Coroutine[Any, Any, T]]) -> T:
    """Run something on the store that is meant, its schema being this release's."""

    async def main() -> T:
        async with AgentStore(url) as store:
            return await run(store)

    return asyncio.run(main())


def confirmed(question: str, yes: bool) -> None:
    """Ask before something is deleted, unless --yes says so already.

    Raises:
        typer.Abort: the answer is no.
        typer.BadParameter: nobody is there to answer.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("this deletes: say --yes where nobody can be asked")
    typer.confirm(question, abort=True, err=True)
