"""``agentstore prune`` and ``agentstore stats``."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from agentstore.cli.connect import run_with_store
from agentstore.cli.options import Json, Url, Wide, Yes, confirm, new_group
from agentstore.cli.output import counted, echo, echo_error, echo_json, format_bytes
from agentstore.cli.progress import prune_spinner
from agentstore.cli.tables import Column, Table
from agentstore.cli.visible import format_id
from agentstore.errors import NotConfigured
from agentstore.schemas.page import Pruned

if TYPE_CHECKING:
    from agentstore.store import AgentStore

commands = new_group()

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _parse_duration(value: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,7})(ms|[smhdw])", value)
    if found is None:
        raise typer.BadParameter(
            f"{value[:80]!r} is not a duration: expected a number and ms, s, m, h, d or w, such as 90d"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@commands.command()
def prune(
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=_parse_duration,
            metavar="AGE",
            help="Also delete data not written for this long, such as 90d or 12h.",
        ),
    ] = None,
    keep_last: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=10_000,
            help="With --older-than, keep the last N sessions of each user, with their memories and N states each.",
        ),
    ] = 0,
    keep_sessions: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=10_000, help="Keep another number of sessions of each user.")
    ] = None,
    keep_memories: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=10_000,
            help="Keep the memories of the last N sessions of each user, even without the session.",
        ),
    ] = None,
    keep_states: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=10_000,
            help="Keep the last N states of the last N sessions of each user, even without it.",
        ),
    ] = None,
    max_time: Annotated[
        timedelta | None,
        typer.Option(parser=_parse_duration, metavar="TIME", help="Stop after this time, such as 30m."),
    ] = None,
    pause: Annotated[
        timedelta | None,
        typer.Option(
            parser=_parse_duration, metavar="TIME", help="Wait this long after each transaction, such as 100ms."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be deleted; delete nothing.")] = False,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Delete expired and old data.

    Expired data is always deleted; with --older-than also data that was not written for that long. Safe to interrupt
    and run again: what was deleted is printed in any case.

    Exit code: 0 also if --max-time has ended it; 130 after Ctrl-C and 143 after SIGTERM.
    """
    old = "" if older_than is None else f", and data not written for {str(older_than).removesuffix(', 0:00:00')}"
    confirm(f"Delete expired data{old}? This cannot be undone.", yes or dry_run)
    total: Pruned | None = None
    is_terminated = False

    async def run(store: AgentStore) -> None:
        nonlocal total
        total = Pruned(finished=False)

        def report(users: int, pruned: Pruned) -> None:
            nonlocal total
            total = pruned
            show(users, pruned)

        def terminate() -> None:
            nonlocal is_terminated
            is_terminated = True
            pruning.cancel()

        with prune_spinner(_describe) as show:
            pruning = asyncio.ensure_future(
                store.prune(
                    older_than,
                    keep_last=keep_last,
                    keep_sessions=keep_sessions,
                    keep_memories=keep_memories,
                    keep_states=keep_states,
                    dry_run=dry_run,
                    max_time=max_time,
                    pause=pause or timedelta(),
                    progress=report,
                )
            )
            with suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
            try:
                total = await pruning
            except asyncio.CancelledError:
                if not is_terminated:
                    raise

    try:
        run_with_store(url, run, is_large=True)
    except NotConfigured:
        if total == Pruned(finished=False):
            total = None  # refused: nothing was counted
        raise
    finally:
        if total is not None:
            _print(total, dry_run, json_)
    if is_terminated:
        raise typer.Exit(128 + signal.SIGTERM)


def _print(pruned: Pruned, dry_run: bool, json_: bool) -> None:
    if json_:
        echo_json({**asdict(pruned), "dry_run": dry_run})
        return
    echo(f"{'would delete' if dry_run else 'deleted'}: {_describe(pruned)}")
    if not pruned.finished:
        echo_error("not all users were processed; run it again to continue", label="not finished", style="yellow")


def _describe(pruned: Pruned) -> str:
    rows = counted(
        session=pruned.sessions,
        message=pruned.messages,
        memory=pruned.memories,
        state_round=pruned.state_rounds,
        workspace=pruned.workspaces,
    )
    return f"{rows}, {format_bytes(pruned.bytes)}"


@commands.command()
def stats(
    largest: Annotated[
        int, typer.Option(metavar="N", min=0, max=10_000, help="Number of the largest users and sessions to list.")
    ] = 10,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Print row counts, sizes, and the largest users and sessions."""

    async def run(store: AgentStore) -> None:
        found = await store.stats(largest=largest)
        if json_:
            fields = asdict(found)
            for name in ("oldest", "newest"):
                fields[name] = fields[name] and fields[name].isoformat()
            for each in fields["largest_sessions"]:
                each["updated_at"] = each["updated_at"].isoformat()
            for each in fields["growth"]:
                each["day"] = f"{each['day']:%Y-%m-%d}"
            for each, table in zip(fields["tables"], found.tables, strict=True):
                each["total_bytes"] = table.total_bytes
                each["analyzed_at"] = table.analyzed_at and table.analyzed_at.isoformat()
            echo_json(fields)
            return
        echo(
            counted(
                user=found.users,
                session=found.sessions,
                message=found.messages,
                memory=found.memories,
                state_round=found.state_rounds,
                value=found.values,
                blob=found.blobs,
                checkpoint=found.checkpoints,
            )
            + f", {format_bytes(found.bytes)}"
        )
        if found.oldest is not None and found.newest is not None:
            echo(f"from {found.oldest:%Y-%m-%d %H:%M} to {found.newest:%Y-%m-%d %H:%M}")
        echo("")
        sizes = Table(
            Column("table"),
            *(Column(name, "number") for name in ("rows (estimate)", "dead rows", "heap", "TOAST", "indexes")),
        )
        for table in sorted(found.tables, key=lambda each: -each.total_bytes):
            indexes = sum(table.index_bytes.values())
            counts = f"{table.rows:,}", f"{table.dead_rows:,}"
            sizes.add_row(table.name, *counts, *map(format_bytes, (table.bytes, table.toast_bytes, indexes)))
        sizes.echo(wide=wide)
        if found.largest_users:
            echo("")
            users = Table(
                Column("user", "id", heading=True),
                *(Column(name, "number") for name in ("sessions", "messages", "memories", "state rounds")),
            )
            for user in found.largest_users:
                numbers = (user.sessions, user.messages, user.memories, user.state_rounds)
                users.add_row(format_id(user.user_id), *(f"{number:,}" for number in numbers))
            users.echo(wide=wide)
        if found.largest_sessions:
            echo("")
            sessions = Table(
                Column("user", "id", heading=True),
                Column("session", "id"),
                Column("messages", "number"),
                Column("bytes", "number"),
                Column("last used", droppable=True),
            )
            for session in found.largest_sessions:
                sessions.add_row(
                    format_id(session.user_id),
                    format_id(session.session_id),
                    f"{session.messages:,}",
                    format_bytes(session.bytes),
                    f"{session.updated_at:%Y-%m-%d %H:%M}",
                )
            sessions.echo(wide=wide)

    run_with_store(url, run, is_large=True)
