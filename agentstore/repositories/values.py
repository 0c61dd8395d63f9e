"""Scoped values on Postgres: the statements, then the functions that execute them.

A change locks rows in this order: of the user, of the session, of the application, and the keys of each in the order of
their bytes.
"""

from typing import Any

from sqlalchemy import Text, bindparam, delete

from agentstore.database.database import Database
from agentstore.database.retry import retry
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Fetch, Row, Statement
from agentstore.errors import NotFound, Unavailable, UnknownOutcome, UnreadableRow
from agentstore.exact_json import loads
from agentstore.models import AppValueRow, SessionValueRow, UserValueRow
from agentstore.schemas.page import Advice
from agentstore.schemas.payload import describe_invalid
from agentstore.schemas.values import ScopedValues, StoredValues, ValueChanges, ValueScope

_USER, _SESSION = bindparam("user_id", type_=Text), bindparam("session_id", type_=Text)
_APP = bindparam("app", type_=Text)
SQL = SqlStatements(__file__)

GET = SQL("get_values")
GET_OF_APP = SQL("get_values_of_app")
GET_OF_SESSIONS = SQL("get_values_of_sessions")
GET_OF_USERS = SQL("get_values_of_users")
MERGE = SQL("merge_values")
MERGE_OF_APP = SQL("merge_app_values")
DELETE: dict[ValueScope, Statement] = {
    "app": Statement(
        delete(AppValueRow).where(AppValueRow.app == _APP).returning(AppValueRow.key),
        name="values.delete_app",
        scope="none",
        repeatable=False,
    ),
    "user": Statement(
        delete(UserValueRow).where(UserValueRow.user_id == _USER, UserValueRow.app == _APP).returning(UserValueRow.key),
        name="values.delete_user",
        scope="user",
        repeatable=False,
    ),
    "session": Statement(
        delete(SessionValueRow)
        .where(SessionValueRow.user_id == _USER, SessionValueRow.session_id == _SESSION)
        .returning(SessionValueRow.key),
        name="values.delete_session",
        scope="user",
        repeatable=False,
    ),
}


async def read_values(
    database: Database, user_id: str | None, session_id: str | None, app: str, scope: ValueScope | None
) -> list[Row]:
    """Read values: each scope that has some, and the text of a JSON object with them."""
    if user_id is None:
        return await database.fetch_page(GET_OF_APP, Advice.ONE_SCOPE, app=app)
    values = {"user_id": user_id, "session_id": session_id, "app": app, "scope": scope}
    return await database.fetch_page(GET, Advice.ONE_SCOPE, **values)


def load_values(rows: list[Row], user_id: str | None, session_id: str | None) -> ScopedValues:
    """Parse the values that were read.

    Raises:
        UnreadableRow: one of them is not valid JSON.
    """
    return ScopedValues(**{scope: _load(text, scope, user_id, session_id) for scope, text in rows})


def _load(text: str, scope: ValueScope, user_id: str | None, session_id: str | None) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = loads(text)
    except (ValueError, RecursionError) as error:
        owner = None if scope == "app" else user_id, session_id if scope == "session" else None
        raise UnreadableRow(describe_invalid(error), f"{scope}_values", *owner) from error
    return loaded


async def read_values_of(database: Database, keys: list[tuple[str, str]], app: str) -> list[Row]:
    """Read the values of sessions, given the user and the id of each."""
    users = [user_id for user_id, _ in keys]
    ids = [session_id for _, session_id in keys]
    if len(set(users)) > 1:
        return await database.fetch_page(GET_OF_USERS, Advice.ONE_SCOPE, users=users, sessions=ids, app=app)
    return await database.fetch_page(
        GET_OF_SESSIONS, Advice.ONE_SCOPE, user_id=users[0], session_ids=list(dict.fromkeys(ids)), app=app
    )


def load_values_of(rows: list[Row], keys: list[tuple[str, str]]) -> list[ScopedValues]:
    """Return the values of sessions that were read, in the order of the sessions. They are parsed when accessed."""
    found = {
        (scope, user_id, session_id): _Unparsed(text, scope, user_id, session_id)
        for scope, user_id, session_id, text in rows
    }
    of_app = found.get(("app", None, None))
    return [
        StoredValues.read_by(of_app, found.get(("user", key[0], None)), found.get(("session", *key))) for key in keys
    ]


class _Unparsed:
    """The text of values, which several sessions may share, and which is parsed once."""

    __slots__ = ("_parsed", "_row")

    def __init__(self, *row: Any) -> None:
        self._row = row
        self._parsed: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        if self._parsed is None:
            self._parsed = _load(*self._row)
        return self._parsed


async def merge_in(fetch: Fetch, user_id: str | None, session_id: str | None, changes: ValueChanges) -> bool:
    """Change values by `fetch`; return false, with nothing written, if the session of some does not exist."""
    if not (changes.user.is_empty and changes.session.is_empty):
        rows = await fetch(
            MERGE,
            user_id=user_id,
            session_id=None if changes.session.is_empty else session_id,
            app=changes.app_id,
            user_keys=changes.user.keys,
            user_texts=changes.user.texts,
            user_removed=changes.user.removed,
            session_keys=changes.session.keys,
            session_texts=changes.session.texts,
            session_removed=changes.session.removed,
        )
        if not rows:
            return False
    if not changes.app.is_empty:
        of_app = changes.app
        await fetch(MERGE_OF_APP, app=changes.app_id, keys=of_app.keys, texts=of_app.texts, removed=of_app.removed)
    return True


async def merge(database: Database, user_id: str | None, session_id: str | None, changes: ValueChanges) -> None:
    """Change values, in one transaction.

    Raises:
        NotFound: the session does not exist.
    """
    is_one_statement = changes.app.is_empty or (changes.user.is_empty and changes.session.is_empty)

    async def work(_: int) -> bool:
        if is_one_statement:
            return await merge_in(database.fetch, user_id, session_id, changes)
        async with database.transaction() as transaction:
            return await merge_in(transaction.fetch, user_id, session_id, changes)

    try:
        is_found = await retry(work, f"could not change values of user {user_id!r}")
    except UnknownOutcome as error:
        raise Unavailable(f"{error} Call it again: it sets the same values.") from error
    if not is_found:
        raise NotFound(f"user {user_id!r} has no session {session_id!r}")


async def delete_all(
    database: Database, scope: ValueScope, user_id: str | None, session_id: str | None, app: str
) -> int:
    """Delete all values of a scope, and return their number."""
    values: dict[str, Any] = {"app": app, "user_id": user_id, "session_id": session_id}
    rows: list[Row] = await database.fetch(DELETE[scope], **values)
    return len(rows)
