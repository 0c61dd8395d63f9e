"""Commands about row-level security."""

from dataclasses import asdict

import typer

from agentstore import migrating as migrate
from agentstore.cli.console import Json, Url, complain, say, say_json, with_database
from agentstore.database.database import Database

app = typer.Typer(help="Let the server itself keep users apart: row-level security.", no_args_is_help=True)


def _report(line: str) -> None:
    complain(line, label="rls", style="dim")


def _say(found: migrate.RowSecurity, as_json: bool) -> None:
    if as_json:
        say_json({"state": found.state, **asdict(found)})
        return
    say(found.state)
    if found.state == "incomplete":
        complain(f"without a policy: {', '.join(found.open)}: `agentstore rls enable`", label="incomplete")


@app.command()
def enable(url: Url = None, json_: Json = False) -> None:
    """Let roles see the rows of one user at a time. Before that, AGENTSTORE_ROW_LEVEL_SECURITY is on everywhere."""

    async def run(database: Database) -> migrate.RowSecurity:
        await migrate.enable_row_security(database, report=_report)
        return await migrate.row_security_status(database)

    _say(with_database(url, run), json_)


@app.command()
def disable(url: Url = None, json_: Json = False) -> None:
    """Take it back: every role that may read a table sees all of it."""

    async def run(database: Database) -> migrate.RowSecurity:
        await migrate.disable_row_security(database, report=_report)
        return await migrate.row_security_status(database)

    _say(with_database(url, run), json_)


@app.command()
def status(url: Url = None, json_: Json = False) -> None:
    """Say whether it is on: exit code 0 for every table, 1 for none, 5 for some of them."""
    found = with_database(url, migrate.row_security_status)
    _say(found, json_)
    raise typer.Exit({"enabled": 0, "disabled": 1, "incomplete": 5}[found.state])
