"""Commands about the schema: its migrations, and where a database stands."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from agentstore import migrate
from agentstore.cli.console import Json, Url, say, say_json, say_table, settings, table, with_database
from agentstore.database import Database

app = typer.Typer()

ADVICE = {
    "at head": "the schema is this release's",
    "behind": "the schema is behind this release: run `agentstore upgrade`",
    "ahead": "the schema is ahead of this release: upgrade agentstore",
}
# `downgrade -1` is a revision and not an option.
_RELATIVE = {"ignore_unknown_options": True}


def _revision(value: str) -> str:
    """Take -1 for a revision, and what else begins with - for the misspelt option that it is."""
    if value.startswith("-") and not value[1:].isdigit():
        raise typer.BadParameter(f"no such option: {value.partition('=')[0]}")
    return value


@app.command(context_settings=_RELATIVE)
def upgrade(
    revision: Annotated[
        str, typer.Argument(help="A revision, head, or relative as in +1.", callback=_revision)
    ] = "head",
    url: Url = None,
    json_: Json = False,
) -> None:
    """Bring the database's schema to this release's. Safe to run from many places at once."""

    async def run(database: Database) -> None:
        before = await migrate.status(database)
        await migrate.upgrade(database, revision)
        _print_move(before, await migrate.status(database), json_)

    with_database(url, run)


@app.command(context_settings=_RELATIVE)
def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision, base, or relative as in -1.", callback=_revision)],
    url: Url = None,
    json_: Json = False,
) -> None:
    """Take the schema back. This drops what the later revisions brought, and the data in it."""

    async def run(database: Database) -> None:
        before = await migrate.status(database)
        await migrate.downgrade(database, revision)
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
def history(json_: Json = False) -> None:
    """List the migrations of this release, the newest first."""
    revisions = migrate.history()
    if json_:
        say_json([asdict(revision) for revision in revisions])
        return
    rows = table("revision", "after", "what it does")
    for revision in revisions:
        rows.add_row(revision.id, revision.previous or "", revision.title)
    say_table(rows)


@app.command()
def check(url: Url = None, json_: Json = False) -> None:
    """Say whether the schema fits this release: exit code 0 at head, 3 behind, 4 ahead."""

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
    codes = {"at head": 0, "not enabled": 0, "behind": 3, "ahead": 4}
    raise typer.Exit(codes[found.state] or codes[vectors.state])


@app.command()
def sql(
    revisions: Annotated[str, typer.Argument(help="A revision, or two as in A:B.")] = "head",
    vectors: Annotated[bool, typer.Option("--vectors", help="That of `agentstore vector enable` instead.")] = False,
) -> None:
    """Print the SQL of an upgrade, for a DBA to read and run. Needs no database."""
    sys.stdout.write(migrate.sql(revisions, schema=settings().schema, vectors=vectors))


def _print_move(before: migrate.Status, after: migrate.Status, as_json: bool) -> None:
    if as_json:
        say_json({"from": before.current, "to": after.current})
    elif before.current == after.current:
        say(f"at {after.current or 'none'} already")
    else:
        say(f"{before.current or 'none'} -> {after.current or 'none'}")
