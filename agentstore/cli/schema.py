"""Commands about the schema: its migrations, and where a database stands."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from agentstore import migrating as migrate
from agentstore.cli.console import Json, Url, complain, say, say_json, say_table, settings, table, with_database
from agentstore.database.database import Database

app = typer.Typer()

ADVICE = {
    "at head": "the schema is this release's",
    "post pending": "the schema fits this release: run `agentstore upgrade` when no replica of the one before is left",
    "behind": "the schema is behind this release: run `agentstore upgrade`",
    "ahead": "the schema is ahead of this release: upgrade agentstore",
}
# `downgrade -1` is a revision and not an option.
_LONGEST = 90
_RELATIVE = {"ignore_unknown_options": True}


def _revision(value: str) -> str:
    """Take -1 for a revision, and what else begins with - for the misspelt option that it is."""
    if value.startswith("-") and not value[1:].isdigit():
        raise typer.BadParameter(f"no such option: {value.partition('=')[0]}")
    return value


Wait = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for other migrators and for locks, in all.")
]


@app.command(context_settings=_RELATIVE)
def upgrade(
    revision: Annotated[
        str,
        typer.Argument(
            help="A revision, head, pre (what is needed before this release starts), or relative as in +1.",
            callback=_revision,
        ),
    ] = "head",
    wait: Wait = migrate.WAIT,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Bring the database's schema to this release's. Safe to run from many places at once."""

    async def run(database: Database) -> None:
        before = await migrate.status(database)
        await migrate.upgrade(database, revision, wait=wait, report=_report)
        _print_move(before, await migrate.status(database), json_)

    with_database(url, run)


@app.command(context_settings=_RELATIVE)
def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision, base, or relative as in -1.", callback=_revision)],
    lose_data: Annotated[
        bool, typer.Option("--lose-data", help="Drop what the later revisions brought, whatever is in it.")
    ] = False,
    wait: Wait = migrate.WAIT,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Take the schema back. What would lose data is refused, and named, unless --lose-data is said."""

    async def run(database: Database) -> None:
        before = await migrate.status(database)
        await migrate.downgrade(database, revision, lose_data=lose_data, wait=wait, report=_report)
        _print_move(before, await migrate.status(database), json_)

    with_database(url, run)


@app.command()
def stamp(
    revision: Annotated[str, typer.Argument(help="A revision, head or base.", callback=_revision)],
    url: Url = None,
    json_: Json = False,
) -> None:
    """Say that the schema is at a revision, as after SQL that was run by hand. Nothing else is changed."""

    async def run(database: Database) -> None:
        before = await migrate.status(database)
        await migrate.stamp(database, revision)
        _print_move(before, await migrate.status(database), json_)

    with_database(url, run)


@app.command()
def current(url: Url = None, json_: Json = False) -> None:
    """Print the revision that the database's schema is at."""

    async def run(database: Database) -> None:
        found = await migrate.status(database)
        if json_:
            say_json(asdict(found))
        else:
            say(f"{found.current or 'none'} ({found.state})")

    with_database(url, run)


@app.command()
def heads(json_: Json = False) -> None:
    """Print the newest revision of each line: of the schema, and of what `agentstore vector enable` adds."""
    newest = {"schema": migrate.head(), "needed": migrate.needed(), "vector": migrate.history("vector")[0].id}
    if json_:
        say_json(newest)
        return
    say(f"{newest['schema']} (this release starts from {newest['needed']} on)")
    say(f"{newest['vector']} (vectors)")


@app.command()
def history(json_: Json = False) -> None:
    """List the migrations of this release, the newest first."""
    revisions = migrate.history()
    if json_:
        say_json([asdict(revision) for revision in revisions])
        return
    rows = table("revision", "after", "phase", "what it does")
    for revision in revisions:
        rows.add_row(revision.id, revision.previous or "", revision.phase, revision.title)
    say_table(rows)


@app.command(context_settings=_RELATIVE)
def plan(
    revision: Annotated[
        str, typer.Argument(help="A revision, head, pre, or relative as in +1.", callback=_revision)
    ] = "head",
    url: Url = None,
    json_: Json = False,
) -> None:
    """Say what `agentstore upgrade` would do: its statements, the locks they take, how much they work through.

    Changes nothing. A statement is safe while the store is in use if readers and writers go on but for the moment in
    which its lock is taken.
    """

    async def run(database: Database) -> list[migrate.Planned]:
        return await migrate.plan(database, revision)

    planned = with_database(url, run)
    if json_:
        say_json([asdict(each) for each in planned])
        return
    if not planned:
        say("nothing to do")
        return
    titles = {each.id: each.title for each in migrate.history()}
    revision = ""
    for each in planned:
        if each.revision != revision:
            revision = each.revision
            say(f"{revision} ({each.phase}): {titles[revision]}", style="bold")
        said = " ".join(each.statement.split())
        say(f"  {said if len(said) <= _LONGEST else said[:_LONGEST] + '...'}")
        for effect in each.effects:
            work = ""
            if effect.work != "none":
                work = f", {effect.work} of {effect.rows:,} rows, {effect.bytes:,} bytes, about {effect.seconds:.0f} s"
            safe = "safe in use" if effect.online else "NOT safe in use"
            say(f"    {safe}: {effect.lock or 'unknown'} on {effect.table}{work}", style="" if effect.online else "red")


@app.command()
def check(url: Url = None, json_: Json = False) -> None:
    """Say whether the schema fits this release.

    Exit code 0 at head, 3 behind, 4 ahead, 5 an index is INVALID, 6 it fits and the last migrations wait until no
    replica of the release before is left.
    """

    async def run(database: Database) -> tuple[migrate.Status, migrate.VectorStatus]:
        return await migrate.status(database), await migrate.vector_status(database)

    found, vectors = with_database(url, run)
    is_enabled = vectors.state != "not enabled"
    if json_:
        say_json(asdict(found) | ({"vector": asdict(vectors)} if is_enabled else {}))
    else:
        say(f"{found.current or 'none'}: {ADVICE[found.state]}")
        if is_enabled:
            say(f"{vectors.current} (vectors): {ADVICE[vectors.state]}")
    for name in found.invalid_indexes:
        complain(f"the index {name} is INVALID: `agentstore doctor` says what to do", label="check")
    codes = {"at head": 0, "not enabled": 0, "behind": 3, "ahead": 4, "post pending": 6}
    found_codes = [codes[found.state], codes[vectors.state], 5 if found.invalid_indexes else 0]
    raise typer.Exit(next((code for code in (3, 4, 5, 6) if code in found_codes), 0))


@app.command()
def sql(
    revisions: Annotated[str, typer.Argument(help="A revision, or two as in A:B.")] = "head",
    vectors: Annotated[bool, typer.Option("--vectors", help="That of `agentstore vector enable` instead.")] = False,
    downgrade: Annotated[bool, typer.Option("--downgrade", help="From A back to B, of A:B.")] = False,
) -> None:
    """Print the SQL of an upgrade, for a DBA to read and run with psql. Needs no database."""
    sys.stdout.write(migrate.sql(revisions, schema=settings().schema, vectors=vectors, downgrade=downgrade))


def _report(line: str) -> None:
    complain(line, label="upgrade", style="dim")


def _print_move(before: migrate.Status, after: migrate.Status, as_json: bool) -> None:
    if as_json:
        say_json({"from": before.current, "to": after.current})
    elif before.current == after.current:
        say(f"at {after.current or 'none'} already")
    else:
        say(f"{before.current or 'none'} -> {after.current or 'none'}")
