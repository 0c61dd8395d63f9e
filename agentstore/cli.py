"""The command line: parse, call, print.

Exit codes: 0 done, 1 it did not work (the reason is on stderr), 2 the command line is wrong, 3 the schema is behind
this release, 4 it is ahead of it.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agentstore import __version__, migrate
from agentstore.database import Database
from agentstore.errors import AgentStoreError, SchemaAhead, SchemaBehind
from agentstore.repositories.connect import open_database
from agentstore.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    name="agentstore",
    help="Sessions, memory and state of AI agents, kept on Postgres.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)

Url = Annotated[
    str | None, typer.Option("--url", help="The database; by default AGENTSTORE_DATABASE_URL, else the embedded one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
# `downgrade -1` is a revision and not an option.
_RELATIVE = {"ignore_unknown_options": True}


def _revision(value: str) -> str:
    """Take -1 for a revision, and what else begins with - for the misspelt option that it is."""
    if value.startswith("-") and not value[1:].isdigit():
        raise typer.BadParameter(f"no such option: {value.partition('=')[0]}")
    return value


def main() -> None:
    """Run the command line, and turn what is expected to go wrong into a line and an exit code."""
    try:
        app()
    except AgentStoreError as error:
        _err.print(f"[red]error:[/red] {escape(str(error))}")
        sys.exit({SchemaBehind: 3, SchemaAhead: 4}.get(type(error), 1))
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in each["loc"]).upper()
            _err.print(f"[red]error:[/red] AGENTSTORE_{escape(name)}: {escape(each['msg'])}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        _out.print(__version__)
        raise typer.Exit


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

    _with_database(url, run)


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

    _with_database(url, run)


@app.command()
def current(url: Url = None, json_: Json = False) -> None:
    """Print the revision that the database's schema is at."""

    async def run(database: Database) -> None:
        found = await migrate.status(database)
        _print(asdict(found) if json_ else f"{found.current or 'none'} ({found.state})")

    _with_database(url, run)


@app.command()
def history(json_: Json = False) -> None:
    """List the migrations of this release, the newest first."""
    revisions = migrate.history()
    if json_:
        _print([asdict(revision) for revision in revisions])
        return
    table = Table("revision", "after", "what it does", box=None)
    for revision in revisions:
        table.add_row(revision.id, revision.previous or "", revision.title)
    _out.print(table)


@app.command()
def check(url: Url = None, json_: Json = False) -> None:
    """Say whether the schema fits this release: exit code 0 at head, 3 behind, 4 ahead."""

    async def run(database: Database) -> migrate.Status:
        return await migrate.status(database)

    found = _with_database(url, run)
    advice = {
        "at head": "the schema is this release's",
        "behind": "the schema is behind this release: run `agentstore upgrade`",
        "ahead": "the schema is ahead of this release: upgrade agentstore",
    }[found.state]
    _print(asdict(found) if json_ else f"{found.current or 'none'}: {advice}")
    raise typer.Exit({"at head": 0, "behind": 3, "ahead": 4}[found.state])


@app.command()
def sql(revisions: Annotated[str, typer.Argument(help="A revision, or two as in A:B.")] = "head") -> None:
    """Print the SQL of an upgrade, for a DBA to read and run. Needs no database."""
    sys.stdout.write(migrate.sql(revisions, schema=Settings().schema))


def _with_database(url: str | None, run: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        database = open_database(url)
        try:
            return await run(database)
        finally:
            await database.stop()

    return asyncio.run(main())


def _print_move(before: migrate.Status, after: migrate.Status, as_json: bool) -> None:
    if as_json:
        _print({"from": before.current, "to": after.current})
    elif before.current == after.current:
        _print(f"at {after.current or 'none'} already")
    else:
        _print(f"{before.current or 'none'} -> {after.current or 'none'}")


def _print(value: Any) -> None:
    if isinstance(value, str):
        _out.print(escape(value))
    else:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
