"""Row-level security: the server itself restricts a role to the rows of one user.

With the policies in place, a role that is neither a superuser nor has BYPASSRLS sees only the rows of the user that the
transaction sets, whatever the statement. FORCE makes the policies apply to the owner of the tables as well.
"""

_POLICY = "agentstore_user"
# The value has a one-character prefix: a setting made in a transaction reads as '' after it, and '' is a valid id.
_USER = "substr(nullif(current_setting('agentstore.user_id', true), ''), 2)"

TABLES = """
SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
        SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'agentstore_user' AND p.polcmd = '*'
    ) AS is_secured,
    EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'user_id') AS has_owner
FROM pg_class c
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND c.relname NOT LIKE 'alembic_version%'
ORDER BY c.relname
"""
"""The tables of a schema: `name`, `is_secured` by the policy, `has_owner` (owner column `user_id`, otherwise `id`)."""

BYPASSES_POLICIES = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
"""Whether the current role is exempt from row-level security."""


def enable_statements(schema: str, table: str, *, has_owner: bool) -> list[str]:
    """Return the SQL that secures a table; each statement locks it briefly (ACCESS EXCLUSIVE)."""
    name, owner = f'"{schema}"."{table}"', "user_id" if has_owner else "id"
    return [
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS {_POLICY} ON {name}",
        f"CREATE POLICY {_POLICY} ON {name} USING ({owner} = {_USER}) WITH CHECK ({owner} = {_USER})",
    ]


def disable_statements(schema: str, table: str) -> list[str]:
    """Return the SQL that reverts :func:`enable_statements`."""
    name = f'"{schema}"."{table}"'
    return [
        f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY",
        f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS {_POLICY} ON {name}",
    ]


def set_user_sql(user_id: str) -> str:
    """Return the SQL that sets the user for the current transaction."""
    # Hex-encoded: no id can terminate the literal.
    encoded = ("=" + user_id).encode().hex()
    return f"SELECT set_config('agentstore.user_id', convert_from(decode('{encoded}', 'hex'), 'UTF8'), true)"
