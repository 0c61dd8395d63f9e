"""Row-level security: the server itself restricts a role to the rows of one user.

With the policies in place, a role that is neither a superuser nor has BYPASSRLS sees only the rows of the user that the
transaction sets, whatever the statement. FORCE makes the policies apply to the owner of the tables as well.

Rows that a policy hides are not missing: nothing may be reported of a filtered view. So a store without the setting
ROW_LEVEL_SECURITY turns off `row_security`, as pg_dump does: then Postgres refuses a statement instead of filtering it.
"""

from agentstore.errors import NotConfigured

_POLICY = "agentstore_user"
# The columns that name the user of a row, where it is not user_id. Values of an application belong to no user: its
# users share them, so each may read and write them.
_OWNERS = {"users": "id", "app_values": None}
# The value has a one-character prefix: a setting made in a transaction reads as '' after it, and '' is a valid id.
_USER = "substr(nullif(current_setting('agentstore.user_id', true), ''), 2)"

TABLES = """
SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
        SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'agentstore_user' AND p.polcmd = '*'
    ) AS is_secured,
    row_security_active(c.oid) AS is_filtered
FROM pg_class c
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND c.relname !~ '^(agentstore|alembic)_version'
ORDER BY c.relname
"""
"""The tables of a schema: `name`, `is_secured` by the policy, and whether it `is_filtered` for the current role, by
whatever policy."""

BYPASSES_POLICIES = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
"""Whether the current role is exempt from row-level security."""

REFUSE_FILTERED_VIEWS = "SET LOCAL row_security = off"
"""Let the server refuse the statements of the current transaction whose rows a policy would filter."""

# The functions of the server that report such a statement, and a row that a policy does not allow to write.
_REFUSING_FUNCTIONS = ("check_enable_rls", "ExecWithCheckOptions")


def filtered_view_error(where: str) -> NotConfigured:
    """Return the error for a role that sees the rows of one user at a time, where no user is set."""
    return NotConfigured(
        f"Row-level security hides rows of {where} from this role, so nothing can be said about them: connect as a "
        "role with BYPASSRLS, or, for calls about one user, set AGENTSTORE_ROW_LEVEL_SECURITY=true."
    )


def is_filtered_view_error(error: BaseException) -> bool:
    """Return whether the server refused a statement because of a policy. The message may be in any language."""
    return getattr(error, "server_source_function", None) in _REFUSING_FUNCTIONS


def enable_statements(schema: str, table: str) -> list[str]:
    """Return the SQL that secures a table; each statement locks it briefly (ACCESS EXCLUSIVE)."""
    name, owner = f'"{schema}"."{table}"', _OWNERS.get(table, "user_id")
    condition = "true" if owner is None else f"{owner} = {_USER}"
    return [
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS {_POLICY} ON {name}",
        f"CREATE POLICY {_POLICY} ON {name} USING ({condition}) WITH CHECK ({condition})",
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
