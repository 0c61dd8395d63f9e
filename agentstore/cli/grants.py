"""The command about the rights of roles."""

from typing import Annotated

import typer

from agentstore.cli.console import Json, Url, as_text, complain, say, say_json, settings, with_database
from agentstore.database.database import Database
from agentstore.operations.grants import apply
from agentstore.operations.grants import grants as rights_of

app = typer.Typer()


@app.command()
def grants(
    app: Annotated[str | None, typer.Option(metavar="ROLE", help="Reads and writes rows.", callback=as_text)] = None,
    readonly: Annotated[str | None, typer.Option(metavar="ROLE", help="Reads rows.", callback=as_text)] = None,
    migrator: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Owns the schema and migrates it.", callback=as_text)
    ] = None,
    do_it: Annotated[bool, typer.Option("--apply", help="Grant it, as a superuser or the schema's owner.")] = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Print the SQL that gives roles the rights that they need and no more, or say it to the database with --apply.

    The roles are there already. What later migrations make is theirs as well, if the migrator makes it.
    """
    statements = rights_of(schema=settings().schema, app=app, readonly=readonly, migrator=migrator)
    roles = [role for role in (app, readonly, migrator) if role is not None]
    if do_it:

        async def run(database: Database) -> None:
            await apply(database, statements, roles)

        with_database(url, run)
    if json_:
        say_json({"statements": statements, "applied": do_it})
    elif do_it:
        complain(", ".join(roles), label="granted to", style="green")
    else:
        for statement in statements:
            say(f"{statement};")
