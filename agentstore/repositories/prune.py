"""Deletes what is older than it is to be kept: the statements, then the class that says them.

A page of users at a time: what is too old is found without a lock, then deleted in small transactions that lock it and
look again, so that nothing that was written meanwhile goes, and nobody waits.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Text,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)

from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.models import (
    MemoryBucketRow,
    MemoryRow,
    MessageRow,
    SessionRow,
    StateHeadRow,
    StateRoundRow,
    UserRow,
    WorkspaceRow,
)
from agentstore.repositories.retention import has_expired, is_not_expired
from agentstore.schemas import Pruned

_USERS = 500
# What is found at a time, and deleted of it in one transaction.
_FOUND = 500
_ROWS = 5_000

_TIME = DateTime(timezone=True)
_BEFORE = bindparam("before", type_=_TIME)
_KEEP = bindparam("keep", type_=BigInteger)
_LIMIT = bindparam("limit", type_=BigInteger)
_FIRST, _LAST = bindparam("first_user", type_=Text), bindparam("last_user", type_=Text)
_USER, _SESSION = bindparam("user_id", type_=Text), bindparam("session_id", type_=Text)
_AFTER = tuple_(bindparam("after_user", type_=Text), bindparam("after_session", type_=Text))
_DONE: ColumnElement[int] = literal_column("1")

USERS = Statement(
    select(UserRow.id).where(UserRow.id > bindparam("after", type_=Text)).order_by(UserRow.id).limit(_LIMIT)
)
FIRST_USERS = Statement(select(UserRow.id).order_by(UserRow.id).limit(_LIMIT))

_ROUND_SIZE = func.coalesce(func.pg_column_size(StateRoundRow.packed), func.pg_column_size(StateRoundRow.payload))
_SESSION_HAS_EXPIRED = ~is_not_expired(SessionRow)
_BUCKET_HAS_EXPIRED = has_expired(MemoryBucketRow.updated_at, "setting_memory_ttl")
_HEAD_HAS_EXPIRED = has_expired(StateHeadRow.updated_at, "setting_state_ttl")


def _find(row: Any, id: Any, order: Sequence[Any], rows: Any, expired: Any, *, keep: bool = True) -> Statement:
    """Return what is too old of these users, by its key, with how many rows it has: a page after another.

    The `keep` last written of each user are not too old, unless they have expired; without `keep` none is if any are
    to be kept.
    """
    # What has expired takes no place of what is kept.
    place = func.row_number().over(partition_by=[row.user_id, expired], order_by=[each.desc() for each in order])
    ranked = (
        select(row.user_id, id.label("id"), rows.label("rows"), row.updated_at, place.label("place"))
        .add_columns(expired.label("expired"))
        .where(row.user_id >= _FIRST, row.user_id <= _LAST)
        .subquery("ranked")
    )
    is_last = ranked.c.place <= _KEEP if keep else _KEEP > 0
    return Statement(
        select(ranked.c.user_id, ranked.c.id, ranked.c.rows)
        .where(
            or_(ranked.c.expired, (ranked.c.updated_at < _BEFORE) & ~is_last),
            or_(bindparam("after_user", type_=Text).is_(None), tuple_(ranked.c.user_id, ranked.c.id) > _AFTER),
        )
        .order_by(ranked.c.user_id, ranked.c.id)
        .limit(_LIMIT)
    )


def _delete(row: Any, id: Any, parts: Any, size: Any, expired: Any, *, dry: bool) -> Statement:
    """Delete those of a user's given ones that are still too old and nobody holds, with their parts.

    Return how many of each there were, and the bytes of the parts.
    """
    chosen: Any = (
        select(id.label("id"))
        .where(row.user_id == _USER, id == func.any(bindparam("ids", type_=ARRAY(Text))))
        .where(or_(expired, row.updated_at < _BEFORE))
        .order_by(id)
    )
    if not dry:
        chosen = chosen.with_for_update(of=row, skip_locked=True)
    chosen = chosen.cte("chosen").prefix_with("MATERIALIZED")
    counted = (
        select(func.count().label("parts"), func.coalesce(func.sum(size), 0).label("bytes"))
        .select_from(chosen)
        .join(parts, (parts.user_id == _USER) & (parts.session_id == chosen.c.id))
        .cte("counted")
    )
    answer = select(
        select(func.count()).select_from(chosen).scalar_subquery(), counted.c.parts, counted.c.bytes
    ).select_from(counted)
    if dry:
        return Statement(answer)
    gone = delete(row).where(row.user_id == _USER, id == chosen.c.id).returning(_DONE).cte("gone")
    return Statement(answer.add_cte(gone), repeatable=False)


def _too_old_rounds(boundary: Any) -> list[ColumnElement[bool]]:
    return [StateRoundRow.round < boundary, StateRoundRow.saved_at < _BEFORE]


def _find_rounds() -> Statement:
    """Return the sessions of these users that have rounds too old, and the round before which they are."""
    head, state = StateHeadRow, StateRoundRow
    of_head = (state.user_id == head.user_id) & (state.session_id == head.session_id)
    boundary = (
        select(state.round)
        .where(of_head)
        .order_by(state.round.desc())
        .offset(func.greatest(_KEEP, 1) - 1)
        .limit(_DONE)
        .correlate(head)
        .lateral("boundary")
    )
    old = select(_DONE).where(of_head, *_too_old_rounds(boundary.c.round)).correlate(head, boundary)
    return Statement(
        select(head.user_id, head.session_id, boundary.c.round)
        .join(boundary, true())
        .where(
            *(head.user_id >= _FIRST, head.user_id <= _LAST),
            or_(bindparam("after_user", type_=Text).is_(None), tuple_(head.user_id, head.session_id) > _AFTER),
            old.exists(),
            # Not those that go as a whole.
            ~or_(_HEAD_HAS_EXPIRED, (head.updated_at < _BEFORE) & (_KEEP == 0)),
        )
        .order_by(head.user_id, head.session_id)
        .limit(_LIMIT)
    )


def _chosen_rounds(*, dry: bool) -> CTE:
    state = StateRoundRow
    of_session = (state.user_id == _USER) & (state.session_id == _SESSION)
    last = select(state.round).where(of_session).order_by(state.round.desc())
    boundary = last.offset(func.greatest(_KEEP, 1) - 1).limit(_DONE).scalar_subquery()
    chosen: Any = select(state.round, _ROUND_SIZE.label("size")).where(of_session, *_too_old_rounds(boundary))
    if not dry:
        chosen = chosen.order_by(state.round).limit(_LIMIT)
    cte: CTE = chosen.cte("chosen").prefix_with("MATERIALIZED")
    return cte


def _delete_rounds(*, dry: bool) -> Statement:
    """Delete rounds of a session that are too old, and return how many and their bytes."""
    state, chosen = StateRoundRow, _chosen_rounds(dry=dry)
    answer = select(func.count(), func.coalesce(func.sum(chosen.c.size), 0)).select_from(chosen)
    if dry:
        return Statement(answer)
    gone = (
        delete(state)
        .where(state.user_id == _USER, state.session_id == _SESSION, state.round == chosen.c.round)
        .returning(_DONE)
        .cte("gone")
    )
    return Statement(answer.add_cte(gone), repeatable=False)


_OF_SESSIONS = (SessionRow, SessionRow.id)
_OF_BUCKETS = (MemoryBucketRow, MemoryBucketRow.session_id)
_OF_HEADS = (StateHeadRow, StateHeadRow.session_id)
FIND = {
    "sessions": _find(
        *_OF_SESSIONS, (SessionRow.listed_at, SessionRow.id), SessionRow.next_seq - 1, _SESSION_HAS_EXPIRED
    ),
    "memories": _find(
        *_OF_BUCKETS,
        (MemoryBucketRow.updated_at, MemoryBucketRow.session_id),
        MemoryBucketRow.count,
        _BUCKET_HAS_EXPIRED,
    ),
    "states": _find(
        *_OF_HEADS,
        (StateHeadRow.updated_at, StateHeadRow.session_id),
        StateHeadRow.last_round,
        _HEAD_HAS_EXPIRED,
        keep=False,
    ),
}
_DELETE: dict[str, tuple[Any, ...]] = {
    "sessions": (*_OF_SESSIONS, MessageRow, func.pg_column_size(MessageRow.payload), _SESSION_HAS_EXPIRED),
    "memories": (
        *_OF_BUCKETS,
        MemoryRow,
        func.pg_column_size(MemoryRow.payload) + func.pg_column_size(MemoryRow.lexemes),
        _BUCKET_HAS_EXPIRED,
    ),
    "states": (*_OF_HEADS, StateRoundRow, _ROUND_SIZE, _HEAD_HAS_EXPIRED),
}
# Without an age and without a setting, only sessions with a time to live of their own can have expired: few, and with
# an index of their own.
FIND_OWN = Statement(
    select(SessionRow.user_id, SessionRow.id, (SessionRow.next_seq - 1).label("rows"))
    .where(
        SessionRow.ttl.is_not(None),
        _SESSION_HAS_EXPIRED,
        or_(bindparam("after_user", type_=Text).is_(None), tuple_(SessionRow.user_id, SessionRow.id) > _AFTER),
    )
    .order_by(SessionRow.user_id, SessionRow.id)
    .limit(_LIMIT)
)
DELETE = {name: _delete(*what, dry=False) for name, what in _DELETE.items()}
MEASURE = {name: _delete(*what, dry=True) for name, what in _DELETE.items()}
FIND_ROUNDS = _find_rounds()
# In a transaction, before its rounds are deleted: who changes which is the highest waits, and so nobody has to here.
LOCK_HEAD = Statement(
    select(StateHeadRow.last_round)
    .where(StateHeadRow.user_id == _USER, StateHeadRow.session_id == _SESSION)
    .with_for_update(skip_locked=True),
    repeatable=False,
)
DELETE_ROUNDS = _delete_rounds(dry=False)
# With its session, where the last sessions are kept.
_WORKSPACE_IS_OLD = (WorkspaceRow.saved_at < _BEFORE) & or_(
    _KEEP == 0,
    ~select(_DONE)
    .where(SessionRow.user_id == WorkspaceRow.user_id, SessionRow.id == WorkspaceRow.session_id)
    .correlate(WorkspaceRow)
    .exists(),
)
FIND_WORKSPACES = Statement(
    select(WorkspaceRow.user_id, WorkspaceRow.session_id, WorkspaceRow.type, WorkspaceRow.size)
    .where(
        *(WorkspaceRow.user_id >= _FIRST, WorkspaceRow.user_id <= _LAST, _WORKSPACE_IS_OLD),
        or_(
            bindparam("after_user", type_=Text).is_(None),
            tuple_(WorkspaceRow.user_id, WorkspaceRow.session_id, WorkspaceRow.type)
            > tuple_(*(bindparam(name, type_=Text) for name in ("after_user", "after_session", "after_type"))),
        ),
    )
    .order_by(WorkspaceRow.user_id, WorkspaceRow.session_id, WorkspaceRow.type)
    .limit(_LIMIT)
)
DELETE_WORKSPACE = Statement(
    delete(WorkspaceRow)
    .where(
        WorkspaceRow.user_id == _USER,
        WorkspaceRow.session_id == _SESSION,
        WorkspaceRow.type == bindparam("type", type_=Text),
        WorkspaceRow.saved_at < _BEFORE,
    )
    .returning(WorkspaceRow.size),
    repeatable=False,
)
MEASURE_ROUNDS = _delete_rounds(dry=True)


class Pruning:
    """One run over all users. It may be broken off at any time, and repeated."""

    def __init__(self, database: Database, *, before: datetime | None, keep_last: int, dry_run: bool) -> None:
        """What was last written before `before` is deleted, unless it is among the last so many, and what has expired.

        With `dry_run` it is only counted.
        """
        self.pruned = Pruned()
        self._database = database
        self._before = before
        self._options = {"before": before, "keep": keep_last}
        self._dry = dry_run

    async def run(self, progress: Callable[[int, Pruned], None]) -> Pruned:
        """Delete all of it; `progress` is told after each page how many users were looked at, and what went so far."""
        settings = self._database.settings
        if self._before is None and settings.session_ttl is settings.memory_ttl is settings.state_ttl is None:
            owners: set[str] = set()
            async for rows in self._found(FIND_OWN, {}):
                for batch in _batches(rows):
                    await self._delete("sessions", batch)
                owners.update(row[0] for row in rows)
                progress(len(owners), self.pruned)
            return self.pruned
        seen = 0
        async for users in self._pages():
            of_users = {"first_user": users[0], "last_user": users[-1]}
            for kind in FIND:
                async for rows in self._found(FIND[kind], of_users):
                    for batch in _batches(rows):
                        await self._delete(kind, batch)
            if self._before is not None:
                async for rows in self._found(FIND_ROUNDS, of_users):
                    for user_id, session_id, _ in rows:
                        await self._delete_rounds(user_id, session_id)
                await self._delete_workspaces(of_users)
            seen += len(users)
            progress(seen, self.pruned)
        return self.pruned

    async def _pages(self) -> AsyncIterator[list[str]]:
        rows = await self._database.fetch(FIRST_USERS, limit=_USERS)
        while rows:
            yield [row[0] for row in rows]
            rows = await self._database.fetch(USERS, after=rows[-1][0], limit=_USERS)

    async def _found(self, statement: Statement, of_users: dict[str, str]) -> AsyncIterator[list[Row]]:
        after: tuple[str | None, str | None] = (None, None)
        while True:
            options = self._options if of_users else {}
            rows = await self._database.fetch(
                statement, **of_users, **options, after_user=after[0], after_session=after[1], limit=_FOUND
            )
            if rows:
                yield rows
            if len(rows) < _FOUND:
                return
            after = rows[-1][0], rows[-1][1]

    async def _delete(self, kind: str, rows: list[Row]) -> None:
        # One user's after another, since Citus locks no rows of several; committed once.
        by_user = [
            {"user_id": user_id, "ids": [row[1] for row in of_user], "before": self._before}
            for user_id, of_user in groupby(rows, key=itemgetter(0))
        ]
        async with self._database.transaction() as transaction:
            found = await transaction.fetch_many(MEASURE[kind] if self._dry else DELETE[kind], by_user)
        count, parts, size = (sum(map(int, column)) for column in zip(*found, strict=True))
        if kind == "sessions":
            self.pruned += Pruned(sessions=count, messages=parts, bytes=size)
        elif kind == "memories":
            self.pruned += Pruned(memories=parts, bytes=size)
        else:
            self.pruned += Pruned(state_rounds=parts, bytes=size)

    async def _delete_rounds(self, user_id: str, session_id: str) -> None:
        key = {"user_id": user_id, "session_id": session_id}
        while True:
            if self._dry:
                ((count, size),) = await self._database.fetch(MEASURE_ROUNDS, **key, **self._options)
            else:
                async with self._database.transaction() as transaction:
                    if not await transaction.fetch(LOCK_HEAD, **key):
                        return  # it is being saved to
                    ((count, size),) = await transaction.fetch(DELETE_ROUNDS, **key, **self._options, limit=_ROWS)
            self.pruned += Pruned(state_rounds=count, bytes=int(size))
            if self._dry or count < _ROWS:
                return

    async def _delete_workspaces(self, of_users: dict[str, str]) -> None:
        after: tuple[str | None, ...] = (None, None, None)
        while True:
            place = dict(zip(("after_user", "after_session", "after_type"), after, strict=True))
            rows = await self._database.fetch(FIND_WORKSPACES, **of_users, **self._options, **place, limit=_FOUND)
            for user_id, session_id, type_, size in rows:
                key = {"user_id": user_id, "session_id": session_id, "type": type_}
                if self._dry or await self._database.fetch(DELETE_WORKSPACE, **key, before=self._before):
                    self.pruned += Pruned(workspaces=1, bytes=size)
            if len(rows) < _FOUND:
                return
            after = rows[-1][0], rows[-1][1], rows[-1][2]


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    """Cut what was found so that no transaction deletes very many rows, unless one session has them."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and size + row[2] > _ROWS:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row[2]
    if batch:
        yield batch
