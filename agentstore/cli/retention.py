"""Commands about how much there is, and what is kept of it."""

import re
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.text import Text

from agentstore.cli.console import Json, Url, err, say, say_json, say_table, shown_id, table, with_store
from agentstore.schemas import Pruned
from agentstore.store import AgentStore

app = typer.Typer()

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _age(value: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,7})([smhdw])", value)
    if found is None:
        raise typer.BadParameter("an age is a number and one of s, m, h, d and w, as in 90d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@app.command()
def prune(
    older_than: Annotated[
        timedelta | None,
        typer.Option(parser=_age, metavar="AGE", help="Delete what was not written for so long, as 90d or 12h."),
    ] = None,
    keep_last: Annotated[
        int,
        typer.Option(min=0, max=10_000, help="Of these, keep each user's last sessions, each session's last states."),
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, and delete nothing.")] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Delete what has expired and, with --older-than, what was not written for that long. May be broken off."""

    async def run(store: AgentStore) -> Pruned:
        with Progress(
            SpinnerColumn(), TextColumn("{task.fields[what]}"), console=err, transient=True, disable=not err.is_terminal
        ) as bar:
            task = bar.add_task("prune", total=None, what="")
            return await store.prune(
                older_than,
                keep_last=keep_last,
                dry_run=dry_run,
                progress=lambda users, pruned: bar.update(task, what=f"{users:,} users, {_told(pruned)}"),
            )

    pruned = with_store(url, run)
    if json_:
        say_json({**asdict(pruned), "dry_run": dry_run})
    else:
        say(f"{'would delete' if dry_run else 'deleted'}: {_told(pruned)}")


def _told(pruned: Pruned) -> str:
    return (
        f"{pruned.sessions:,} sessions, {pruned.messages:,} messages, {pruned.memories:,} memories, "
        f"{pruned.state_rounds:,} state rounds, {pruned.workspaces:,} workspaces, {_bytes(pruned.bytes)}"
    )


@app.command()
def stats(
    largest: Annotated[int, typer.Option(min=0, max=10_000, help="How many of the largest users and sessions.")] = 10,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Say how much is stored: rows, bytes, and the users and sessions with the most messages."""

    async def run(store: AgentStore) -> None:
        found = await store.stats(largest=largest)
        if json_:
            plain = asdict(found)
            for name in ("oldest", "newest"):
                plain[name] = plain[name] and plain[name].isoformat()
            for each in plain["largest_sessions"]:
                each["updated_at"] = each["updated_at"].isoformat()
            for each, of in zip(plain["tables"], found.tables, strict=True):
                each["total_bytes"] = of.total_bytes
            say_json(plain)
            return
        say(
            f"{found.users:,} users, {found.sessions:,} sessions, {found.messages:,} messages, "
            f"{found.memories:,} memories, {found.state_rounds:,} state rounds, {_bytes(found.bytes)}"
        )
        if found.oldest is not None and found.newest is not None:
            say(f"from {found.oldest:%Y-%m-%d %H:%M} to {found.newest:%Y-%m-%d %H:%M}")
        say("")
        sizes = table("table", "rows, about", "bytes", "outside", "indexes")
        for each in sorted(found.tables, key=lambda each: -each.total_bytes):
            indexes = sum(each.index_bytes.values())
            sizes.add_row(each.name, f"{each.rows:,}", *map(_bytes, (each.bytes, each.toast_bytes, indexes)))
        say_table(sizes)
        if found.largest_users:
            say("")
            users = table("user", "sessions", "messages", "memories", "state rounds")
            for user in found.largest_users:
                numbers = (user.sessions, user.messages, user.memories, user.state_rounds)
                users.add_row(Text(shown_id(user.user_id)), *(f"{number:,}" for number in numbers))
            say_table(users)
        if found.largest_sessions:
            say("")
            sessions = table("user", "session", "messages", "bytes", last_used=16)
            for one in found.largest_sessions:
                sessions.add_row(
                    *(Text(shown_id(one.user_id)), Text(shown_id(one.session_id))),
                    *(f"{one.messages:,}", _bytes(one.bytes), f"{one.updated_at:%Y-%m-%d %H:%M}"),
                )
            say_table(sessions)

    with_store(url, run)


def _bytes(count: int) -> str:
    """Return a number of bytes as people read it."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1_000 and len(units) > 1:
        size, units = size / 1_000, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"
