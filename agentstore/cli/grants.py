"""``agentstore grants``."""

from typing import Annotated

import typer

from agentstore.cli.connect import load_settings, run_with_database
from agentstore.cli.options import Json, Url, new_group, require_text
from agentstore.cli.output import echo, echo_error, echo_json
from agentstore.database.database import Database
from agentstore.operations.grants import apply
from agentstore.operations.grants import grants as grant_statements

commands = new_group()


@commands.command()
def grants(
    app: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Role that reads and writes rows.", callback=require_text)
    ] = None,
    readonly: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Role that reads rows.", callback=require_text)
    ] = None,
    migrator: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="Role that owns the schema and migrates it.", callback=require_text),
    ] = None,
    apply_: Annotated[
        bool, typer.Option("--apply", help="Execute the SQL, as a superuser or the owner of the schema.")
    ] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Print or apply the least privileges that roles need.

    The roles must exist. They also get privileges on what later migrations create, if the migrator role runs them.
    """
    statements = grant_statements(schema=load_settings().schema, app=app, readonly=readonly, migrator=migrator)
    roles = [role for role in (app, readonly, migrator) if role is not None]
    if apply_:

        async def run(database: Database) -> None:
            await apply(database, statements, roles)

        run_with_database(url, run)
    if json_:
        echo_json({"statements": statements, "applied": apply_})
    elif apply_:
        echo_error(", ".join(roles), label="granted to", style="green")
    else:
        for statement in statements:
            echo(f"{statement};")
