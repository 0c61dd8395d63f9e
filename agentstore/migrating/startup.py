"""The check of the schema when a store starts. Loads Alembic only if it has to migrate."""

import logging

from agentstore.database.database import Database
from agentstore.errors import SchemaBehind
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
            schema as far as this release needs, since replicas of the previous release may be running; "off" does
            nothing.

    Raises:
        SchemaBehind: the schema is older than this release needs, and `mode` is "check".
        NotConfigured, Unavailable: see :func:`agentstore.migrating.schema_status.status`, and
            :func:`agentstore.migrating.migrate.upgrade` if `mode` is "upgrade".
    """
    if mode == "off":
        return
    found = await status(database)
    if found.state == "ahead":
        _log.warning("the schema is at revision %s, which this release does not know", found.current)
    if found.state != "behind":
        return
    if mode == "upgrade":
        from agentstore.migrating.migrate import upgrade

        await upgrade(database, "head" if found.current is None else "pre")
    else:
        raise SchemaBehind(
            f"The schema {database.settings.schema!r} of {database.where} is at revision {found.current or 'none'}, "
            f"this release needs {needed()}: run `agentstore upgrade`."
        )
