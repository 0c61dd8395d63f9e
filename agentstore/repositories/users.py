"""Users on Postgres: the statements, then the service that executes them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Text,
    bindparam,
    cast,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore import offload
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.interfaces import UserService
from agentstore.models import UserRow
from agentstore.repositories.erasure import AT_ONCE, delete_in_bounded_transactions
from agentstore.repositories.service import PostgresService
from agentstore.repositories.steps import MAX
from agentstore.schemas import Deleted, Page, User
from agentstore.schemas.blob import end_of_prefix
from agentstore.schemas.page import Advice, check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, dump_metadata, load_object

_USER = bindparam("user_id", type_=Text)
SQL = SqlStatements(__file__)
_COLUMNS = (UserRow.id, cast(UserRow.metadata_, Text).label("metadata"), UserRow.created_at)

GET = Statement(select(*_COLUMNS).where(UserRow.id == _USER), name="users.get", scope="user")
_AFTER = bindparam("after", type_=Text)
# After all ids, which have at most 512 bytes.
_LAST = "\U0010ffff" * 129
LIST = Statement(
    select(*_COLUMNS)
    # "" is a valid id, so there is no value that sorts before all ids.
    .where(
        UserRow.id >= bindparam("first", type_=Text),
        UserRow.id < bindparam("until", type_=Text),
        UserRow.id.is_distinct_from(_AFTER),
    )
    .order_by(UserRow.id)
    .limit(bindparam("limit", type_=BigInteger)),
    name="users.list",
    scope="all",
)
SET_METADATA = Statement(
    upsert(UserRow)
    .values(id=_USER, metadata_=cast(bindparam("metadata", type_=Text), JSON))
    .on_conflict_do_update(index_elements=["id"], set_={"metadata": literal_column("excluded.metadata")})
    .returning(*_COLUMNS),
    name="users.set_metadata",
    scope="user",
    repeatable=True,
)
DELETE = SQL("delete_user")


class PostgresUserService(PostgresService, UserService, area="users"):
    """Users on Postgres. See :class:`agentstore.UserService` for what each method does and raises."""

    async def get_user(  # noqa: D102 - documented in the interface
        self, user_id: str, *, stale_ok: bool = False
    ) -> User | None:
        check_id(user_id, "user_id", self._settings)
        row = await self._database.read(lambda database: database.fetch_one(GET, user_id=user_id), stale_ok=stale_ok)
        return None if row is None else await offload.run(_user, row)

    async def list_users(  # noqa: D102
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[User]:
        check_id(prefix, "prefix", self._settings)
        check_count(limit, "limit", maximum=self._settings.max_page)
        after = None if cursor is None else read_cursor(cursor, str)[0]
        values = {"first": max(prefix, str(after or ""), key=str.encode), "until": end_of_prefix(prefix) or _LAST}
        rows = await self._database.read(
            lambda database: database.fetch_page(LIST, Advice.SMALLER_LIMIT, **values, after=after, limit=limit),
            stale_ok=stale_ok,
        )
        users = await offload.run(lambda: [_user(row) for row in rows])
        return Page(users, write_cursor(rows[-1][0]) if rows and len(rows) == limit else None)

    async def set_metadata(self, user_id: str, metadata: Mapping[str, Any]) -> User:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        text = await offload.run(dump_metadata, metadata, self._settings)
        rows = await self._database.fetch(SET_METADATA, user_id=user_id, metadata=text)
        return await offload.run(_user, rows[0])

    async def delete_user(self, user_id: str) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        before: list[Deleted] = []
        # Sessions that are locked meanwhile remain, and may be large: they are tried again.
        for most in (AT_ONCE, AT_ONCE, AT_ONCE, MAX):
            (row,) = await self._database.fetch(DELETE, user_id=user_id, most=most)
            if not row["is_large"]:
                break
            before.append(await delete_in_bounded_transactions(self._database, user_id))
        names = ("sessions", "messages", "memories", "state_rounds", "workspaces", "values", "blobs", "checkpoints")
        return Deleted(
            **{
                name: count + sum(getattr(each, name) for each in before)
                for name, count in zip(names, row, strict=False)
            }
        )


def _user(row: Row) -> User:
    return User(id=row[0], metadata=load_object(row[1], ("users", row[0], None, None)), created_at=row[2])
