"""The commands that run and describe migrations: ``agentstore upgrade``, ``downgrade``, ``plan`` and others."""

import re
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from agentstore import migrating as migrate
from agentstore.cli.check import NEWER
from agentstore.cli.connect import load_settings, run_with_database
from agentstore.cli.options import Json, Url, Wait, Yes, confirm, new_group
from agentstore.cli.output import echo, echo_error, echo_json
from agentstore.cli.tables import Column, Table
from agentstore.database.database import Database

commands = new_group()

_LONGEST_STATEMENT = 90
# In `downgrade -1` the argument is a revision, not an option.
_RELATIVE = {"ignore_unknown_options": True}


def _revision(value: str) -> str:
    """Accept a revision of this release, also as relative as -1; refuse a misspelled option and an unknown revision."""
    if value.startswith("-") and not value[1:].isdigit():
        raise typer.BadParameter(f"no such option: {value.partition('=')[0]}")
    name = re.sub(r"[+-]\d+$", "", value)
    if name not in ("", "head", "heads", "base", "pre", *(each.id for each in migrate.history())):
        raise typer.BadParameter(f"there is no revision {value!r}; see `agentstore history`")
    return value


@commands.command(context_settings=_RELATIVE)
def upgrade(
    revision: Annotated[
        str,
        typer.Argument(
            metavar="REVISION",
            help="A revision, head, pre (what this release needs before it starts), or relative, such as +1.",
            callback=_revision,
        ),
    ] = "head",
    run_earlier_post: Annotated[
        bool,
        typer.Option(
            "--run-earlier-post",
            help="With pre: also run what an earlier release has left to be run when no replica of the release before "
            "it is running.",
        ),
    ] = False,
    wait: Wait = migrate.WAIT,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Upgrade the schema to this release.

    Safe to run from several places at the same time. Does nothing if a newer release has migrated the database.
    """

    async def run(database: Database) -> None:
        before = await migrate.status(database)
        await migrate.upgrade(database, revision, run_earlier_post=run_earlier_post, wait=wait, report=_report)
        _print_change(before, await migrate.status(database), json_)

    run_with_database(url, run)


@commands.command(context_settings=_RELATIVE)
def downgrade(
    revision: Annotated[
        str, typer.Argument(metavar="REVISION", help="A revision, base, or relative, such as -1.", callback=_revision)
    ],
    lose_data: Annotated[
        bool, typer.Option("--lose-data", help="Drop what the later revisions created, with its data.")
    ] = False,
    wait: Wait = migrate.WAIT,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Downgrade the schema to an earlier revision.

    A downgrade that would lose data is refused, and the data is named, unless --lose-data is given.
    """
    if lose_data:
        confirm(f"Drop what the revisions after {revision!r} created, with its data? This cannot be undone.", yes)

    async def run(database: Database) -> None:
        before = await migrate.status(database)
        await migrate.downgrade(database, revision, lose_data=lose_data, wait=wait, report=_report)
        _print_change(before, await migrate.status(database), json_)

    run_with_database(url, run)


@commands.command()
def stamp(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="A revision, head or base.", callback=_revision)],
    url: Url = None,
    json_: Json = False,
) -> None:
    """Set the schema's revision without running migrations.

    For a schema that was changed by hand, for example with the output of `agentstore sql`.
    """

    async def run(database: Database) -> None:
        before = await migrate.status(database)
        await migrate.stamp(database, revision)
        _print_change(before, await migrate.status(database), json_)

    run_with_database(url, run)


@commands.command()
def heads(json_: Json = False) -> None:
    """Print the newest revisions.

    That of the schema, and that of the tables that `agentstore vector enable` creates.
    """
    newest = {"schema": migrate.head(), "needed": migrate.needed(), "vector": migrate.history("vector")[0].id}
    if json_:
        echo_json(newest)
        return
    echo(f"{newest['schema']} (this release needs at least {newest['needed']})")
    echo(f"{newest['vector']} (vectors)")


@commands.command()
def history(json_: Json = False) -> None:
    """List the migrations of this release, newest first."""
    revisions = migrate.history()
    if json_:
        echo_json([asdict(revision) for revision in revisions])
        return
    rows = Table(Column("revision"), Column("after"), Column("phase"), Column("title", "text"))
    for revision in revisions:
        rows.add_row(revision.id, revision.previous or "", revision.phase, revision.title)
    rows.echo()


@commands.command(context_settings=_RELATIVE)
def plan(
    revision: Annotated[
        str,
        typer.Argument(metavar="REVISION", help="A revision, head, pre, or relative, such as +1.", callback=_revision),
    ] = "head",
    url: Url = None,
    json_: Json = False,
) -> None:
    """Print what `agentstore upgrade` would do, and its locks.

    For each statement: the locks that it takes, and how much data it processes. Changes nothing. A statement is safe
    in use if it blocks readers and writers only for the moment in which its lock is acquired.
    """

    async def run(database: Database) -> tuple[list[migrate.Planned], migrate.Status]:
        return await migrate.plan(database, revision), await migrate.status(database)

    planned, found = run_with_database(url, run)
    if json_:
        echo_json([asdict(each) for each in planned])
        return
    if not planned:
        echo(f"{found.current}: {NEWER}" if found.state == "ahead" else "nothing to do")
        return
    if revision == "pre" and (early := dict.fromkeys(each.revision for each in planned if each.phase == "post")):
        echo(
            f"{', '.join(early)}: to be run when no replica of the release before the one that added it is left; "
            "`upgrade pre` needs --run-earlier-post",
            style="red",
        )
    titles = {each.id: each.title for each in migrate.history()}
    revision = ""
    for each in planned:
        if each.revision != revision:
            revision = each.revision
            echo(f"{revision} ({each.phase}): {titles[revision]}", style="bold")
        statement = " ".join(each.statement.split())
        echo(f"  {statement if len(statement) <= _LONGEST_STATEMENT else statement[:_LONGEST_STATEMENT] + '...'}")
        for effect in each.effects:
            work = ""
            if effect.work != "none":
                work = f", {effect.work} of {effect.rows:,} rows, {effect.bytes:,} bytes, about {effect.seconds:.0f} s"
            safe = "safe in use" if effect.online else "NOT safe in use"
            echo(
                f"    {safe}: {effect.lock or 'unknown'} on {effect.table}{work}", style="" if effect.online else "red"
            )


@commands.command()
def sql(
    revisions: Annotated[str, typer.Argument(metavar="REVISION", help="A revision, or a range A:B.")] = "head",
    vectors: Annotated[bool, typer.Option("--vectors", help="Print that of `agentstore vector enable`.")] = False,
    downgrade: Annotated[
        bool, typer.Option("--downgrade", help="Print the downgrade from A to B of a range A:B.")
    ] = False,
) -> None:
    """Print the SQL of an upgrade, to review or to run with psql.

    Needs no database.
    """
    sys.stdout.write(migrate.sql(revisions, schema=load_settings().schema, vectors=vectors, downgrade=downgrade))


def _report(line: str) -> None:
    echo_error(line, label="upgrade", style="dim")


def _print_change(before: migrate.Status, after: migrate.Status, as_json: bool) -> None:
    if as_json:
        echo_json({"from": before.current, "to": after.current})
    elif after.state == "ahead":
        echo(f"{after.current}: {NEWER}")
    elif before.current == after.current:
        echo(f"already at {after.current or 'none'}")
    else:
        echo(f"{before.current or 'none'} -> {after.current or 'none'}")
