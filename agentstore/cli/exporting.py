"""The command that takes everything out."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from agentstore.cli.console import Json, Url, as_text, complain, err, replacing, say_json, with_store
from agentstore.errors import InvalidContent
from agentstore.store import AgentStore
from agentstore.transfer import Progress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

app = typer.Typer()

_STDOUT = Path("-")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="The file to write; - is stdout.")],
    user: Annotated[
        list[str] | None, typer.Option(help="Only this user, or these; all by default.", callback=as_text)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the file anew, whatever it has.")] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Export every kind of data, as it is stored, as JSON Lines: `agentstore import FILE` restores it.

    An export that was broken off is gone on with when it is said again. docs/export.md describes the file.
    """

    async def run(store: AgentStore) -> Progress | None:
        with bar("users") as tick, _opened(file, anew=force) as stream:
            return await store.export(stream, user or None, tick=tick)

    try:
        done = with_store(url, run)
    except InvalidContent as error:
        raise InvalidContent(f"{file}: {error}; --force writes it anew") from error
    if json_ and file != _STDOUT:
        say_json({"finished_before": True} if done is None else told(done))
    elif done is None:
        complain(f"{file} is finished already; --force writes it anew", label="nothing done", style="yellow")
    else:
        complain(line(done), label="exported", style="green")


@contextmanager
def _opened(file: Path, *, anew: bool) -> Iterator[BinaryIO]:
    """Open the file of an export, whose beginning is gone on with unless it is to be written `anew`."""
    if file == _STDOUT:
        yield sys.stdout.buffer
    elif file.exists() and (anew or not file.is_file()):
        with replacing(file, "wb", private=True) as stream:
            yield stream
    else:
        number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(number, "r+b") as stream:
            _lock(stream)
            if not os.fstat(number).st_size:
                os.chmod(file, 0o600)  # it was there, and empty
            yield stream
            stream.flush()
            os.fsync(number)


def _lock(file: BinaryIO) -> None:
    """Keep other exports from writing to a file while this one does."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise typer.BadParameter("another export writes this file", param_hint="FILE") from error


def told(progress: Progress) -> dict[str, Any]:
    """Return what an export or an import did, as JSON."""
    return {
        "users": progress.users,
        "rows": progress.rows,
        "bytes": progress.bytes,
        "seconds": round(progress.seconds, 3),
    }


def line(progress: Progress) -> str:
    """Return what an export or an import did, for people."""
    rows = sum(progress.rows.values())
    rate = rows / progress.seconds if progress.seconds else 0.0
    parts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in progress.rows.items() if count)
    return f"{parts or 'nothing'} in {progress.seconds:.1f} s ({rate:,.0f} rows/s)"


@contextmanager
def bar(what: str) -> Iterator[Callable[[Progress], None]]:
    """Show on a terminal how far an export (by users) or an import (by bytes) is."""
    with Bar(
        BarColumn(),
        *([DownloadColumn()] if what == "bytes" else [TextColumn("{task.completed:,} of {task.total:,} users")]),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as shown:
        task = shown.add_task(what, total=0, rows=0)

        def tick(progress: Progress) -> None:
            done = progress.bytes if what == "bytes" else progress.users
            shown.update(task, completed=done, total=progress.total, rows=sum(progress.rows.values()))

        yield tick
