"""``agentstore distribute`` and ``agentstore undistribute``."""

from dataclasses import asdict
from typing import Annotated

import typer

from agentstore.cli.connect import run_with_database
from agentstore.cli.options import Json, Url, Yes, confirm, new_group
from agentstore.cli.output import counted, echo, echo_error, echo_json
from agentstore.database.database import Database
from agentstore.operations import distribution
from agentstore.operations.distribution import Distribution, DistributionPlan

commands = new_group()


def _report(line: str) -> None:
    echo_error(line, label="citus", style="dim")


@commands.command()
def distribute(
    shards: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=distribution.MOST_SHARDS,
            help="Number of shards of each table; cannot be changed afterwards.",
        ),
    ] = distribution.SHARDS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and print the SQL; change nothing.")
    ] = False,
    yes: Yes = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Distribute the tables over a Citus cluster.

    The tables are sharded by user, as docs/scale.md describes, in one transaction that blocks all writers. The exit
    code is 1 if something prevents it; each obstacle is printed on stderr.
    """
    confirm(
        f"Distribute the tables in {counted(shard=shards)}? The number cannot be changed afterwards.", yes or dry_run
    )

    async def run(database: Database) -> tuple[DistributionPlan, Distribution]:
        planned = await distribution.plan(database, shards=shards)
        if dry_run or planned.obstacles:
            return planned, await distribution.distribution(database)
        return planned, await distribution.distribute(database, shards=shards, report=_report)

    planned, current = run_with_database(url, run)
    if json_:
        echo_json({"state": current.state, **asdict(current), **asdict(planned)})
    elif dry_run:
        for statement in planned.statements:
            echo(f"{statement};")
    else:
        echo(current.state)
    for obstacle in planned.obstacles:
        echo_error(obstacle)
    if planned.obstacles:
        raise typer.Exit(1)


@commands.command()
def undistribute(yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Move the rows of a Citus cluster back to the coordinator.

    One transaction copies all rows; calls wait for its end.
    """
    confirm("Move the rows of all servers to the coordinator?", yes)

    async def run(database: Database) -> Distribution:
        return await distribution.undistribute(database, report=_report)

    current = run_with_database(url, run)
    if json_:
        echo_json({"state": current.state, **asdict(current)})
    else:
        echo(current.state)
