"""Run the migrations of the line "vector", which has a version table of its own.

So the main line's revision means the same with vectors and without, for this release, an older one and Alembic's own
commands, and no upgrade of the main line installs an extension.
"""

from alembic import context
from sqlalchemy import Connection

from agentstore.migrating.schema_status import VERSION_TABLE, rename_statement
from agentstore.migrating.steps import LOCK_TIMEOUT
from agentstore.models.memory_vector import Vector, VectorBase

config = context.config


def _is_of_vectors(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in VectorBase.metadata.tables


_OPTIONS = {
    "target_metadata": VectorBase.metadata,
    "version_table": config.attributes.get("version_table", f"{VERSION_TABLE}_vector"),
    "transaction_per_migration": True,
    "include_name": _is_of_vectors,
}


def _run(connection: Connection) -> None:
    # Postgres qualifies the type's name unless its schema is in the search_path.
    connection.dialect.ischema_names |= {"vector": Vector, "public.vector": Vector}  # type: ignore[attr-defined]
    context.configure(connection=connection, **_OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    schema = config.attributes["schema"]
    context.configure(dialect_name="postgresql", literal_binds=True, **_OPTIONS)
    context.execute(f"SET lock_timeout TO '{LOCK_TIMEOUT}'")
    context.execute(f'SET search_path TO "{schema}"')
    if context.get_starting_revision_argument() not in (None, "base"):
        context.execute(rename_statement("vector"))
    with context.begin_transaction():
        context.run_migrations()
else:
    _run(config.attributes["connection"])
