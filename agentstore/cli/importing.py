"""The command that imports conversations from files."""

import asyncio
import io
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from agentstore.cli.console import Json, Url, as_text, complain, err, say, say_json, settings, with_store
from agentstore.cli.exporting import bar, line, told
from agentstore.errors import InvalidContent, NotConfigured
from agentstore.importing import (
    Importer,
    Moved,
    Mover,
    Problem,
    Progress,
    Target,
    agentscope2,
    openai_agents,
    redis_services,
)
from agentstore.importing.databases import OtherDatabase
from agentstore.store import AgentStore
from agentstore.transfer import Progress as Restored
from agentstore.transfer import is_export

app = typer.Typer()

# More are counted and not shown: a file that is something else has as many as it has lines.
_SHOWN = 50
_LONGEST_REASON = 300
_STDIN = Path("-")
_REDIS = ("redis://", "rediss://")


class Source(StrEnum):
    """What else keeps conversations in a database."""

    AGENTSCOPE_2 = "agentscope-2"
    OPENAI_AGENTS = "openai-agents"


@app.command("import")
def import_(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files to import; - is stdin. Or redis://HOST, or a URL with --from."),
    ],
    of: Annotated[
        Source | None, typer.Option("--from", help="What keeps the database that a URL names: sqlite or postgresql.")
    ] = None,
    user: Annotated[str, typer.Option(help="The owner of what names no user.", callback=as_text)] = "default",
    session: Annotated[
        str | None,
        typer.Option(help="The session of messages that are in no conversation and name none.", callback=as_text),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, and store nothing.")] = False,
    without_vectors: Annotated[
        bool, typer.Option("--without-vectors", help="Leave the vectors of an export out.")
    ] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Import conversations: JSON Lines of chat completions, a ChatGPT export, or AgentScope Runtime's messages.

    Or everything, as `agentstore export` wrote it; or what AgentScope Runtime's Redis services, AgentScope 2 or
    openai-agents keep, as it is in use.

    What is there already is not imported again. What cannot be read is left out and reported with its place, and the
    exit code is 5. docs/import.md says what becomes of what.
    """
    if of is not None or any(each.startswith(_REDIS) for each in sources):
        _move(sources, of, user, url, dry_run, json_)
        return
    if any("://" in each and not Path(each).exists() for each in sources):  # and not echoed: it may have a password
        raise typer.BadParameter("a database needs --from, which says what keeps it", param_hint="FILE")
    files = list(map(Path, sources))
    for file in files:  # before anything of the others is stored
        if file != _STDIN and (not file.exists() or file.is_dir()):
            raise typer.BadParameter(f"there is no file {str(file)!r}", param_hint="FILE")
    if _STDIN in files and sys.stdin is None:
        raise typer.BadParameter("stdin is closed", param_hint="FILE")
    with ExitStack() as stack:
        named = [(_name(file), _opened(file, stack)) for file in files]
        exports = [name for name, file in named if is_export(_beginning(file))]
        if exports and len(exports) < len(files):
            raise typer.BadParameter("exports of agentstore are imported by themselves", param_hint="FILE")
        if exports:
            _restore(named, url, dry_run, without_vectors, json_)
        else:
            _import(named, user, session, url, dry_run, json_)


def _name(file: Path) -> str:
    return "stdin" if file == _STDIN else str(file)


def _opened(file: Path, stack: ExitStack) -> Path | BinaryIO:
    """Return a file or, of what can be read only once, as a pipe, what reads it."""
    if file == _STDIN:
        return sys.stdin.buffer
    return file if file.is_file() else stack.enter_context(file.open("rb"))


def _interrupted(*_: object) -> None:
    """End the work; whoever cannot wait for that and presses Ctrl-C again ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _import(
    named: list[tuple[str, Path | BinaryIO]],
    user: str,
    session: str | None,
    url: str | None,
    dry_run: bool,
    json_: bool,
) -> None:
    """Import conversations from files."""
    problems: list[dict[str, str]] = []

    def report(file: str, problem: Problem) -> None:
        if len(problems) < _SHOWN:
            problems.append({"file": file, "place": problem.place, "reason": problem.reason})
            complain(f"{problem.place + ': ' if problem.place else ''}{problem.reason}", label=file)

    async def run(store: AgentStore | None) -> Importer:
        importer = Importer(
            None if store is None else store.sessions,
            settings=found_settings,
            user_id=user,
            session_id=session,
            report=report,
        )
        # asyncio's own handler of Ctrl-C waits for a read to end, which a pipe may never do.
        signal.signal(signal.SIGINT, _interrupted)
        with _bar(importer.progress, named) as tick:
            await importer.run(named, tick)
        return importer

    found_settings = settings()
    importer = asyncio.run(run(None)) if dry_run else with_store(url, run)
    done = importer.progress
    if done.problems > len(problems):
        complain(f"{done.problems - len(problems):,} more were left out", label="and")
    if json_:
        summary = {name: value for name, value in asdict(done).items() if name not in ("bytes", "seconds")}
        say_json({**summary, "seconds": round(done.seconds, 3), "dry_run": dry_run, "left_out": problems})
    else:
        rate = done.messages / done.seconds if done.seconds else 0.0
        say(
            f"{done.records:,} records with {done.messages:,} messages in {done.seconds:.1f} s "
            f"({rate:,.0f} messages/s). "
            + (
                "Nothing was stored: a dry run."
                if dry_run
                else f"New: {done.new_sessions:,} sessions, {done.new_messages:,} messages."
            )
            + (f" Left out: {done.problems:,}." if done.problems else "")
        )
    if done.problems:
        raise typer.Exit(5)


def _move(sources: list[str], of: Source | None, user: str, url: str | None, dry_run: bool, json_: bool) -> None:
    """Import what another store keeps."""
    if len(sources) > 1:
        raise typer.BadParameter("one source at a time", param_hint="FILE")
    (source,) = sources
    if of is not None and source.startswith(_REDIS):
        raise typer.BadParameter("Redis needs no --from", param_hint="--from")
    problems: list[dict[str, str]] = []

    def report(problem: Problem) -> None:
        if len(problems) < _SHOWN:
            problems.append({"place": problem.place, "reason": problem.reason[:_LONGEST_REASON]})
            complain(f"{problem.place}: {problem.reason[:_LONGEST_REASON]}", label=of or "redis")

    async def run(store: AgentStore | None) -> Moved:
        target = None if store is None else Target(store.sessions, store.memory, store.states)
        mover = Mover(target, settings=found_settings, report=report)
        with _moving(mover.moved) as tick:
            if of is None:
                await mover.run(redis_services.read(source), tick)
            else:
                async with OtherDatabase(source) as database:
                    reader = (
                        agentscope2.read(database) if of is Source.AGENTSCOPE_2 else openai_agents.read(database, user)
                    )
                    await mover.run(reader, tick)
        return mover.moved

    found_settings = settings()
    moved = asyncio.run(run(None)) if dry_run else with_store(url, run)
    if moved.problems > len(problems):
        complain(f"{moved.problems - len(problems):,} more were left out", label="and")
    if json_:
        say_json({**asdict(moved), "seconds": round(moved.seconds, 3), "dry_run": dry_run, "left_out": problems})
    else:
        new = f"New: {moved.new_sessions:,} sessions, {moved.new_messages:,} messages, {moved.new_states:,} states."
        say(
            f"{moved.sessions:,} sessions with {moved.messages:,} messages, {moved.memories:,} memories, "
            f"{moved.states:,} states in {moved.seconds:.1f} s. "
            + ("Nothing was stored: a dry run." if dry_run else new)
            + (f" Left out: {moved.problems:,}." if moved.problems else "")
        )
    if moved.problems:
        raise typer.Exit(5)


@contextmanager
def _moving(moved: Moved) -> Iterator[Callable[[], None]]:
    """Show on a terminal what was read so far; how much there is nobody knows."""
    with Bar(
        SpinnerColumn(), TextColumn("{task.fields[what]}"), console=err, transient=True, disable=not err.is_terminal
    ) as shown:
        task = shown.add_task("move", total=None, what="")
        yield lambda: shown.update(
            task, what=f"{moved.sessions:,} sessions, {moved.memories:,} memories, {moved.states:,} states"
        )


def _beginning(file: Path | BinaryIO) -> bytes:
    """Return the first bytes of a file, or of a stream without taking them."""
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return stream.read(100)
    if isinstance(file, io.BufferedReader):
        return file.peek(100)
    begun = file.tell()
    beginning = file.read(100)
    file.seek(begun)
    return beginning


def _restore(
    named: list[tuple[str, Path | BinaryIO]], url: str | None, dry_run: bool, without_vectors: bool, json_: bool
) -> None:
    """Import what `agentstore export` wrote."""

    async def run(store: AgentStore) -> int:
        left = 0
        for name, file in named:
            with ExitStack() as stack:
                if isinstance(file, Path):
                    stream: BinaryIO = stack.enter_context(file.open("rb"))
                else:  # an export is read twice
                    stream = stack.enter_context(tempfile.TemporaryFile())
                    shutil.copyfileobj(file, stream)
                tick = stack.enter_context(bar("bytes"))
                try:
                    done = await store.restore(stream, tick=tick, dry_run=dry_run, without_vectors=without_vectors)
                except (InvalidContent, NotConfigured) as error:
                    raise type(error)(f"{name}: {error}") from error
            _say_restored(name, done, dry_run, json_)
            left += len(done.left)
        return left

    if with_store(url, run):
        raise typer.Exit(5)


def _say_restored(name: str, done: Restored, dry_run: bool, json_: bool) -> None:
    for kind, user, session in done.left[:_SHOWN]:
        if kind == "users":
            reason = f"user {user!r}: has other metadata, which is left as it is"
        else:
            what = {"sessions": "session", "memory_buckets": "memories of session", "state_heads": "states of session"}
            what["workspaces"] = "workspaces of session"
            reason = f"user {user!r}, {what[kind]} {session!r}: other than in the file, and left so"
        complain(reason, label=name)
    if len(done.left) > _SHOWN:
        complain(f"{len(done.left) - _SHOWN:,} more were left as they are", label="and")
    if json_:
        say_json({**told(done), "dry_run": dry_run, "left": [list(each) for each in done.left]})
    else:
        say(f"{'nothing was stored, a dry run; the file has' if dry_run else 'new'}: {line(done)}")


@contextmanager
def _bar(progress: Progress, files: list[tuple[str, Path | BinaryIO]]) -> Iterator[Callable[[], None]]:
    """Show on a terminal how far the import is; gives what is to be called after each conversation."""
    sizes = [file.stat().st_size for _, file in files if isinstance(file, Path) and file.is_file()]
    with Bar(
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[messages]:,} messages"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bar:
        task = bar.add_task("import", total=sum(sizes) if len(sizes) == len(files) else None, messages=0)
        yield lambda: bar.update(task, completed=progress.bytes, messages=progress.messages)
