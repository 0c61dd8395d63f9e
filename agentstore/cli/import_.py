"""``agentstore import``: files of conversations, the databases of other stores, and exports of agentstore."""

from __future__ import annotations

import asyncio
import io
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar

import typer

from agentstore.cli.connect import load_settings, run_with_store
from agentstore.cli.export import describe, summarize
from agentstore.cli.options import Json, Url, new_group, require_text
from agentstore.cli.output import counted, echo, echo_error, echo_json
from agentstore.cli.progress import import_bar, move_spinner, transfer_bar
from agentstore.errors import InvalidContent, LimitExceeded, NotConfigured

if TYPE_CHECKING:
    from agentstore.importing import Importer, Moved, Note
    from agentstore.importing import Progress as ImportProgress
    from agentstore.importing.databases import OtherDatabase
    from agentstore.importing.records import Reader
    from agentstore.importing.remembering import Remembering
    from agentstore.importing.storing import Sessions
    from agentstore.settings import Settings
    from agentstore.store import AgentStore
    from agentstore.transfer import Progress

commands = new_group()

T = TypeVar("T")
Sources = list[tuple[str, Path | BinaryIO]]
"""Each file or stream, with its name for reports."""

# The rest is only counted: a file in another format has as many problems as it has lines.
_MAX_REPORTED = 50
_SKIPPED = 5
_NOTES = ("passed over", "changed", "not imported")
_STDIN = Path("-")
_USER = "default"
_REDIS = ("redis://", "rediss://")
_WHAT = {
    "sessions": "session",
    "memory_buckets": "memories of session",
    "state_heads": "states of session",
    "workspaces": "workspaces of session",
    "user_values": "value",
    "blobs": "blob",
    "checkpoint_heads": "checkpoints of session",
}


class Source(StrEnum):
    """An application whose database can be imported."""

    AGENTSCOPE_2 = "agentscope-2"
    OPENAI_AGENTS = "openai-agents"
    ADK = "adk"
    LANGGRAPH = "langgraph"
    LANGGRAPH_STORE = "langgraph-store"


