"""The command that spreads the tables over the servers of a Citus cluster."""

from dataclasses import asdict
from typing import Annotated

import typer

from agentstore.cli.console import Json, Url, complain, say, say_json, with_database
from agentstore.database.database import Database
from agentstore.operations.distribution import SHARDS, Distribution, DistributionPlan, distribute, distribution, plan

app = typer.Typer()


def _report(line: str) -> None:
    complain(line, label="distribute", style="dim")


@app.command("distribute")
def spread(
    shards: Annotated[int, typer.Option(help="Into how many pieces each table is cut, once and for all.")] = SHARDS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all of it, print the SQL, change nothing.")] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Spread the tables over the servers of a Citus cluster, by user: docs/scale.md.

    In one transaction, during which nobody writes. Exit code 1: something keeps it from being done, and all that does
    is on stderr.
    """

    async def run(database: Database) -> tuple[DistributionPlan, Distribution]:
        found = await plan(database, shards=shards)
        if dry_run or found.obstacles:
            return found, await distribution(database)
        return found, await distribute(database, shards=shards, report=_report)

    found, now = with_database(url, run)
    if json_:
        say_json({"state": now.state, **asdict(now), **asdict(found)})
    elif dry_run:
        for statement in found.statements:
            say(f"{statement};")
    else:
        say(now.state)
    for obstacle in found.obstacles:
        complain(obstacle)
    if found.obstacles:
        raise typer.Exit(1)
