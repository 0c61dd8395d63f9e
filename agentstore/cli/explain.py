"""``agentstore explain``."""

from __future__ import annotations

from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from agentstore.cli.connect import load_settings, run_with_database
from agentstore.cli.options import Json, Url, new_group, require_text
from agentstore.cli.output import echo, echo_error, echo_json, echo_spans
from agentstore.cli.tables import Column, Table
from agentstore.operations import explain as explaining

if TYPE_CHECKING:
    from agentstore.database.database import Database

commands = new_group()


@commands.command()
def explain(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name of a statement; without it all are listed.", callback=require_text),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Plan for this value, in Postgres' text format: {a,b} is an array. Repeatable.",
            callback=require_text,
        ),
    ] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Print what a statement is for, its SQL, and its plan.

    The statement is planned in your database, never executed. Without --param it is the generic plan, which Postgres
    uses for any values; with --param that for these values, and null for those that are missing.
    """
    if name is None:
        if param:
            raise typer.BadParameter("--param needs the name of a statement")
        _list(as_json=json_)
        return
    names = explaining.statements().keys()
    name = name.removesuffix(".sql")
    if name not in names:
        nearest = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]!r}?" if nearest else "`agentstore explain` lists all."
        raise typer.BadParameter(f"there is no statement {name!r}. {hint}")
    values = _values(param)

    async def run(database: Database) -> explaining.Explained:
        return await explaining.explain(database, name, values)

    found = run_with_database(url, run)
    if json_:
        echo_json(asdict(found) | {"plan": found.plan_json})
    else:
        _print(found)


def _values(param: list[str] | None) -> dict[str, str] | None:
    """Return the values of the option --param by name; None if it is not given."""
    values: dict[str, str] = {}
    for each in param or ():
        name, equals, value = each.partition("=")
        if not equals or name in values:
            raise typer.BadParameter(f"--param expects NAME=VALUE, each name once, got {each!r}")
        values[name] = value
    return values if param else None


def _list(*, as_json: bool) -> None:
    settings = load_settings()
    found = [explaining.describe(name, settings) for name in explaining.statements()]
    if as_json:
        echo_json([asdict(each) for each in found])
        return
    table = Table(Column("statement", "id"), Column("scope"), Column("purpose", "text"))
    for each in found:
        table.add_row(each.name, each.scope, each.purpose)
    table.echo()


def _print(found: explaining.Explained) -> None:
    echo(found.name, "bold")
    echo(found.purpose)
    for label, text in (
        ("Scope", found.scope),
        ("Repeatable", "yes" if found.repeatable else "no"),
        ("Rows", found.rows),
        ("Races", found.races),
    ):
        if text is not None:
            echo_spans([(f"{label}: ", "bold"), (text, "")])
    echo_spans([("Parameters:", "bold"), ("" if found.parameters else " none", "")])
    for number, (name, type_) in enumerate(found.parameters.items(), 1):
        value = None if found.values is None else found.values[name]
        given = "" if found.values is None else " = NULL" if value is None else f" = {value!r}"
        echo(f"  ${number} {name} {type_}{given}")
    if found.values is not None and (missing := [each for each, value in found.values.items() if value is None]):
        echo_error(f"planned for null, since no value was given: {', '.join(missing)}", label="note", style="yellow")
    for label, text in (("SQL", found.sql), ("Generic plan" if found.values is None else "Plan", found.plan)):
        echo(f"\n{label}:", "bold")
        echo(text)