@commands.command("import")
def import_(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Files, ZIP archives or folders; - is stdin. Or redis://HOST, or a database URL with --from.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        Source | None,
        typer.Option("--from", help="Application that wrote the database at the URL (sqlite or postgresql)."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="USER", help="User id for conversations that name none. Default: default.", callback=require_text
        ),
    ] = None,
    only_user: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER",
            help="For files from outside: refuse what belongs to another user; may be repeated.",
            callback=require_text,
        ),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(
            metavar="SESSION",
            help="Session id for messages that belong to no conversation and name none.",
            callback=require_text,
        ),
    ] = None,
    remember: Annotated[
        bool, typer.Option("--remember", help="Also add the messages to the memories of their users.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything; store nothing.")] = False,
    without_vectors: Annotated[
        bool, typer.Option("--without-vectors", help="Skip the vectors of an agentstore export.")
    ] = False,
    list_formats: Annotated[
        bool, typer.Option("--list-formats", help="List the formats of files, and import nothing.")
    ] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Import conversations, an export, or another store's data.

    A file is JSON Lines of chat completions, an export of ChatGPT, Claude, Open WebUI or LibreChat, another format of
    --list-formats, or an export of `agentstore export`. A URL is that of the database of AgentScope Runtime's Redis
    services, AgentScope 2, openai-agents, Google ADK or LangGraph, which may be in use.

    Importing again adds only what is new; a file that was moved needs ids in its messages. Invalid input is skipped and
    reported with its place; the exit code is then 5. docs/import.md describes the formats.
    """
    if list_formats:
        _list_formats(json_)
        return
    if not sources:
        raise typer.BadParameter("name at least one file", param_hint="FILE")
    if source is not None or any(each.startswith(_REDIS) for each in sources):
        if only_user:
            raise typer.BadParameter("it applies to files only, and not to databases", param_hint="--only-user")
        _import_store(sources, source, user, remember, url, dry_run, json_)
        return
    if any("://" in each and not Path(each).exists() for each in sources):
        # The URL is not echoed, since it may contain a password.
        raise typer.BadParameter("to import a database, name its application with --from", param_hint="FILE")
    files = list(map(Path, sources))
    for file in files:  # all are checked before the first is stored
        if file != _STDIN and not file.exists():
            raise typer.BadParameter(f"there is no file {str(file)!r}", param_hint="FILE")
    if _STDIN in files and sys.stdin is None:
        raise typer.BadParameter("stdin is closed", param_hint="FILE")
    with ExitStack() as stack:
        named = [("stdin" if file == _STDIN else str(file), _open(file, stack)) for file in files]
        is_export = _find_exports(named)
        if any(is_export) and not all(is_export):
            raise typer.BadParameter("exports of agentstore cannot be mixed with other files", param_hint="FILE")
        if not any(is_export):
            _import_files(
                named, _USER if user is None else user, session, only_user or None, remember, url, dry_run, json_
            )
            return
        if remember:
            raise typer.BadParameter(
                "an export of agentstore is restored with the memories that it has", param_hint="--remember"
            )
        for option, value in (("--user", user), ("--session", session)):
            if value is not None:
                raise typer.BadParameter(
                    "an export of agentstore is restored under the ids that it has; to refuse rows of other users, use "
                    "--only-user",
                    param_hint=option,
                )
        _import_exports(named, only_user or None, url, dry_run, without_vectors, json_)


def _open(file: Path, stack: ExitStack) -> Path | BinaryIO:
    """Return a regular file or a folder as its path, and anything else, such as a pipe, as an open stream."""
    if file == _STDIN:
        return sys.stdin.buffer
    return file if file.is_file() or file.is_dir() else stack.enter_context(file.open("rb"))


def _find_exports(named: Sources) -> list[bool]:
    from agentstore.transfer import is_export

    return [is_export(_peek(file)) for _, file in named]


def _peek(file: Path | BinaryIO) -> bytes:
    """Return the first bytes of a file, or of a stream without consuming them."""
    if isinstance(file, Path):
        if file.is_dir():
            return b""
        with file.open("rb") as stream:
            return stream.read(100)
    if isinstance(file, io.BufferedReader):
        return file.peek(100)
    start = file.tell()
    beginning = file.read(100)
    file.seek(start)
    return beginning


def _run(url: str | None, dry_run: bool, run: Callable[[AgentStore | None], Coroutine[Any, Any, T]]) -> T:
    """Run an import; a dry run needs no database."""
    return asyncio.run(run(None)) if dry_run else run_with_store(url, run)


def _import_files(
    named: Sources,
    user: str,
    session: str | None,
    only_users: list[str] | None,
    remember: bool,
    url: str | None,
    dry_run: bool,
    json_: bool,
) -> None:
    """Import files of conversations."""
    from agentstore.importing import Importer

    reports = _Reports()

    def report(file: str, note: Note) -> None:
        reports.add(note, file, file=file)

    remembering: Remembering | None = None

    async def run(store: AgentStore | None) -> Importer:
        nonlocal remembering
        sessions: Sessions | None = None if store is None else store.sessions
        if store is not None and remember:
            sessions = remembering = _remembering(store, settings)
        importer = Importer(
            sessions,
            settings=settings,
            user_id=user,
            session_id=session,
            only_users=only_users,
            report=report,
        )
        # asyncio's handler of SIGINT waits for the current read to return; that of a pipe may never do so.
        signal.signal(signal.SIGINT, _interrupt)
        with import_bar(importer.progress, _total_size(named)) as tick:
            await importer.run(named, tick)
        return importer

    settings = load_settings()
    done = _run(url, dry_run, run).progress
    reports.finish()
    if json_:
        summary = {name: value for name, value in asdict(done).items() if name not in ("bytes", "seconds")}
        summary |= {"seconds": round(done.seconds, 3), "dry_run": dry_run, **_remembered(remembering)}
        echo_json({**summary, **reports.as_json()})
    else:
        rate = done.messages / done.seconds if done.seconds else 0.0
        new = f"New: {counted(session=done.new_sessions, message=done.new_messages)}."
        echo(
            f"{counted(record=done.records)} with {counted(message=done.messages)} in {done.seconds:.1f} s "
            f"({rate:,.0f} messages/s). " + _outcome(new, dry_run, done, remembering)
        )
    if done.problems:
        raise typer.Exit(_SKIPPED)


def _remembering(store: AgentStore, settings: Settings) -> Remembering:
    from agentstore.importing.remembering import Remembering

    return Remembering(store.sessions, store.memory, settings)


def _remembered(remembering: Remembering | None) -> dict[str, int]:
    return {} if remembering is None else {"remembered": remembering.messages}


class _Reports:
    """The notes of an import: the first of each kind are printed, and all are counted."""

    def __init__(self) -> None:
        self._found: dict[str, list[dict[str, str]]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, note: Note, source: str, **more: str) -> None:
        self._counts[note.kind] += 1
        found = self._found.setdefault(note.kind, [])
        if len(found) < _MAX_REPORTED:
            found.append({**more, "place": note.place, "reason": note.reason})
            kind = "" if note.kind == "problem" else f"{note.kind}: "
            echo_error(f"{note.place + ': ' if note.place else ''}{kind}{note.reason}", label=source)

    def finish(self) -> None:
        """Print how many more there were of each kind."""
        names = {"problem": "skipped", **{kind: kind for kind in _NOTES}}
        for kind, name in names.items():
            if (more := self._counts[kind] - len(self._found.get(kind, ()))) > 0:
                echo_error(f"{more:,} more were {name}", label="import")

    def as_json(self) -> dict[str, Any]:
        """Return the notes that were printed."""
        notes = [{"kind": kind, **each} for kind in _NOTES for each in self._found.get(kind, ())]
        return {"left_out": self._found.get("problem", []), "notes": notes}


def _interrupt(*_: object) -> None:
    """Cancel the import; a second Ctrl-C ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _total_size(named: Sources) -> int | None:
    """Return the size of all files in bytes, or None if it is not known, as that of a stream."""
    from agentstore.importing.files import File, find

    found = [each for name, file in named for each in find(name, file) if isinstance(each, File)]
    sizes = [each.size for each in found if each.size is not None]
    return sum(sizes) if len(sizes) == len(found) else None


