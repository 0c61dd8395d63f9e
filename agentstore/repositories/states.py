"""The states of agents on Postgres: the statements, then the class that says them."""

import asyncio
from collections.abc import Mapping
from typing import Any

import zstandard
from sqlalchemy import (
    BigInteger,
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
# In bytes. Below, a state takes no less time packed, and is better read by whoever looks into the table.
_PACKED_FROM = 64_000

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_ROUND = bindparam("round_id", type_=BigInteger)
_THIS = (StateHeadRow.user_id == _USER) & (StateHeadRow.session_id == _SESSION)
_ITS_ROUNDS = (StateRoundRow.user_id == _USER) & (StateRoundRow.session_id == _SESSION)
_THE_NEXT = {"next_round": StateHeadRow.next_round + 1, "last_round": StateHeadRow.next_round}
# now() is when the statement began, which may have waited for a later one.
_SAVED_NOW = {"updated_at": func.greatest(StateHeadRow.updated_at, func.now())}
# json as text: the driver's codecs, which may be the application's own, never see it.
_STATE = (cast(StateRoundRow.payload, Text), StateRoundRow.packed)
_METADATA = cast(StateRoundRow.metadata_, Text)


def _head(round_: ColumnElement[int], change: Mapping[str, Any], *where: ColumnElement[bool]) -> Any:
    """Make the head with `round_` as its last, and the user if it is the first; or `change` it, if `where`."""
    head = upsert(StateHeadRow).from_select(
        ["user_id", "session_id", "next_round", "last_round"],
        select(_USER, _SESSION, round_ + 1, round_).select_from(insert_user_if_missing()),
    )
    # What the row would have been made with is now(), which Citus does not take here.
    saved_now = {"updated_at": func.greatest(StateHeadRow.updated_at, head.excluded.updated_at)}
    return head.on_conflict_do_update(
        index_elements=["user_id", "session_id"],
        set_={**change, **saved_now},
        where=where[0] if where else None,
    )


def _save(
    head: Any, round_: ColumnElement[int] | None = None, *, overwrites: bool = True, repeatable: bool = False
) -> Statement:
    """Write the head, and insert the state as its last round, or write it into `round_`.

    No row: the head is not as it should be, or the round is there and not overwritten.

    The head's row is locked until the commit: saves into one session follow each other.
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
    made = upsert(StateRoundRow).from_select(list(values), select(*values.values()).select_from(saved))
    if not overwrites:
        made = made.on_conflict_do_nothing(index_elements=["user_id", "session_id", "round"])
    elif round_ is not None:
        written = ("payload", "packed", "metadata", "size", "saved_at")
        made = made.on_conflict_do_update(
            index_elements=["user_id", "session_id", "round"], set_={name: made.excluded[name] for name in written}
        )
    return Statement(made.returning(StateRoundRow.round), repeatable=repeatable)


_FIRST = cast(literal_column("1"), BigInteger)
SAVE = _save(_head(_FIRST, _THE_NEXT))
SAVE_FIRST = _save(_head(_FIRST, _THE_NEXT, StateHeadRow.last_round == 0))
SAVE_AFTER = _save(
    update(StateHeadRow)
    .where(_THIS, StateHeadRow.last_round == bindparam("expected", type_=BigInteger))
    .values(**_THE_NEXT, **_SAVED_NOW),
)
_AT_LEAST_THIS = {
    "next_round": func.greatest(StateHeadRow.next_round, _ROUND + 1),
    "last_round": func.greatest(StateHeadRow.last_round, _ROUND),
}
SAVE_AT = _save(_head(_ROUND, _AT_LEAST_THIS), _ROUND, repeatable=True)
IMPORT = _save(_head(_ROUND, _AT_LEAST_THIS), _ROUND, overwrites=False)
LAST = Statement(select(StateHeadRow.last_round).where(_THIS))
EXPORT = Statement(select(*_STATE).where(_ITS_ROUNDS, StateRoundRow.round == _ROUND))
EXISTS = Statement(select(StateRoundRow.round).where(_ITS_ROUNDS, StateRoundRow.round == _ROUND))
EXPORT_LAST = Statement(select(*_STATE).where(_ITS_ROUNDS).order_by(StateRoundRow.round.desc()).limit(1))
LIST = Statement(
    select(StateRoundRow.round, StateRoundRow.size, StateRoundRow.saved_at, _METADATA)
    .where(_ITS_ROUNDS, StateRoundRow.round < bindparam("before", type_=BigInteger))
    .order_by(StateRoundRow.round.desc())
    .limit(bindparam("limit", type_=BigInteger))
)
# Said before every call where states expire, so that no other statement has to ask.
EXPIRE = Statement(
    delete(StateHeadRow).where(_THIS, has_expired(StateHeadRow.updated_at, "ttl")).returning(StateHeadRow.session_id),
    repeatable=True,
)
TOUCH = Statement(
    update(StateHeadRow)
    .where(_THIS, is_idle(StateHeadRow.updated_at), ~has_expired(StateHeadRow.updated_at, "ttl"))
    .values(updated_at=func.now())
    .returning(StateHeadRow.session_id),
    repeatable=True,
)
# In a transaction, before what is deleted: a statement that waited for a save would not see what that has saved.
LOCK = Statement(select(StateHeadRow.last_round).where(_THIS).with_for_update(), repeatable=False)


def _delete(*which: ColumnElement[bool]) -> Any:
    return delete(StateRoundRow).where(_ITS_ROUNDS, *which).returning(StateRoundRow.round).cte("deleted")


def _delete_one() -> Statement:
    """Delete a round; the one before it is the last now, if it was."""
    gone = _delete(StateRoundRow.round == _ROUND)
    below = (
        select(StateRoundRow.round)
        .where(_ITS_ROUNDS, StateRoundRow.round < _ROUND)
        .order_by(StateRoundRow.round.desc())
        .limit(1)
    )
    last = func.coalesce(below.scalar_subquery(), 0)
    head = (
        update(StateHeadRow)
        .where(_THIS, StateHeadRow.last_round == gone.c.round)
        .values(last_round=last)
        .returning(StateHeadRow.last_round)
        .cte("head")
    )
    return Statement(select(func.count()).select_from(gone).add_cte(head), repeatable=False)


def _delete_all() -> Statement:
    """Delete a session's rounds, and then their head."""
    gone = _delete()
    count = select(func.count().label("count")).select_from(gone).cte("counted")
    head = delete(StateHeadRow).where(_THIS, count.c.count >= 0).returning(StateHeadRow.session_id).cte("deleted_head")
    return Statement(select(count.c.count).add_cte(head), repeatable=False)


DELETE_ONE = _delete_one()
DELETE_ALL = _delete_all()


class PostgresStateService(PostgresService, StateService):
    """States that survive the process and its replicas. See :class:`StateService`."""

    async def save_state(  # noqa: D102 - the interface says it
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
                raise InvalidContent("give round_id or expected_round, not both")
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
            f"round {expected_round} is not the highest of user {user_id!r}, session "
            f"{values['session_id']!r}: {last[0] if last else 0} is"
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
        """Store a state that was kept elsewhere under its number; return false if there is such a round already.

        That one stays as it is.

        Raises:
            InvalidContent, LimitExceeded: it cannot be kept.
        """
        values = {**self._key(user_id, session_id), "round_id": check_round(round_id)}
        await self._expire(user_id, values["session_id"])
        if await self._database.fetch_one(EXISTS, **values) is not None:
            return False
        return await self._save(IMPORT, values, state, metadata) is not None

    async def _save(
        self, statement: Statement, values: dict[str, Any], state: Mapping[str, Any], metadata: Mapping[str, Any] | None
    ) -> int | None:
        """Say one of the statements that save, and return the round, if it made one."""
        text = dump_state(state, self._settings)
        payload = text.encode()
        packed = _packed(payload)
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
                    raise LimitExceeded("there is no number after round 2**63 - 2: give a round_id") from error
                if error.sqlstate != "23503":  # the user was deleted in between
                    raise
            else:
                return int(rows[0][0]) if rows else None
            await back_off(attempt)
        raise Unavailable(f"user {values['user_id']!r} is deleted all the time")

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
        return None if row is None else loads(row[0] if row[1] is None else _unpacked(row[1]))

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
                raise NotFound(f"{name}: user {user_id!r}, session {session_id or 'default'!r} has no round {round_id}")
            states.append(state)
        return await asyncio.to_thread(patch, *states)

    async def touch(self, user_id: str, session_id: str | None = None, *, idle: int = 0) -> None:
        """Keep a session's states for their time from now on, as a save does, if none was for `idle` seconds."""
        values = self._key(user_id, session_id)
        await self._database.fetch(TOUCH, **values, idle=idle, ttl=self._settings.state_ttl)

    async def _expire(self, user_id: str, session_id: str) -> None:
        """Delete the session's states if their time has passed."""
        if self._settings.state_ttl is not None:
            await self._database.fetch(EXPIRE, user_id=user_id, session_id=session_id, ttl=self._settings.state_ttl)

    def _key(self, user_id: str, session_id: str | None) -> dict[str, Any]:
        return {
            "user_id": check_id(user_id, "user_id", self._settings),
            "session_id": bucket(session_id, self._settings),
        }


def _packed(payload: bytes) -> bytes | None:
    """Return a large state as it is kept, else None."""
    if len(payload) < _PACKED_FROM:
        return None
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(payload)


def _unpacked(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed)


def _round(row: Row) -> StateRound:
    metadata = {} if row[3] == "{}" else loads(row[3])
    return StateRound(round_id=row[0], size=row[1], saved_at=row[2], metadata=metadata)
