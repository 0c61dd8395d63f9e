"""Users on Postgres: the statements, then the service that executes them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ClauseElement,
    ColumnElement,
    FromClause,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.statement import Row, Statement
from agentstore.exact_json import loads
from agentstore.models import MemoryBucketRow, SessionRow, StateHeadRow, StateRoundRow, UserRow, WorkspaceRow
from agentstore.repositories.service import PostgresService
from agentstore.schemas import Deleted, Page, User
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, dump_metadata

_USER = bindparam("user_id", type_=Text)
_COLUMNS = (UserRow.id, cast(UserRow.metadata_, Text).label("metadata"), UserRow.created_at)

GET = Statement(select(*_COLUMNS).where(UserRow.id == _USER), scope="user")
# The first page has its own statement: "" is a valid id, so there is no value that sorts before all ids.
LIST = Statement(
    select(*_COLUMNS)
    .where(UserRow.id > bindparam("after", type_=Text))
    .order_by(UserRow.id)
    .limit(bindparam("limit", type_=BigInteger)),
    scope="all",
)
LIST_FIRST = Statement(select(*_COLUMNS).order_by(UserRow.id).limit(bindparam("limit", type_=BigInteger)), scope="all")
SET_METADATA = Statement(
    upsert(UserRow)
    .values(id=_USER, metadata_=cast(bindparam("metadata", type_=Text), JSON))
    .on_conflict_do_update(index_elements=["id"], set_={"metadata": literal_column("excluded.metadata")})
    .returning(*_COLUMNS),
    scope="user",
    repeatable=True,
)


def insert_user_if_missing(*where: ColumnElement[bool]) -> FromClause:
    """Insert the user ``:user_id`` if missing, and if `where` holds; return a subquery of one row to insert from.

    The row depends on the insertion, so that the user exists before the rows whose foreign keys refer to it.
    """
    is_new = ~select(UserRow.id).where(UserRow.id == _USER).exists()
    inserted = (
        upsert(UserRow)
        .from_select(["id"], select(_USER).where(*where, is_new))
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(UserRow.id)
        .cte("inserted_user")
    )
    return select(func.count().label("count")).select_from(inserted).subquery("first")


def _delete() -> ClauseElement:
    """Delete the user and all of the user's data, and return the number of rows by kind.

    The user is locked first, so that a concurrent deletion waits before it holds any other lock; then the sessions in
    the order of their ids, as in every statement that locks several. Rows that are inserted meanwhile are deleted by
    the foreign keys, uncounted, or their insertion fails because the user is missing.
    """
    owner = select(UserRow.id).where(UserRow.id == _USER).with_for_update().cte("owner").prefix_with("MATERIALIZED")
    owned = select(func.count()).select_from(owner).scalar_subquery()
    sessions = _deleted(SessionRow, SessionRow.id, owned, (SessionRow.next_seq - 1).label("messages"))
    buckets = _deleted(MemoryBucketRow, MemoryBucketRow.session_id, owned, MemoryBucketRow.count)
    heads = _deleted(StateHeadRow, StateHeadRow.session_id, owned, StateHeadRow.session_id)
    # Rounds saved after the snapshot of this statement are deleted by the foreign key.
    rounds = (
        delete(StateRoundRow)
        .where(StateRoundRow.user_id == _USER, StateRoundRow.session_id == heads.c.session_id)
        .returning(StateRoundRow.round)
        .cte("deleted_rounds")
    )
    # Workspaces and sandboxes are deleted by the foreign key: the holder of a sandbox notices when it renews its lease.
    workspaces = select(func.count()).select_from(WorkspaceRow).where(WorkspaceRow.user_id == _USER)
    counted = (
        select(
            func.count().label("sessions"),
            func.coalesce(func.sum(sessions.c.messages), 0).label("messages"),
            select(func.coalesce(func.sum(buckets.c.count), 0)).scalar_subquery().label("memories"),
            select(func.count()).select_from(rounds).scalar_subquery().label("state_rounds"),
            workspaces.scalar_subquery().label("workspaces"),
        )
        .select_from(sessions)
        .cte("counted")
    )
    # Depends on the count, so that the sessions are deleted first.
    users = (
        delete(UserRow).where(UserRow.id == _USER, counted.c.sessions >= 0).returning(UserRow.id).cte("deleted_users")
    )
    counts = (counted.c.sessions, cast(counted.c.messages, BigInteger), cast(counted.c.memories, BigInteger))
    return select(*counts, counted.c.state_rounds, counted.c.workspaces).add_cte(users)


def _deleted(row: Any, id: Any, owned: Any, *counts: Any) -> CTE:
    """Delete a user's rows, locked in the order of their ids; `owned` counts the user, which is locked before them."""
    locked = (
        select(id)
        .where(row.user_id == _USER, owned >= 0)
        .order_by(id)
        .with_for_update(of=row)
        .cte(f"locked_{row.__tablename__}")
        .prefix_with("MATERIALIZED")
    )
    return (
        delete(row)
        .where(row.user_id == _USER, id == locked.c[id.key])
        .returning(*counts)
        .cte(f"deleted_{row.__tablename__}")
    )


DELETE = Statement(_delete, scope="user", repeatable=False)


class PostgresUserService(PostgresService):
    """Users: created when first needed, and deleted with all their data."""

    async def get_user(self, user_id: str) -> User | None:
        """Return a user, or None. A user exists once data of the user was stored."""
        check_id(user_id, "user_id", self._settings)
        row = await self._database.fetch_one(GET, user_id=user_id)
        return None if row is None else _user(row)

    async def list_users(self, *, limit: int = 100, cursor: str | None = None) -> Page[User]:
        """Return a page of users, ordered by id.

        Args:
            limit: the size of the page.
            cursor: ``next_cursor`` of the previous page.

        Raises:
            InvalidContent: `limit` or `cursor` is invalid.
            LimitExceeded: `limit` is over 10,000.
        """
        check_count(limit, "limit", self._settings.max_page)
        if cursor is None:
            rows = await self._database.fetch(LIST_FIRST, limit=limit)
        else:
            (after,) = read_cursor(cursor, str)
            rows = await self._database.fetch(LIST, after=after, limit=limit)
        return Page(map(_user, rows), write_cursor(rows[-1][0]) if rows and len(rows) == limit else None)

    async def set_metadata(self, user_id: str, metadata: Mapping[str, Any]) -> User:
        """Replace the metadata of a user, any JSON object, and return the user, created if missing.

        Raises:
            InvalidContent, LimitExceeded: the metadata cannot be represented as JSON, or is too large.
        """
        check_id(user_id, "user_id", self._settings)
        rows = await self._database.fetch(
            SET_METADATA, user_id=user_id, metadata=dump_metadata(metadata, self._settings)
        )
        return _user(rows[0])

    async def delete_user(self, user_id: str) -> Deleted:
        """Delete a user and all of the user's data; return the number of rows by kind, without the user. Idempotent.

        Safe during concurrent writes for the user: they are deleted too, or create the user again afterwards. No row
        is left without its owner.
        """
        check_id(user_id, "user_id", self._settings)
        (row,) = await self._database.fetch(DELETE, user_id=user_id)
        return Deleted(sessions=row[0], messages=row[1], memories=row[2], state_rounds=row[3], workspaces=row[4])


def _user(row: Row) -> User:
    return User(id=row[0], metadata={} if row[1] == "{}" else loads(row[1]), created_at=row[2])
