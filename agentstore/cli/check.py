"""``agentstore check`` and ``agentstore current``: the schema's revision compared with this release's."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from agentstore import migrating as migrate
from agentstore.cli.connect import run_with_database
from agentstore.cli.options import Json, Url, new_group
from agentstore.cli.output import echo, echo_error, echo_json
from agentstore.errors import NotConfigured

if TYPE_CHECKING:
    from agentstore.database.database import Database

commands = new_group()

NEWER = "newer than this release; nothing to do"
"""About a schema that a newer release has migrated."""

_ADVICE = {
    "at head": "the schema is up to date",
    "post pending": "the schema fits this release; run `agentstore upgrade` once no process of the previous one runs",
    "behind": "the schema is behind this release; run `agentstore upgrade`",
    "ahead": NEWER,
}
_CODES = {"at head": 0, "not enabled": 0, "behind": 3, "ahead": 4, "post pending": 6}
_INVALID_INDEX, _DRIFT = 5, 7


@commands.command()
def check(url: Url = None, json_: Json = False) -> None:
    """Check whether the schema fits this release.

    Exit code: 0 up to date, 1 the store refuses the database's encoding or a login from which row-level security hides
    rows, 3 behind, 4 newer than this release, which works on it, 7 tables, columns, constraints, indexes or policies
    differ from those of the schema's revision, 5 an index is INVALID, 6 fits, with migrations left to run once no
    process of the previous release is running. The first of these that applies.
    """

    async def run(
        database: Database,
    ) -> tuple[migrate.Status, migrate.VectorStatus, list[migrate.Difference], str | None]:
        found, vectors = await migrate.status(database), await migrate.vector_status(database)
        differences = await migrate.find_drift(database)
        try:
            await database.check_server()
        except NotConfigured as error:
            return found, vectors, differences, str(error)
        return found, vectors, differences, None

    found, vectors, differences, refusal = run_with_database(url, run)
    is_enabled = vectors.state != "not enabled"
    if json_:
        listed = {"drift": [asdict(each) for each in differences]}
        echo_json(asdict(found) | listed | ({"vector": asdict(vectors)} if is_enabled else {}))
    else:
        echo(f"{found.current or 'none'}: {_ADVICE[found.state]}")
        if is_enabled:
            echo(f"{vectors.current} (vectors): {_ADVICE[vectors.state]}")
    for each in differences:
        echo_error(f"{each.found}; run `agentstore doctor` for advice", label="check")
    for name in found.invalid_indexes:
        echo_error(f"index {name} is INVALID; run `agentstore doctor` for advice", label="check")
    if refusal is not None:
        echo_error(refusal, label="check")
        raise typer.Exit(1)
    codes = {_CODES[found.state], _CODES[vectors.state]}
    codes |= {_DRIFT if differences else 0, _INVALID_INDEX if found.invalid_indexes else 0}
    raise typer.Exit(next((code for code in (3, 4, _DRIFT, _INVALID_INDEX, 6) if code in codes), 0))


@commands.command()
def current(url: Url = None, json_: Json = False) -> None:
    """Print the revision of the database's schema."""
    found = run_with_database(url, migrate.status)
    if json_:
        echo_json(asdict(found))
    else:
        echo(f"{found.current or 'none'} ({found.state})")
