"""Grants for roles: each gets the privileges that it needs, and no others.

The migrator owns the schema and migrates it; the application's role reads and writes rows; the read-only role reads
them.
"""

from sqlalchemy import text

from agentstore.database.database import Database
from agentstore.database.errors import CONNECT_ERRORS, connection_error
from agentstore.database.sql import literal
from agentstore.errors import InvalidContent, NotConfigured
from agentstore.migrating.connections import refuse_other_database

_LONGEST_NAME = 63  # bytes


def grants(
    *, schema: str = "agentstore", app: str | None = None, readonly: str | None = None, migrator: str | None = None
) -> list[str]:
    """Return the SQL that grants existing roles their privileges. The statements are idempotent.

    Args:
        schema: the name of agentstore's schema; it is created if it does not exist.
        app: the role that reads and writes rows.
        readonly: the role that reads rows.
        migrator: the role that owns the schema and migrates it. Without it, the privileges on tables that are created
            later apply to those that the schema's owner creates.

    Raises:
        InvalidContent: no role is given, or a name is not valid for a role.
    """
    roles = [role for role in (app, readonly, migrator) if role is not None]
    if not roles:
        raise InvalidContent("Name at least one role: app, readonly or migrator.")
    for role in roles:
        if not role or "\0" in role or len(role.encode()) > _LONGEST_NAME:
            raise InvalidContent(
                f"{role!r:.80} is not a valid role name: expected 1 to {_LONGEST_NAME} bytes without NUL."
            )
    found = [f"CREATE SCHEMA IF NOT EXISTS {_name(schema)}", f"REVOKE ALL ON SCHEMA {_name(schema)} FROM PUBLIC"]
    if migrator is not None:
        found += [
            _on_database("CONNECT, TEMPORARY", migrator),
            # Only the owner of a table may alter it.
            f"ALTER SCHEMA {_name(schema)} OWNER TO {_name(migrator)}",
            _change_owner(schema, migrator),
        ]
    if app is not None:
        # `agentstore import` of an export merges rows from temporary tables.
        found += [
            _on_database("CONNECT, TEMPORARY", app),
            *_on_tables(schema, "SELECT, INSERT, UPDATE, DELETE", app, migrator),
        ]
    if readonly is not None:
        found += [_on_database("CONNECT", readonly), *_on_tables(schema, "SELECT", readonly, migrator)]
    return found


async def apply(database: Database, statements: list[str], roles: list[str]) -> None:
    """Execute the statements of :func:`grants` in one transaction, after checking that `roles` exist.

    Raises:
        NotConfigured: a role does not exist, the login may not grant these privileges, or MIGRATION_DATABASE_URL leads
            to another database.
        Unavailable: the database does not answer.
    """
    async with database.migration_engine() as engine:
        try:
            async with engine.begin() as connection:
                await refuse_other_database(connection, database)
                for role in roles:
                    found = await connection.execute(
                        text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}
                    )
                    if found.first() is None:
                        raise NotConfigured(f"There is no role {role!r}: CREATE ROLE {_name(role)} LOGIN")
                for statement in statements:
                    await connection.exec_driver_sql(statement)
        except CONNECT_ERRORS as error:
            cause = getattr(error, "orig", None) or error
            if getattr(cause, "sqlstate", None) == "42501":
                raise NotConfigured(
                    f"The login to {database.where_directly} may not grant this: {cause}. Use the schema's owner or a "
                    "superuser."
                ) from error
            raise connection_error(error, database.where_directly) from error


def _on_tables(schema: str, rights: str, role: str, migrator: str | None) -> list[str]:
    """Grant privileges on the tables and functions, also those of later migrations; version tables stay read-only."""
    where = _name(schema)
    statements = [
        f"GRANT USAGE ON SCHEMA {where} TO {_name(role)}",
        f"GRANT {rights} ON ALL TABLES IN SCHEMA {where} TO {_name(role)}",
        # Of everyone by default, unless a DBA has revoked it: an index of sessions calls a function.
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {where} TO {_name(role)}",
    ]
    if "INSERT" in rights:
        statements.append(
            _block(
                f"FOR relation IN SELECT relname FROM pg_class WHERE relnamespace = {literal(where)}::regnamespace "
                "AND relkind = 'r' AND relname ~ '^(agentstore|alembic)_version' LOOP "
                f"EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %I.%I FROM %I', {literal(schema)}, relation, "
                f"{literal(role)}); END LOOP;"
            )
        )
    if migrator is not None:
        owner = f"owner := {literal(migrator)};"
    else:
        owner = (
            "SELECT rolname INTO owner FROM pg_roles r JOIN pg_namespace n ON n.nspowner = r.oid "
            f"WHERE n.nspname = {literal(schema)};"
        )
    for granted in (f"{rights} ON TABLES", "EXECUTE ON FUNCTIONS"):
        statements.append(
            _block(
                f"{owner} EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I "
                f"GRANT {granted} TO %I', owner, {literal(schema)}, {literal(role)});"
            )
        )
    return statements


def _on_database(rights: str, role: str) -> str:
    return _block(f"EXECUTE format('GRANT {rights} ON DATABASE %I TO %I', current_database(), {literal(role)});")


def _change_owner(schema: str, role: str) -> str:
    return _block(
        "FOR relation IN SELECT relname FROM pg_class "
        f"WHERE relnamespace = {literal(_name(schema))}::regnamespace AND relkind IN ('r', 'p') LOOP "
        f"EXECUTE format('ALTER TABLE %I.%I OWNER TO %I', {literal(schema)}, relation, {literal(role)}); END LOOP; "
        "FOR relation IN SELECT oid::regprocedure::text FROM pg_proc "
        f"WHERE pronamespace = {literal(_name(schema))}::regnamespace LOOP "
        f"EXECUTE format('ALTER FUNCTION %s OWNER TO %I', relation, {literal(role)}); END LOOP;"
    )


def _block(body: str) -> str:
    # The body contains names as literals: a name that contains the tag would end the block.
    tag = "$agentstore$"
    if tag in body:
        raise InvalidContent(f"A role or schema name may not contain {tag}.")
    return f"DO {tag} DECLARE relation text; owner text; BEGIN {body} END {tag}"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