def _list_formats(json_: bool) -> None:
    from agentstore.importing.formats import LISTED

    if json_:
        echo_json([{"name": name, "summary": summary, "shape": shape} for name, summary, shape in LISTED])
        return
    for name, summary, shape in LISTED:
        echo(f"{name:<17} {summary}\n{'':<17} {shape}")


def _import_store(
    sources: list[str],
    source: Source | None,
    user: str | None,
    remember: bool,
    url: str | None,
    dry_run: bool,
    json_: bool,
) -> None:
    """Import the database of another application."""
    from agentstore.importing import Mover, Target, databases, redis_services

    if len(sources) > 1:
        raise typer.BadParameter("import one database at a time", param_hint="FILE")
    (source_url,) = sources
    if source is not None and source_url.startswith(_REDIS):
        raise typer.BadParameter("a Redis URL takes no --from", param_hint="--from")
    reports = _Reports()

    def report(note: Note) -> None:
        reports.add(note, source or "redis")

    remembering: Remembering | None = None

    async def run(store: AgentStore | None) -> Moved:
        nonlocal remembering
        target = None
        if store is not None:
            remembering = _remembering(store, settings) if remember else None
            target = Target(
                remembering or store.sessions,
                store.memory,
                store.states,
                store.sessions,
                store.documents,
                store.checkpoints,
            )
        mover = Mover(target, settings=settings, report=report)
        with move_spinner(mover.moved) as tick:
            if source is None:
                await mover.run(redis_services.read(source_url), tick)
            else:
                async with databases.OtherDatabase(source_url) as database:
                    await mover.run(_reader(source, database, user), tick)
        return mover.moved

    settings = load_settings()
    moved = _run(url, dry_run, run)
    reports.finish()
    if json_:
        summary = {**asdict(moved), "seconds": round(moved.seconds, 3), "dry_run": dry_run, **_remembered(remembering)}
        echo_json({**summary, **reports.as_json()})
    else:
        found = counted(
            message=moved.messages,
            memory=moved.memories,
            state=moved.states,
            value=moved.values,
            document=moved.documents,
            checkpoint=moved.checkpoints,
        )
        added = {"message": moved.new_messages, "state": moved.new_states, "value": moved.new_values}
        added["document"] = moved.new_documents
        new = f"New: {counted(session=moved.new_sessions, **added)}."
        echo(
            f"{counted(session=moved.sessions)} with {found} in {moved.seconds:.1f} s. "
            + _outcome(new, dry_run, moved, remembering)
        )
    if moved.problems:
        raise typer.Exit(_SKIPPED)


