"""The check of the schema when a store starts. Loads Alembic only if it has to migrate."""

import logging

from agentstore.database.database import Database
from agentstore.errors import NotConfigured, SchemaBehind
from agentstore.migrating.catalog import missing_tables
from agentstore.migrating.revisions import needed
from agentstore.migrating.schema_status import status
from agentstore.settings import AutoMigrate

_log = logging.getLogger(__name__)


async def ensure(database: Database, mode: AutoMigrate) -> None:
    """Check the schema, or upgrade it, as the setting ``AUTO_MIGRATE`` says.

    A schema that is newer than this release is accepted: each release keeps the schema usable for the previous one.

    Args:
        database: the database.
        mode: "check" raises if the schema is behind; "upgrade" upgrades it: an empty database to the head, one with a
            schema as far as this release needs, since replicas of the previous release may be running, including what
            an earlier release has left; "off" does nothing.

    Raises:
        SchemaBehind: the schema is older than this release needs, and `mode` is "check".
        NotConfigured: the schema lacks tables of the revision that it records.
        Conflict, NotConfigured, Unavailable: also see :func:`agentstore.migrating.schema_status.status`, and
            :func:`agentstore.migrating.migrate.upgrade` if `mode` is "upgrade".
    """
    if mode == "off":
        return
    found = await status(database)
    if found.state == "ahead":
        _log.warning("the schema is at revision %s, newer than this release", found.current)
    if found.state != "behind":
        current = None if found.state == "ahead" else found.current
        await _check_tables(database, current or needed())
        return
    if mode == "upgrade":
        from agentstore.migrating.migrate import upgrade

        target = "head" if found.current is None else "pre"
        await upgrade(database, target, run_earlier_post=True)
    else:
        raise SchemaBehind(
            f"The schema {database.settings.schema!r} of {database.where} is at revision {found.current or 'none'}, "
            f"this release needs {needed()}: run `agentstore upgrade`."
        )


async def _check_tables(database: Database, revision: str) -> None:
    """Check that the tables of a revision exist, whatever revision the schema records.

    Raises:
        NotConfigured: some do not.
    """
    schema = database.settings.schema
    async with database.connection() as connection:
        missing = await missing_tables(connection, schema, revision)
    if missing:
        raise NotConfigured(
            f"The schema {schema!r} of {database.where} lacks tables of its revision: {', '.join(missing)}. Restore "
            "them from a backup; `agentstore doctor` lists all differences."
        )
