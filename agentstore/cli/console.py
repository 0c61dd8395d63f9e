"""What all commands share: how they reach a store, and how they print."""

import asyncio
import codecs
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from agentstore.database.database import Database
from agentstore.repositories.connect import open_database
from agentstore.schemas import Page, SandboxInfo
from agentstore.settings import Settings
from agentstore.store import AgentStore

T = TypeVar("T")

Url = Annotated[
    str | None, typer.Option("--url", help="The database; by default AGENTSTORE_DATABASE_URL, else the embedded one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

# What was stored is other people's text: shown, it must not move the cursor, change colours or turn the writing.
_INVISIBLE = (*range(0x7F, 0xA0), 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x206A), 0xFEFF)
_CONTROLS = {
    **dict.fromkeys(_INVISIBLE, 0xFFFD),
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
}
_ESCAPES = {code: f"\\u{code:04x}" for code in _INVISIBLE}


def plain(value: object) -> str:
    """Return a text as it can be shown: its control characters as pictures of them."""
    return str(value).translate(_CONTROLS)


def one_line(value: object) -> str:
    """Return a text as it can be shown in one line of a table."""
    return " ".join(plain(value).split())


def shown_id(id: str) -> str:
    """Return an id as it is, or quoted and escaped where it would look like another one."""
    return id if id and id == one_line(id) and id.isprintable() else ascii(id)


def say(line: str, style: str = "") -> None:
    """Print a line."""
    out.print(Text(plain(line), style=style))


def complain(line: str, label: str = "error", style: str = "red") -> None:
    """Print a line on stderr."""
    err.print(Text(f"{one_line(label)}:", style=style).append(f" {plain(line)}", style="default"))


def say_json(value: Any) -> None:
    """Print JSON."""
    write_json(value, sys.stdout)


def write_json(value: Any, file: TextIO) -> None:
    """Write a line of JSON that is UTF-8 and exact, whatever the file's encoding; what cannot be seen is escaped."""
    text = json.dumps(value, ensure_ascii=codecs.lookup(file.encoding).name != "utf-8")
    if not text.isascii():
        text = text.translate(_ESCAPES)
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate, which only its escape can say
            text = json.dumps(value)
    file.write(text + "\n")


@contextmanager
def replacing(path: Path, mode: str = "w", *, private: bool = False) -> Iterator[Any]:
    """Open a file that is there whole after the block, or is what it was before if the block fails.

    What is no file, as a pipe or a device, is written to and not replaced. A `private` one is its owner's alone, any
    other has the rights of the one before.
    """
    encoding = None if "b" in mode else "utf-8"
    if path.exists() and not path.is_file():
        with path.open(mode, encoding=encoding) as file:
            yield file
        return
    path = path.resolve()
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{str(path)!r} may not be written")
    number, name = tempfile.mkstemp(prefix=".agentstore-", dir=path.parent)
    try:
        with os.fdopen(number, mode, encoding=encoding) as file:
            if path.exists():
                old = path.stat()
                os.chmod(name, 0o600 if private else stat.S_IMODE(old.st_mode))
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.chown(name, old.st_uid, old.st_gid)
            elif not private:
                mask = os.umask(0)
                os.umask(mask)
                os.chmod(name, 0o666 & ~mask)
            yield file
            file.flush()
            os.fsync(number)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def table(*columns: str, **fixed: int) -> Table:
    """Return a table in which nothing is cut off; the `fixed` columns, with their widths, are never broken."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column, overflow="fold")
    for column, width in fixed.items():
        found.add_column(column.replace("_", " "), no_wrap=True, min_width=width)
    return found


def say_table(filled: Table) -> None:
    """Print a table; where no terminal sets a width, its rows end where their text does."""
    if out.is_terminal:
        out.print(filled, soft_wrap=False)
        return
    with out.capture() as captured:
        out.print(filled, soft_wrap=False, width=10_000)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def settings() -> Settings:
    """Return the settings.

    Raises:
        typer.Exit: one of them is wrong, which has been said.
    """
    try:
        return Settings()
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in each["loc"]).upper()
            complain(f"AGENTSTORE_{name}: {each['msg']}")
        raise typer.Exit(1) from error


def as_text(value: str | list[str] | None) -> str | list[str] | None:
    """Refuse an argument that the terminal's encoding cannot say."""
    for each in value if isinstance(value, list) else [value or ""]:
        if any("\ud800" <= character <= "\udfff" for character in each):
            raise typer.BadParameter(f"{each!r} is no text in this locale; LANG=C.UTF-8 may help")
    return value


def say_page(filled: Table, page: Page[Any], nothing: str) -> None:
    """Print a page of a list, or that there is nothing, and how to go on."""
    if page:
        say_table(filled)
    else:
        say(nothing)
    if page.next_cursor:
        say(f"More: --cursor {page.next_cursor}", style="dim")


def dumped(model: BaseModel | SandboxInfo) -> dict[str, Any]:
    """Return it as what JSON can say: not by pydantic's own JSON, which has no lone surrogates."""
    fields = asdict(model) if isinstance(model, SandboxInfo) else model.model_dump(serialize_as_any=True)
    return {name: each.isoformat() if isinstance(each, datetime) else each for name, each in fields.items()}


def with_database(url: str | None, run: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Run something on the database that is meant, whatever its schema is."""

    async def main() -> T:
        database = open_database(url, settings=settings())
        try:
            return await run(database)
        finally:
            await database.stop()

    return asyncio.run(main())


def with_store(url: str | None, run: Callable[[AgentStore], Coroutine[Any, Any, T]]) -> T:
    """Run something on the store that is meant, its schema being this release's."""

    async def main() -> T:
        async with AgentStore(url, settings=settings()) as store:
            return await run(store)

    return asyncio.run(main())


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how far something is; gives what is told how many are done, of how many."""
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(what),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=max(done, total))


def confirmed(question: str, yes: bool) -> None:
    """Ask before something is deleted, unless --yes says so already.

    Raises:
        typer.Abort: the answer is no.
        typer.BadParameter: nobody is there to answer.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter("this deletes: say --yes where nobody can be asked")
    typer.confirm(question, abort=True, err=True)
