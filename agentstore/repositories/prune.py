"""Pruning of expired and old rows: the statements, then the class that executes them.

It processes a page of users at a time. Old rows are found without a lock, then deleted in small transactions that lock
them, skipping rows that are locked, and check their age again: concurrent writes are never deleted and never blocked.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ClauseElement,
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

# The number of users that one statement finds, and of sessions, buckets of memories or heads of states.
_USER_PAGE = 500
_PAGE = 500
# About how many rows one transaction deletes.
_BATCH_ROWS = 5_000

_TIME = DateTime(timezone=True)
_BEFORE = bindparam("before", type_=_TIME)
_KEEP = bindparam("keep", type_=BigInteger)
_LIMIT = bindparam("limit", type_=BigInteger)
_FIRST, _LAST = bindparam("first_user", type_=Text), bindparam("last_user", type_=Text)
_USER, _SESSION = bindparam("user_id", type_=Text), bindparam("session_id", type_=Text)
_AFTER = tuple_(bindparam("after_user", type_=Text), bindparam("after_session", type_=Text))
_ONE: ColumnElement[int] = literal_column("1")

USERS = Statement(
    select(UserRow.id).where(UserRow.id > bindparam("after", type_=Text)).order_by(UserRow.id).limit(_LIMIT),
    scope="all",
)
FIRST_USERS = Statement(select(UserRow.id).order_by(UserRow.id).limit(_LIMIT), scope="all")

_IS_FIRST_PAGE = bindparam("after_user", type_=Text).is_(None)
_ROUND_SIZE = func.coalesce(func.pg_column_size(StateRoundRow.packed), func.pg_column_size(StateRoundRow.payload))
_SESSION_HAS_EXPIRED = ~is_not_expired(SessionRow)
_BUCKET_HAS_EXPIRED = has_expired(MemoryBucketRow.updated_at, "setting_memory_ttl")
_HEAD_HAS_EXPIRED = has_expired(StateHeadRow.updated_at, "setting_state_ttl")


def _find(row: Any, id: Any, order: Sequence[Any], rows: Any, expired: Any, *, keep_per_user: bool) -> ClauseElement:
    """Find the old rows of a range of users: a page of their keys, each with the number of its dependent rows.

    A row is old if it has expired, or was written before ``before`` and is not retained: with `keep_per_user` the last
    ``keep`` of each user are retained; without it, all are if ``keep`` is not 0.
    """
    # Expired rows are ranked separately, so that they do not count among the last ones.
    place = func.row_number().over(partition_by=[row.user_id, expired], order_by=[each.desc() for each in order])
    ranked = (
        select(row.user_id, id.label("id"), rows.label("rows"), row.updated_at, place.label("place"))
        .add_columns(expired.label("expired"))
        .where(row.user_id >= _FIRST, row.user_id <= _LAST)
        .subquery("ranked")
    )
    is_retained = ranked.c.place <= _KEEP if keep_per_user else _KEEP > 0
    return (
        select(ranked.c.user_id, ranked.c.id, ranked.c.rows)
        .where(
            or_(ranked.c.expired, (ranked.c.updated_at < _BEFORE) & ~is_retained),
            or_(_IS_FIRST_PAGE, tuple_(ranked.c.user_id, ranked.c.id) > _AFTER),
        )
        .order_by(ranked.c.user_id, ranked.c.id)
        .limit(_LIMIT)
    )


def _delete(row: Any, id: Any, parts: Any, size: Any, expired: Any, *, dry_run: bool) -> ClauseElement:
    """Delete those of the user's rows ``ids`` that are still old and not locked, with their dependent rows `parts`.

    Returns the number of rows, the number of parts, and the bytes of the parts. With `dry_run` it only counts.
    """
    chosen: Any = (
        select(id.label("id"))
        .where(row.user_id == _USER, id == func.any(bindparam("ids", type_=ARRAY(Text))))
        .where(or_(expired, row.updated_at < _BEFORE))
        .order_by(id)
    )
    if not dry_run:
        chosen = chosen.with_for_update(of=row, skip_locked=True)
    chosen = chosen.cte("chosen").prefix_with("MATERIALIZED")
    counted = (
        select(func.count().label("parts"), func.coalesce(func.sum(size), 0).label("bytes"))
        .select_from(chosen)
        .join(parts, (parts.user_id == _USER) & (parts.session_id == chosen.c.id))
        .cte("counted")
    )
    counts = select(
        select(func.count()).select_from(chosen).scalar_subquery(), counted.c.parts, counted.c.bytes
    ).select_from(counted)
    if dry_run:
        return counts
    deleted = delete(row).where(row.user_id == _USER, id == chosen.c.id).returning(_ONE).cte("deleted")
    return counts.add_cte(deleted)


def _is_old_round(boundary: Any) -> list[ColumnElement[bool]]:
    return [StateRoundRow.round < boundary, StateRoundRow.saved_at < _BEFORE]


def _find_rounds() -> ClauseElement:
    """Find the sessions of a range of users that have old rounds: a page of their keys.

    Of each session the last ``keep`` rounds are retained, and at least the highest.
    """
    head, state = StateHeadRow, StateRoundRow
    of_head = (state.user_id == head.user_id) & (state.session_id == head.session_id)
    boundary = (
        select(state.round)
        .where(of_head)
        .order_by(state.round.desc())
        .offset(func.greatest(_KEEP, 1) - 1)
        .limit(_ONE)
        .correlate(head)
        .lateral("boundary")
    )
    old = select(_ONE).where(of_head, *_is_old_round(boundary.c.round)).correlate(head, boundary)
    return (
        select(head.user_id, head.session_id, boundary.c.round)
        .join(boundary, true())
        .where(
            *(head.user_id >= _FIRST, head.user_id <= _LAST),
            or_(_IS_FIRST_PAGE, tuple_(head.user_id, head.session_id) > _AFTER),
            old.exists(),
            # Not the sessions whose states are deleted as a whole.
            ~or_(_HEAD_HAS_EXPIRED, (head.updated_at < _BEFORE) & (_KEEP == 0)),
        )
        .order_by(head.user_id, head.session_id)
        .limit(_LIMIT)
    )


def _chosen_rounds(*, dry_run: bool) -> CTE:
    """Choose the old rounds of a session: all of them, or a batch to delete."""
    state = StateRoundRow
    of_session = (state.user_id == _USER) & (state.session_id == _SESSION)
    last = select(state.round).where(of_session).order_by(state.round.desc())
    boundary = last.offset(func.greatest(_KEEP, 1) - 1).limit(_ONE).scalar_subquery()
    chosen: Any = select(state.round, _ROUND_SIZE.label("size")).where(of_session, *_is_old_round(boundary))
    if not dry_run:
        chosen = chosen.order_by(state.round).limit(_LIMIT)
    cte: CTE = chosen.cte("chosen").prefix_with("MATERIALIZED")
    return cte


def _delete_rounds(*, dry_run: bool) -> ClauseElement:
    """Delete a batch of the old rounds of a session; return how many and their bytes. With `dry_run` count all."""
    state, chosen = StateRoundRow, _chosen_rounds(dry_run=dry_run)
    counts = select(func.count(), func.coalesce(func.sum(chosen.c.size), 0)).select_from(chosen)
    if dry_run:
        return counts
    # An array, whose rounds are looked up in the index. A join without statistics, as after many saves at once, would
    # read all of the chosen rounds for each round.
    rounds = func.array(select(chosen.c.round).scalar_subquery(), type_=ARRAY(BigInteger))
    deleted = (
        delete(state)
        .where(state.user_id == _USER, state.session_id == _SESSION, state.round == func.any(rounds))
        .returning(_ONE)
        .cte("deleted")
    )
    return counts.add_cte(deleted)


def _find_expired_sessions() -> ClauseElement:
    """Find the sessions that have a ttl of their own and have expired: a page of them, across all users.

    They are few, and have an index. Without ``before`` and without a ttl in the settings, nothing else can be old.
    """
    return (
        select(SessionRow.user_id, SessionRow.id, (SessionRow.next_seq - 1).label("rows"))
        .where(
            SessionRow.ttl.is_not(None),
            _SESSION_HAS_EXPIRED,
            or_(_IS_FIRST_PAGE, tuple_(SessionRow.user_id, SessionRow.id) > _AFTER),
        )
        .order_by(SessionRow.user_id, SessionRow.id)
        .limit(_LIMIT)
    )


def _find_workspaces() -> ClauseElement:
    """Find the old stored workspaces of a range of users: a page of their keys and sizes.

    With ``keep``, those of existing sessions are retained.
    """
    row = WorkspaceRow
    has_session = (
        select(_ONE).where(SessionRow.user_id == row.user_id, SessionRow.id == row.session_id).correlate(row).exists()
    )
    key = (row.user_id, row.session_id, row.type)
    return (
        select(*key, row.size)
        .where(
            *(row.user_id >= _FIRST, row.user_id <= _LAST),
            (row.saved_at < _BEFORE) & or_(_KEEP == 0, ~has_session),
            or_(
                _IS_FIRST_PAGE,
                tuple_(*key)
                > tuple_(*(bindparam(name, type_=Text) for name in ("after_user", "after_session", "after_type"))),
            ),
        )
        .order_by(*key)
        .limit(_LIMIT)
    )


# By kind: the arguments of _find, then those of _delete.
_FIND: dict[str, partial[ClauseElement]] = {
    "sessions": partial(
        _find,
        SessionRow,
        SessionRow.id,
        (SessionRow.listed_at, SessionRow.id),
        SessionRow.next_seq - 1,
        _SESSION_HAS_EXPIRED,
        keep_per_user=True,
    ),
    "memories": partial(
        _find,
        MemoryBucketRow,
        MemoryBucketRow.session_id,
        (MemoryBucketRow.updated_at, MemoryBucketRow.session_id),
        MemoryBucketRow.count,
        _BUCKET_HAS_EXPIRED,
        keep_per_user=True,
    ),
    "states": partial(
        _find,
        StateHeadRow,
        StateHeadRow.session_id,
        (StateHeadRow.updated_at, StateHeadRow.session_id),
        StateHeadRow.last_round,
        _HEAD_HAS_EXPIRED,
        keep_per_user=False,
    ),
}
_DELETE: dict[str, partial[ClauseElement]] = {
    "sessions": partial(
        _delete, SessionRow, SessionRow.id, MessageRow, func.pg_column_size(MessageRow.payload), _SESSION_HAS_EXPIRED
    ),
    "memories": partial(
        _delete,
        MemoryBucketRow,
        MemoryBucketRow.session_id,
        MemoryRow,
        func.pg_column_size(MemoryRow.payload) + func.pg_column_size(MemoryRow.lexemes),
        _BUCKET_HAS_EXPIRED,
    ),
    "states": partial(_delete, StateHeadRow, StateHeadRow.session_id, StateRoundRow, _ROUND_SIZE, _HEAD_HAS_EXPIRED),
}

FIND = {kind: Statement(build, scope="all") for kind, build in _FIND.items()}
DELETE = {
    kind: Statement(partial(build, dry_run=False), scope="user", repeatable=False) for kind, build in _DELETE.items()
}
MEASURE = {kind: Statement(partial(build, dry_run=True), scope="user") for kind, build in _DELETE.items()}
FIND_EXPIRED_SESSIONS = Statement(_find_expired_sessions, scope="all")
FIND_ROUNDS = Statement(_find_rounds, scope="all")
# In a transaction, before its rounds are deleted: a save that changes the highest round then waits for this
# transaction. A head that is locked is skipped.
LOCK_HEAD = Statement(
    select(StateHeadRow.last_round)
    .where(StateHeadRow.user_id == _USER, StateHeadRow.session_id == _SESSION)
    .with_for_update(skip_locked=True),
    scope="user",
    repeatable=False,
)
DELETE_ROUNDS = Statement(partial(_delete_rounds, dry_run=False), scope="user", repeatable=False)
MEASURE_ROUNDS = Statement(partial(_delete_rounds, dry_run=True), scope="user")
FIND_WORKSPACES = Statement(_find_workspaces, scope="all")
DELETE_WORKSPACE = Statement(
    delete(WorkspaceRow)
    .where(
        WorkspaceRow.user_id == _USER,
        WorkspaceRow.session_id == _SESSION,
        WorkspaceRow.type == bindparam("type", type_=Text),
        WorkspaceRow.saved_at < _BEFORE,
    )
    .returning(WorkspaceRow.size),
    scope="user",
    repeatable=False,
)


class Pruning:
    """One pruning run over all users, which can be interrupted at any time and run again."""

    def __init__(self, database: Database, *, before: datetime | None, keep_last: int, dry_run: bool) -> None:
        """Configure a run that deletes expired rows and, if `before` is given, rows last written before it.

        The `keep_last` last sessions and buckets of each user, and rounds of each session, are retained unless they
        have expired. With `dry_run` nothing is deleted, only counted.
        """
        self.pruned = Pruned()
        self._database = database
        self._before = before
        self._options = {"before": before, "keep": keep_last}
        self._dry_run = dry_run

    async def run(self, progress: Callable[[int, Pruned], None]) -> Pruned:
        """Prune, and return how much was deleted.

        `progress` is called after each page with the number of users processed, and how much was deleted so far.
        """
        settings = self._database.settings
        if self._before is None and settings.session_ttl is settings.memory_ttl is settings.state_ttl is None:
            owners: set[str] = set()
            async for rows in self._find(FIND_EXPIRED_SESSIONS, {}):
                for batch in _batches(rows):
                    await self._delete("sessions", batch)
                owners.update(row[0] for row in rows)
                progress(len(owners), self.pruned)
            return self.pruned
        seen = 0
        async for users in self._user_pages():
            of_users = {"first_user": users[0], "last_user": users[-1]}
            for kind in FIND:
                async for rows in self._find(FIND[kind], of_users):
                    for batch in _batches(rows):
                        await self._delete(kind, batch)
            if self._before is not None:
                async for rows in self._find(FIND_ROUNDS, of_users):
                    for user_id, session_id, _ in rows:
                        await self._delete_rounds(user_id, session_id)
                await self._delete_workspaces(of_users)
            seen += len(users)
            progress(seen, self.pruned)
        return self.pruned

    async def _user_pages(self) -> AsyncIterator[list[str]]:
        rows = await self._database.fetch(FIRST_USERS, limit=_USER_PAGE)
        while rows:
            yield [row[0] for row in rows]
            rows = await self._database.fetch(USERS, after=rows[-1][0], limit=_USER_PAGE)

    async def _find(self, statement: Statement, of_users: dict[str, str]) -> AsyncIterator[list[Row]]:
        after: tuple[str | None, str | None] = (None, None)
        while True:
            options = self._options if of_users else {}
            rows = await self._database.fetch(
                statement, **of_users, **options, after_user=after[0], after_session=after[1], limit=_PAGE
            )
            if rows:
                yield rows
            if len(rows) < _PAGE:
                return
            after = rows[-1][0], rows[-1][1]

    async def _delete(self, kind: str, rows: list[Row]) -> None:
        # One statement for each user, since Citus refuses to lock rows of several, in one transaction.
        by_user = [
            {"user_id": user_id, "ids": [row[1] for row in of_user], "before": self._before}
            for user_id, of_user in groupby(rows, key=itemgetter(0))
        ]
        async with self._database.transaction() as transaction:
            found = await transaction.fetch_many(MEASURE[kind] if self._dry_run else DELETE[kind], by_user)
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
            if self._dry_run:
                ((count, size),) = await self._database.fetch(MEASURE_ROUNDS, **key, **self._options)
            else:
                async with self._database.transaction() as transaction:
                    if not await transaction.fetch(LOCK_HEAD, **key):
                        return  # a save has locked it
                    ((count, size),) = await transaction.fetch(DELETE_ROUNDS, **key, **self._options, limit=_BATCH_ROWS)
            self.pruned += Pruned(state_rounds=count, bytes=int(size))
            if self._dry_run or count < _BATCH_ROWS:
                return

    async def _delete_workspaces(self, of_users: dict[str, str]) -> None:
        after: tuple[str | None, ...] = (None, None, None)
        while True:
            place = dict(zip(("after_user", "after_session", "after_type"), after, strict=True))
            rows = await self._database.fetch(FIND_WORKSPACES, **of_users, **self._options, **place, limit=_PAGE)
            for user_id, session_id, type_, size in rows:
                key = {"user_id": user_id, "session_id": session_id, "type": type_}
                if self._dry_run or await self._database.fetch(DELETE_WORKSPACE, **key, before=self._before):
                    self.pruned += Pruned(workspaces=1, bytes=size)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0], rows[-1][1], rows[-1][2]


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    """Split what was found into batches of at most `_BATCH_ROWS` rows, except for a session that has more by itself."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and size + row[2] > _BATCH_ROWS:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row[2]
    if batch:
        yield batch
