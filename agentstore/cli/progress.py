"""Show progress on stderr if that is a terminal; rich is not imported otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agentstore.cli.output import counted, terminal

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from agentstore.importing import Moved
    from agentstore.importing import Progress as ImportProgress
    from agentstore.schemas import Pruned
    from agentstore.transfer import Progress as TransferProgress


@contextmanager
def _bar(
    columns: Callable[[], list[ProgressColumn]], *, total: float | None = None, **fields: Any
) -> Iterator[Callable[..., None]]:
    """Show a bar with these columns; yields a function that updates its task."""
    console = terminal(stderr=True)
    if console is None:
        yield lambda **_: None
        return
    from rich.progress import Progress

    with Progress(*columns(), console=console, transient=True) as progress:
        yield partial(progress.update, progress.add_task("", total=total, **fields))


def _spinner() -> list[ProgressColumn]:
    from rich.progress import SpinnerColumn, TextColumn

    return [SpinnerColumn(), TextColumn("{task.fields[text]}")]


@contextmanager
def count_bar(noun: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many are done; yields a function that takes the number done and the total."""

    def columns() -> list[ProgressColumn]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        return [BarColumn(), MofNCompleteColumn(), TextColumn(noun), TimeRemainingColumn()]

    with _bar(columns) as update:
        yield lambda done, total: update(completed=done, total=max(done, total))


@contextmanager
def transfer_bar(unit: str) -> Iterator[Callable[[TransferProgress], None]]:
    """Show the progress of an export (`unit` is "users") or of the import of one (`unit` is "bytes")."""

    def columns() -> list[ProgressColumn]:
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

        done = DownloadColumn() if unit == "bytes" else TextColumn("{task.completed:,} of {task.total:,} users")
        return [BarColumn(), done, TextColumn("{task.fields[rows]:,} rows"), TimeRemainingColumn()]

    def tick(progress: TransferProgress) -> None:
        done = progress.bytes if unit == "bytes" else progress.users
        update(completed=done, total=progress.total, rows=sum(progress.rows.values()))

    with _bar(columns, total=0, rows=0) as update:
        yield tick


@contextmanager
def import_bar(progress: ImportProgress, total: int | None) -> Iterator[Callable[[], None]]:
    """Show the progress of an import of files; `total` is their size in bytes, if known."""

    def columns() -> list[ProgressColumn]:
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

        return [BarColumn(), DownloadColumn(), TextColumn("{task.fields[messages]:,} messages"), TimeRemainingColumn()]

    with _bar(columns, total=total, messages=0) as update:
        yield lambda: update(completed=progress.bytes, messages=progress.messages)


@contextmanager
def move_spinner(moved: Moved) -> Iterator[Callable[[], None]]:
    """Show how much was read from another store, the size of which is unknown."""
    with _bar(_spinner, text="") as update:
        yield lambda: update(text=f"{counted(session=moved.sessions, memory=moved.memories, state=moved.states)}")


@contextmanager
def prune_spinner(describe: Callable[[Pruned], str]) -> Iterator[Callable[[int, Pruned], None]]:
    """Show how many users are pruned, and `describe` what was deleted."""
    with _bar(_spinner, text="") as update:
        yield lambda users, pruned: update(text=f"{counted(user=users)}, {describe(pruned)}")