def _reader(source: Source, database: OtherDatabase, user: str | None) -> Reader:
    """Return the reader of an application's database.

    Raises:
        NotConfigured: the package that it needs is not installed.
    """
    from agentstore.importing import adk, agentscope2, openai_agents

    if source is Source.AGENTSCOPE_2:
        return agentscope2.read(database)
    if source is Source.OPENAI_AGENTS:
        return openai_agents.read(database, _USER if user is None else user)
    if source in (Source.LANGGRAPH, Source.LANGGRAPH_STORE):
        return _langgraph_reader(source, database, user)
    try:
        from agentstore.adapters.adk.events import message_of_fields
        from agentstore.adapters.adk.imported import session_of, values_of_scope
    except ImportError as error:
        raise NotConfigured(
            "the package google-adk is not installed: run pip install 'agentstore-postgres[adk]'"
        ) from error
    return adk.read(database, adk.Conversion(session_of, message_of_fields, values_of_scope))


def _outcome(new: str, dry_run: bool, done: ImportProgress | Moved, remembering: Remembering | None) -> str:
    counts = {"Skipped": done.problems}
    if done.passed_over or done.changed:
        counts |= {"passed over": done.passed_over, "changed": done.changed}
    outcome = "Dry run: nothing was stored." if dry_run else new
    if remembering is not None:
        outcome += f" Remembered: {counted(message=remembering.messages)}."
    if any(counts.values()):
        outcome += f" {', '.join(f'{name}: {count:,}' for name, count in counts.items())}."
    return outcome


def _import_exports(
    named: Sources, only_users: list[str] | None, url: str | None, dry_run: bool, without_vectors: bool, json_: bool
) -> None:
    """Restore exports of agentstore."""

    async def run(store: AgentStore) -> int:
        unchanged = 0
        for name, file in named:
            with ExitStack() as stack:
                if isinstance(file, Path):
                    stream: BinaryIO = stack.enter_context(file.open("rb"))
                else:  # an export is read twice
                    stream = stack.enter_context(tempfile.TemporaryFile())
                    shutil.copyfileobj(file, stream)
                tick = stack.enter_context(transfer_bar("bytes"))
                try:
                    done = await store.restore(
                        stream, tick=tick, dry_run=dry_run, without_vectors=without_vectors, only_users=only_users
                    )
                except (InvalidContent, LimitExceeded, NotConfigured) as error:
                    raise type(error)(f"{name}: {error}") from error
            _print_restored(name, done, dry_run, json_)
            unchanged += len(done.left)
        return unchanged

    if run_with_store(url, run):
        raise typer.Exit(_SKIPPED)


def _print_restored(name: str, done: Progress, dry_run: bool, json_: bool) -> None:
    for kind, user, session in done.left[:_MAX_REPORTED]:
        if kind == "users":
            reason = f"user {user!r}: metadata differs from the file, left unchanged"
        elif kind == "app_values":
            reason = f"application {user!r}, value {session!r}: differs from the file, left unchanged"
        else:
            reason = f"user {user!r}, {_WHAT[kind]} {session!r}: differs from the file, left unchanged"
        echo_error(reason, label=name)
    if len(done.left) > _MAX_REPORTED:
        echo_error(f"{len(done.left) - _MAX_REPORTED:,} more were left unchanged", label="import")
    if json_:
        echo_json({**summarize(done), "dry_run": dry_run, "left": [list(each) for each in done.left]})
    else:
        echo(f"{'dry run, nothing was stored; the file has' if dry_run else 'new'}: {describe(done)}")


def _langgraph_reader(source: Source, database: OtherDatabase, user: str | None) -> Reader:
    from agentstore.importing import langgraph_saver, langgraph_store

    try:
        from agentstore.adapters.langgraph.imported import document_of, dump_json
    except ImportError as error:
        raise NotConfigured(
            "the package langgraph-checkpoint is not installed: run pip install 'agentstore-postgres[langgraph]'"
        ) from error
    if source is Source.LANGGRAPH:
        return langgraph_saver.read(database, langgraph_saver.Conversion(dump_json), user)
    return langgraph_store.read(database, langgraph_store.Conversion(document_of), user)
