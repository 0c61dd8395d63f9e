"""The states of agents on Postgres: the statements, then the service that executes them."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    ClauseElement,
    ColumnElement,
    LargeBinary,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.statement import Row, Statement
from agentstore.errors import Conflict, InvalidContent, LimitExceeded, NotFound, StatementFailed, Unavailable
from agentstore.exact_json import loads
from agentstore.interfaces import StateService
from agentstore.models import StateHeadRow, StateRoundRow
from agentstore.repositories.retention import has_expired, is_idle
from agentstore.repositories.service import PostgresService, back_off
from agentstore.repositories.users import insert_user_if_missing
from agentstore.schemas import Deleted, Page, StateRound
from agentstore.schemas.memory import bucket
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import check_id, dump_metadata, dump_state
from agentstore.schemas.state import check_round, patch, read_round_cursor, write_round_cursor

_TRIES = 20
# In bytes. Packing a smaller state saves no time, and a plain one is readable in the table.
_PACKED_FROM = 64_000

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_ROUND = bindparam("round_id", type_=BigInteger)
_THIS = (StateHeadRow.user_id == _USER) & (StateHeadRow.session_id == _SESSION)
_ITS_ROUNDS = (StateRoundRow.user_id == _USER) & (StateRoundRow.session_id == _SESSION)
_NEXT_ROUND = {"next_round": StateHeadRow.next_round + 1, "last_round": StateHeadRow.next_round}
# now() is the start of the statement, which may have waited for one that started later.
_SAVED_NOW = {"updated_at": func.greatest(StateHeadRow.updated_at, func.now())}
# json is read as text: codecs that the application sets on the driver do not apply to it.
_STATE = (cast(StateRoundRow.payload, Text), StateRoundRow.packed)
_METADATA = cast(StateRoundRow.metadata_, Text)


def _head(round_: ColumnElement[int], change: Mapping[str, Any], *where: ColumnElement[bool]) -> Any:
    """Insert the head with `round_` as the last round, and the user if missing; or `change` the head, if `where`."""
    head = upsert(StateHeadRow).from_select(
        ["user_id", "session_id", "next_round", "last_round"],
        select(_USER, _SESSION, round_ + 1, round_).select_from(insert_user_if_missing()),
    )
    # excluded.updated_at is the default of the column, now(); Citus does not accept now() itself here.
    saved_now = {"updated_at": func.greatest(StateHeadRow.updated_at, head.excluded.updated_at)}
    return head.on_conflict_do_update(
        index_elements=["user_id", "session_id"],
        set_={**change, **saved_now},
        where=where[0] if where else None,
    )


def _save(head: Any, round_: ColumnElement[int] | None = None, *, overwrites: bool = True) -> ClauseElement:
    """Write the head, then insert the state as its last round, or upsert it as `round_`; return the round.

    No row: the head does not fulfil its condition, or the round exists and is not overwritten.

    The head's row is locked until the commit, so saves into one session are serialized.
    """
    saved = head.returning(StateHeadRow.last_round, StateHeadRow.updated_at).cte("saved")
    values = {
        "user_id": _USER,
        "session_id": _SESSION,
        "round": saved.c.last_round if round_ is None else round_,
        "payload": cast(bindparam("payload", type_=Text), JSON),
        "packed": bindparam("packed", type_=LargeBinary),
        "metadata": cast(bindparam("metadata", type_=Text), JSON),
        "size": bindparam("size", type_=BigInteger),
        "saved_at": saved.c.updated_at,
    }
    written = upsert(StateRoundRow).from_select(list(values), select(*values.values()).select_from(saved))
    if not overwrites:
        written = written.on_conflict_do_nothing(index_elements=["user_id", "session_id", "round"])
    elif round_ is not None:
        columns = ("payload", "packed", "metadata", "size", "saved_at")
        written = written.on_conflict_do_update(
            index_elements=["user_id", "session_id", "round"], set_={name: written.excluded[name] for name in columns}
        )
    return written.returning(StateRoundRow.round)


_FIRST = cast(literal_column("1"), BigInteger)


def _save_next(*where: ColumnElement[bool]) -> ClauseElement:
    """Save the next round, creating the head if missing."""
    return _save(_head(_FIRST, _NEXT_ROUND, *where))


def _save_after() -> ClauseElement:
    """Save the next round if the last one is ``:expected``."""
    head = update(StateHeadRow).where(_THIS, StateHeadRow.last_round == bindparam("expected", type_=BigInteger))
    return _save(head.values(**_NEXT_ROUND, **_SAVED_NOW))


def _save_at(*, overwrites: bool) -> ClauseElement:
    """Save the round ``:round_id``, and raise the counters of the head to it."""
    at_least = {
        "next_round": func.greatest(StateHeadRow.next_round, _ROUND + 1),
        "last_round": func.greatest(StateHeadRow.last_round, _ROUND),
    }
    return _save(_head(_ROUND, at_least), _ROUND, overwrites=overwrites)


SAVE = Statement(_save_next, scope="user", repeatable=False)
SAVE_FIRST = Statement(partial(_save_next, StateHeadRow.last_round == 0), scope="user", repeatable=False)
SAVE_AFTER = Statement(_save_after, scope="user", repeatable=False)
SAVE_AT = Statement(partial(_save_at, overwrites=True), scope="user", repeatable=True)
IMPORT = Statement(partial(_save_at, overwrites=False), scope="user", repeatable=False)
LAST = Statement(select(StateHeadRow.last_round).where(_THIS), scope="user")
EXPORT = Statement(select(*_STATE).where(_ITS_ROUNDS, StateRoundRow.round == _ROUND), scope="user")
EXISTS = Statement(select(StateRoundRow.round).where(_ITS_ROUNDS, StateRoundRow.round == _ROUND), scope="user")
EXPORT_LAST = Statement(select(*_STATE).where(_ITS_ROUNDS).order_by(StateRoundRow.round.desc()).limit(1), scope="user")
LIST = Statement(
    select(StateRoundRow.round, StateRoundRow.size, StateRoundRow.saved_at, _METADATA)
    .where(_ITS_ROUNDS, StateRoundRow.round < bindparam("before", type_=BigInteger))
    .order_by(StateRoundRow.round.desc())
    .limit(bindparam("limit", type_=BigInteger)),
    scope="user",
)
# Executed before every call if states expire, so that no other statement has to check.
EXPIRE = Statement(
    delete(StateHeadRow).where(_THIS, has_expired(StateHeadRow.updated_at, "ttl")).returning(StateHeadRow.session_id),
    scope="user",
    repeatable=True,
)
TOUCH = Statement(
    update(StateHeadRow)
    .where(_THIS, is_idle(StateHeadRow.updated_at), ~has_expired(StateHeadRow.updated_at, "ttl"))
    .values(updated_at=func.now())
    .returning(StateHeadRow.session_id),
    scope="user",
    repeatable=True,
)
# Precedes the deletion in its transaction: a deletion that waited for a save would not see the saved round.
LOCK = Statement(select(StateHeadRow.last_round).where(_THIS).with_for_update(), scope="user", repeatable=False)


def _delete(*which: ColumnElement[bool]) -> Any:
    return delete(StateRoundRow).where(_ITS_ROUNDS, *which).returning(StateRoundRow.round).cte("deleted")


def _delete_one() -> ClauseElement:
    """Delete a round; if it was the last one, the highest below it becomes the last."""
    deleted = _delete(StateRoundRow.round == _ROUND)
    below = (
        select(StateRoundRow.round)
        .where(_ITS_ROUNDS, StateRoundRow.round < _ROUND)
        .order_by(StateRoundRow.round.desc())
        .limit(1)
    )
    last = func.coalesce(below.scalar_subquery(), 0)
    head = (
        update(StateHeadRow)
        .where(_THIS, StateHeadRow.last_round == deleted.c.round)
        .values(last_round=last)
        .returning(StateHeadRow.last_round)
        .cte("head")
    )
    return select(func.count()).select_from(deleted).add_cte(head)


def _delete_all() -> ClauseElement:
    """Delete all rounds of a session, then the head."""
    deleted = _delete()
    count = select(func.count().label("count")).select_from(deleted).cte("counted")
    head = delete(StateHeadRow).where(_THIS, count.c.count >= 0).returning(StateHeadRow.session_id).cte("deleted_head")
    return select(count.c.count).add_cte(head)


DELETE_ONE = Statement(_delete_one, scope="user", repeatable=False)
DELETE_ALL = Statement(_delete_all, scope="user", repeatable=False)


class PostgresStateService(PostgresService, StateService):
    """States stored in Postgres; see :class:`StateService`."""

    async def save_state(  # noqa: D102 - see the interface
        self,
        user_id: str,
        state: Mapping[str, Any],
        session_id: str | None = None,
        round_id: int | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_round: int | None = None,
    ) -> int:
        values = self._key(user_id, session_id)
        statement = SAVE
        if round_id is not None:
            if expected_round is not None:
                raise InvalidContent("pass either round_id or expected_round, not both")
            statement, values["round_id"] = SAVE_AT, check_round(round_id)
        elif expected_round is not None:
            if check_round(expected_round, "expected_round", minimum=0) == 0:
                statement = SAVE_FIRST
            else:
                statement, values["expected"] = SAVE_AFTER, expected_round
        saved = await self._save(statement, values, state, metadata)
        if saved is not None:
            return saved
        last = await self._database.fetch_one(LAST, **self._key(user_id, session_id))
        raise Conflict(
            f"expected_round is {expected_round}, but the highest round of user {user_id!r}, session "
            f"{values['session_id']!r} is {last[0] if last else 0}"
        )

    async def import_state(
        self,
        user_id: str,
        session_id: str | None,
        round_id: int,
        state: Mapping[str, Any],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Save a state of another store under its round number; return False if the round exists, unchanged.

        Raises:
            InvalidContent, LimitExceeded: the state, the metadata or a number is invalid; see :meth:`save_state`.
        """
        values = {**self._key(user_id, session_id), "round_id": check_round(round_id)}
        await self._expire(user_id, values["session_id"])
        if await self._database.fetch_one(EXISTS, **values) is not None:
            return False
        return await self._save(IMPORT, values, state, metadata) is not None

    async def _save(
        self, statement: Statement, values: dict[str, Any], state: Mapping[str, Any], metadata: Mapping[str, Any] | None
    ) -> int | None:
        """Execute one of the statements that save, and return the round; None if it returned no row."""
        text = dump_state(state, self._settings)
        payload = text.encode()
        packed = _pack(payload)
        values |= {
            "payload": text if packed is None else None,
            "packed": packed,
            "size": len(payload),
            "metadata": "{}" if metadata is None else dump_metadata(metadata, self._settings),
        }
        await self._expire(values["user_id"], values["session_id"])
        for attempt in range(_TRIES):
            try:
                rows = await self._database.fetch(statement, **values)
            except StatementFailed as error:
                if error.sqlstate == "22003":
                    raise LimitExceeded("there is no number after round 2**63 - 2: pass a round_id") from error
                if error.sqlstate != "23503":  # the user was deleted meanwhile: retry
                    raise
            else:
                return int(rows[0][0]) if rows else None
            await back_off(attempt)
        raise Unavailable(
            f"user {values['user_id']!r} was deleted during each of {_TRIES} attempts to save a state: retry later"
        )

    async def export_state(  # noqa: D102
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> dict[str, Any] | None:
        values = self._key(user_id, session_id)
        if round_id is not None:
            check_round(round_id)
        await self._expire(**values)
        if round_id is None:
            row = await self._database.fetch_one(EXPORT_LAST, **values)
        else:
            row = await self._database.fetch_one(EXPORT, **values, round_id=round_id)
        return None if row is None else loads(row[0] if row[1] is None else _unpack(row[1]))

    async def list_states(  # noqa: D102
        self, user_id: str, session_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[StateRound]:
        values = self._key(user_id, session_id)
        check_count(limit, "limit", self._settings.max_page)
        before = read_round_cursor(cursor)
        await self._expire(**values)
        rows = await self._database.fetch(LIST, **values, before=before, limit=limit)
        following = write_round_cursor(rows[-1][0]) if rows and len(rows) == limit else None
        return Page(map(_round, rows), following)

    async def delete_state(  # noqa: D102
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> Deleted:
        values = self._key(user_id, session_id)
        statement, which = DELETE_ALL, values
        if round_id is not None:
            statement, which = DELETE_ONE, {**values, "round_id": check_round(round_id)}
        async with self._database.transaction() as transaction:
            if not await transaction.fetch(LOCK, **values):
                return Deleted()
            (row,) = await transaction.fetch(statement, **which)
        return Deleted(state_rounds=row[0])

    async def diff_states(  # noqa: D102
        self, user_id: str, a: int, b: int, session_id: str | None = None
    ) -> list[dict[str, Any]]:
        states = []
        for name, round_id in (("a", check_round(a, "a")), ("b", check_round(b, "b"))):
            state = await self.export_state(user_id, session_id, round_id)
            if state is None:
                raise NotFound(
                    f"session {session_id or 'default'!r} of user {user_id!r} has no round {round_id} (argument {name})"
                )
            states.append(state)
        return await asyncio.to_thread(patch, *states)

    async def touch(self, user_id: str, session_id: str | None = None, *, idle: int = 0) -> None:
        """Restart the time to live of a session's states, as a save does, if there was none for `idle` seconds."""
        values = self._key(user_id, session_id)
        await self._database.fetch(TOUCH, **values, idle=idle, ttl=self._settings.state_ttl)

    async def _expire(self, user_id: str, session_id: str) -> None:
        """Delete the session's states if they have expired."""
        if self._settings.state_ttl is not None:
            await self._database.fetch(EXPIRE, user_id=user_id, session_id=session_id, ttl=self._settings.state_ttl)

    def _key(self, user_id: str, session_id: str | None) -> dict[str, Any]:
        return {
            "user_id": check_id(user_id, "user_id", self._settings),
            "session_id": bucket(session_id, self._settings),
        }


def _pack(payload: bytes) -> bytes | None:
    """Compress a large state with Zstandard; return None for a small one."""
    if len(payload) < _PACKED_FROM:
        return None
    import zstandard

    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(payload)


def _unpack(packed: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompress(packed)


def _round(row: Row) -> StateRound:
    metadata = {} if row[3] == "{}" else loads(row[3])
    return StateRound(round_id=row[0], size=row[1], saved_at=row[2], metadata=metadata)
