"""``agentstore export``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from agentstore.cli.connect import run_with_store
from agentstore.cli.files import replace_file
from agentstore.cli.options import Json, Url, new_group, require_text
from agentstore.cli.output import echo_error, echo_json
from agentstore.cli.progress import transfer_bar
from agentstore.errors import InvalidContent

if TYPE_CHECKING:
    from agentstore.store import AgentStore
    from agentstore.transfer import Progress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

commands = new_group()

_STDOUT = Path("-")


@commands.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="File to write; - is stdout.")],
    user: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER", help="Export this user only; may be repeated. Default: all users.", callback=require_text
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file, whatever it contains.")] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Export all data, or that of some users, as JSON Lines.

    `agentstore import FILE` restores it. Running an interrupted export again resumes it. docs/export.md describes the
    file.
    """

    async def run(store: AgentStore) -> Progress | None:
        with transfer_bar("users") as tick, _open(file, force=force) as stream:
            return await store.export(stream, user or None, tick=tick)

    try:
        done = run_with_store(url, run)
    except InvalidContent as error:
        raise InvalidContent(f"{file}: {error}; use --force to overwrite it") from error
    if json_ and file != _STDOUT:
        echo_json({"finished_before": True} if done is None else summarize(done))
    elif done is None:
        echo_error(f"{file} is already complete; use --force to overwrite it", label="nothing exported", style="yellow")
    else:
        echo_error(describe(done), label="exported", style="green")


@contextmanager
def _open(file: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Open the file of an export: an existing file is resumed or, with `force`, replaced."""
    if file == _STDOUT:
        yield sys.stdout.buffer
    elif file.exists() and (force or not file.is_file()):
        with replace_file(file, "wb") as stream:
            yield stream
    else:
        is_new = not file.exists()
        number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(number, "r+b") as stream:
            _lock(stream)
            if not os.fstat(number).st_size:
                os.chmod(file, 0o600)  # an existing empty file may have other permissions
            try:
                yield stream
            except BaseException:
                if is_new and not os.fstat(number).st_size:
                    file.unlink()  # refused before anything was written
                raise
            stream.flush()
            os.fsync(number)


def _lock(file: BinaryIO) -> None:
    """Keep other exports from writing to the same file."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise typer.BadParameter("another export is writing to this file", param_hint="FILE") from error


def summarize(progress: Progress) -> dict[str, Any]:
    """Return the totals of an export, or of the import of one, for JSON."""
    return {
        "users": progress.users,
        "rows": progress.rows,
        "bytes": progress.bytes,
        "seconds": round(progress.seconds, 3),
    }


def describe(progress: Progress) -> str:
    """Return the totals of an export, or of the import of one, as text."""
    rows = sum(progress.rows.values())
    rate = rows / progress.seconds if progress.seconds else 0.0
    parts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in progress.rows.items() if count)
    return f"{parts or 'nothing'} in {progress.seconds:.1f} s ({rate:,.0f} rows/s)"
