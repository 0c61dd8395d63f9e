"""Row-level security: a second wall between users, which the server itself keeps.

With it a role that is no superuser and has no BYPASSRLS sees the rows of one user, whom the transaction names, whatever
a statement asks. The policies are FORCEd, so that the owner of the tables is such a role as well.
"""

_POLICY = "agentstore_user"
# With a mark before it, since what was set in a transaction is empty after it, and an id may be empty.
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
"""Each table of a schema, whether it is secured, and whether its owner is in `user_id`, else in `id`."""

SEES_ALL = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"


def secured(schema: str, table: str, *, has_owner: bool) -> list[str]:
    """Return the statements that secure a table; each locks it for a moment (ACCESS EXCLUSIVE)."""
    name, owner = f'"{schema}"."{table}"', "user_id" if has_owner else "id"
    return [
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS {_POLICY} ON {name}",
        f"CREATE POLICY {_POLICY} ON {name} USING ({owner} = {_USER}) WITH CHECK ({owner} = {_USER})",
    ]


def open_again(schema: str, table: str) -> list[str]:
    """Return the statements that take it back."""
    name = f'"{schema}"."{table}"'
    return [
        f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY",
        f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS {_POLICY} ON {name}",
    ]


def for_user(user_id: str) -> str:
    """Return the statement that names the user, for the transaction that it is said in."""
    # In hexadecimal: no text can end the literal.
    marked = ("=" + user_id).encode().hex()
    return f"SELECT set_config('agentstore.user_id', convert_from(decode('{marked}', 'hex'), 'UTF8'), true)"
