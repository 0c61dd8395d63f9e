"""The rights that an application, whoever only looks, and the migrations need, and no more.

One role owns the schema and migrates it; one reads and writes rows; one reads them.
"""

from sqlalchemy import text

from agentstore.database.database import Database
from agentstore.database.errors import CONNECT_ERRORS, connection_error
from agentstore.errors import InvalidContent, NotConfigured

_LONGEST = 63


def grants(
    *, schema: str = "agentstore", app: str | None = None, readonly: str | None = None, migrator: str | None = None
) -> list[str]:
    """Return the statements that give existing roles their rights. Repeated, they change nothing.

    Raises:
        InvalidContent: no role is given, or one that can be none.
    """
    roles = [role for role in (app, readonly, migrator) if role is not None]
    if not roles:
        raise InvalidContent("name a role: an app's, one that only reads, or the migrator's")
    for role in roles:
        if not role or "\0" in role or len(role.encode()) > _LONGEST:
            raise InvalidContent(f"{role!r} is no name of a role")
    found = [f"CREATE SCHEMA IF NOT EXISTS {_name(schema)}", f"REVOKE ALL ON SCHEMA {_name(schema)} FROM PUBLIC"]
    if migrator is not None:
        found += [
            _on_the_database("CONNECT, TEMPORARY", migrator),
            # Who migrates owns what there is: altering a table is nobody else's right.
            f"ALTER SCHEMA {_name(schema)} OWNER TO {_name(migrator)}",
            _owned(schema, migrator),
        ]
    if app is not None:
        # Temporary tables are what `agentstore import` of an export merges by.
        found += [
            _on_the_database("CONNECT, TEMPORARY", app),
            *_on_tables(schema, "SELECT, INSERT, UPDATE, DELETE", app, migrator),
        ]
    if readonly is not None:
        found += [_on_the_database("CONNECT", readonly), *_on_tables(schema, "SELECT", readonly, migrator)]
    return found


async def apply(database: Database, statements: list[str], roles: list[str]) -> None:
    """Say the statements in one transaction.

    Raises:
        NotConfigured: a role is not there, or the login may not grant this.
        Unavailable: the database does not answer.
    """
    async with database.migration_engine() as engine:
        try:
            async with engine.begin() as connection:
                for role in roles:
                    found = await connection.execute(
                        text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}
                    )
                    if found.first() is None:
                        raise NotConfigured(f"there is no role {role!r}: CREATE ROLE {_name(role)} LOGIN")
                for statement in statements:
                    await connection.exec_driver_sql(statement)
        except CONNECT_ERRORS as error:
            said = getattr(error, "orig", None) or error
            if getattr(said, "sqlstate", None) == "42501":
                raise NotConfigured(f"the login to {database.where} may not grant this: {said}") from error
            raise connection_error(error, database.where) from error


def _on_tables(schema: str, rights: str, role: str, migrator: str | None) -> list[str]:
    """Rights on the tables that there are, and on those that a migration makes later; none to write the version."""
    where = _name(schema)
    statements = [
        f"GRANT USAGE ON SCHEMA {where} TO {_name(role)}",
        f"GRANT {rights} ON ALL TABLES IN SCHEMA {where} TO {_name(role)}",
    ]
    if "INSERT" in rights:
        statements.append(
            _block(
                f"FOR relation IN SELECT relname FROM pg_class WHERE relnamespace = {_literal(where)}::regnamespace "
                "AND relkind = 'r' AND relname LIKE 'alembic_version%' LOOP "
                f"EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %I.%I FROM %I', {_literal(schema)}, relation, "
                f"{_literal(role)}); END LOOP;"
            )
        )
    if migrator is not None:
        owner = f"owner := {_literal(migrator)};"
    else:
        owner = (
            "SELECT rolname INTO owner FROM pg_roles r JOIN pg_namespace n ON n.nspowner = r.oid "
            f"WHERE n.nspname = {_literal(schema)};"
        )
    statements.append(
        _block(
            f"{owner} EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I "
            f"GRANT {rights} ON TABLES TO %I', owner, {_literal(schema)}, {_literal(role)});"
        )
    )
    return statements


def _on_the_database(rights: str, role: str) -> str:
    return _block(f"EXECUTE format('GRANT {rights} ON DATABASE %I TO %I', current_database(), {_literal(role)});")


def _owned(schema: str, role: str) -> str:
    return _block(
        "FOR relation IN SELECT relname FROM pg_class "
        f"WHERE relnamespace = {_literal(_name(schema))}::regnamespace AND relkind IN ('r', 'p') LOOP "
        f"EXECUTE format('ALTER TABLE %I.%I OWNER TO %I', {_literal(schema)}, relation, {_literal(role)}); END LOOP; "
        "FOR relation IN SELECT oid::regprocedure::text FROM pg_proc "
        f"WHERE pronamespace = {_literal(_name(schema))}::regnamespace LOOP "
        f"EXECUTE format('ALTER FUNCTION %s OWNER TO %I', relation, {_literal(role)}); END LOOP;"
    )


def _block(body: str) -> str:
    # A tag that no name can hold, since names in it are quoted literals.
    tag = "$agentstore$"
    if tag in body:
        raise InvalidContent(f"a name may not have {tag} in it")
    return f"DO {tag} DECLARE relation text; owner text; BEGIN {body} END {tag}"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
