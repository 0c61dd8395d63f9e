"""``agentstore rls``: row-level security."""

from dataclasses import asdict

import typer

from agentstore import migrating as migrate
from agentstore.cli.connect import run_with_database
from agentstore.cli.options import Json, Url, Yes, confirm, new_group
from agentstore.cli.output import echo, echo_error, echo_json
from agentstore.database.database import Database

group = new_group("Enable, disable and check row-level security.")


def _report(line: str) -> None:
    echo_error(line, label="rls", style="dim")


def _print_status(found: migrate.RowSecurity, as_json: bool) -> None:
    if as_json:
        echo_json({"state": found.state, **asdict(found)})
        return
    echo(found.state)
    if found.state == "incomplete":
        echo_error(f"tables without a policy: {', '.join(found.open)}; run `agentstore rls enable`", label="incomplete")


@group.command()
def enable(url: Url = None, json_: Json = False) -> None:
    """Enable row-level security on all tables.

    Roles then see the rows of one user at a time. Set AGENTSTORE_ROW_LEVEL_SECURITY in every application first.
    """

    async def run(database: Database) -> migrate.RowSecurity:
        await migrate.enable_row_security(database, report=_report)
        return await migrate.row_security_status(database)

    _print_status(run_with_database(url, run), json_)


@group.command()
def disable(yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Disable row-level security: roles that may read a table see all of it."""
    confirm("Disable row-level security? Roles that may read a table then see the rows of all users.", yes)

    async def run(database: Database) -> migrate.RowSecurity:
        await migrate.disable_row_security(database, report=_report)
        return await migrate.row_security_status(database)

    _print_status(run_with_database(url, run), json_)


@group.command()
def status(url: Url = None, json_: Json = False) -> None:
    """Print whether row-level security is enabled.

    Exit code: 0 it is on all tables, 1 it is on none, 5 it is on some.
    """
    found = run_with_database(url, migrate.row_security_status)
    _print_status(found, json_)
    raise typer.Exit({"enabled": 0, "disabled": 1, "incomplete": 5}[found.state])
