"""Pruning of expired and old rows: the statements, then the class that executes them.

It processes a page of users at a time. Old rows are found without a lock, then deleted in small transactions that lock
them, skipping rows that are locked, and check their age again: concurrent writes are never deleted and never blocked.
Memories and states are deleted in the transaction that deletes their session.
"""

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from math import inf
from operator import itemgetter
from time import monotonic
from typing import Any

from sqlalchemy import BigInteger, Text, bindparam, delete, select

from agentstore.database.database import Database
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.database.transaction import Transaction
from agentstore.models import CheckpointHeadRow, StateHeadRow, UserRow, WorkspaceRow
from agentstore.repositories import steps
from agentstore.repositories.blobs import PRUNE as PRUNE_BLOBS
from agentstore.repositories.blobs import delete_in
from agentstore.repositories.memory import documents
from agentstore.repositories.memory.totals import count_memories
from agentstore.repositories.sessions.statements import EXISTS as SESSION_EXISTS
from agentstore.schemas import Pruned
from agentstore.schemas.retention import PruneOptions

# The number of users that one statement finds, and of sessions, buckets of memories or heads of states.
_USER_PAGE = 500
_PAGE = 500
# About how many rows one transaction deletes.
_BATCH_ROWS = 5_000
# Appended to an id, it makes the least id after it: ids are compared by bytes, and contain no NUL.
LEAST = "\x01"

_USER, _SESSION = bindparam("user_id", type_=Text), bindparam("session_id", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_SQL = SqlStatements(__file__)

USERS = Statement(
    select(UserRow.id).where(UserRow.id > bindparam("after", type_=Text)).order_by(UserRow.id).limit(_LIMIT),
    name="prune.users",
    scope="all",
)
FIRST_USERS = Statement(select(UserRow.id).order_by(UserRow.id).limit(_LIMIT), name="prune.first_users", scope="all")
# Sessions last: what goes with them is no longer found as old by itself.
KINDS = ("memories", "states", "sessions")
FIND = {kind: _SQL(f"find_old_{kind}") for kind in KINDS}
DELETE = {kind: _SQL(f"prune_{kind}") for kind in KINDS}
LOCK = {kind: _SQL(f"lock_old_{kind}") for kind in KINDS}
MEASURE = {kind: _SQL(f"measure_{kind}") for kind in KINDS}
LAST = {kind: _SQL(f"last_{kind}") for kind in KINDS}
# The counts of what is deleted with them.
PARTS = {"sessions": "messages", "memories": "memories", "states": "state_rounds"}
# By which columns the rows of FIND and LAST are ranked.
_RANK = {
    "sessions": ("listed_at", "updated_at", "id"),
    "memories": ("updated_at", "id"),
    "states": ("updated_at", "id"),
}
FIND_EXPIRED_SESSIONS = _SQL("find_expired_sessions")
FIND_ROUNDS = _SQL("find_old_rounds")
DELETE_ROUNDS = _SQL("prune_rounds")
MEASURE_ROUNDS = _SQL("measure_rounds")
FIND_WORKSPACES = _SQL("find_old_workspaces")
FIND_BLOBS = _SQL("find_old_blobs")
FIND_CHECKPOINTS = _SQL("find_old_checkpoints")
MEASURE_CHECKPOINTS = _SQL("measure_checkpoints")
# In a transaction, before its rounds are deleted: a save that changes the highest round then waits for this
# transaction. A head that is locked is skipped.
LOCK_HEAD = Statement(
    select(StateHeadRow.last_round)
    .where(StateHeadRow.user_id == _USER, StateHeadRow.session_id == _SESSION)
    .with_for_update(skip_locked=True),
    name="prune.lock_head",
    scope="user",
    repeatable=False,
)
DELETE_WORKSPACE = Statement(
    delete(WorkspaceRow)
    .where(
        WorkspaceRow.user_id == _USER,
        WorkspaceRow.session_id == _SESSION,
        WorkspaceRow.type == bindparam("type", type_=Text),
        WorkspaceRow.saved_at < bindparam("before", type_=WorkspaceRow.saved_at.type),
    )
    .returning(WorkspaceRow.size),
    name="prune.delete_workspace",
    scope="user",
    repeatable=False,
)
DELETE_CHECKPOINTS = Statement(
    delete(CheckpointHeadRow)
    .where(
        CheckpointHeadRow.user_id == _USER,
        CheckpointHeadRow.session_id == _SESSION,
        CheckpointHeadRow.updated_at < bindparam("before", type_=CheckpointHeadRow.updated_at.type),
    )
    .returning(CheckpointHeadRow.session_id),
    name="prune.delete_checkpoints",
    scope="user",
    repeatable=False,
)


# The states that a dry run has counted with their sessions.
_STATES_OF_SESSIONS = "states of sessions"


class _OutOfTime(Exception):
    """The time that a run may take has passed."""


class _Keys:
    """The keys of many rows by kind, in eight bytes each: a user may have millions of sessions.

    Different keys are taken for equal if their hashes are, of 64 bits.
    """

    _SHARDS = 1 << 10

    def __init__(self) -> None:
        self._shards: dict[tuple[str, int], array[int]] = {}
        self._unsorted: set[tuple[str, int]] = set()

    def clear(self) -> None:
        self._shards.clear()
        self._unsorted.clear()

    def update(self, kind: str, keys: Iterable[tuple[str, str]]) -> None:
        for key in keys:
            hashed = hash(key)
            shard = kind, hashed % self._SHARDS
            self._shards.setdefault(shard, array("q")).append(hashed)
            self._unsorted.add(shard)

    def has(self, kind: str, user_id: str, id: str) -> bool:
        hashed = hash((user_id, id))
        shard = kind, hashed % self._SHARDS
        if (hashes := self._shards.get(shard)) is None:
            return False
        if shard in self._unsorted:
            hashes = self._shards[shard] = array("q", sorted(hashes))
            self._unsorted.discard(shard)
        position = bisect_left(hashes, hashed)
        return position < len(hashes) and hashes[position] == hashed


class Pruning:
    """One pruning run over all users, which can be interrupted at any time and run again."""

    def __init__(
        self,
        database: Database,
        options: PruneOptions,
        *,
        dry_run: bool,
        max_time: timedelta | None,
        pause: timedelta,
    ) -> None:
        """Configure a run that deletes what has expired, and what the options name.

        With `dry_run` nothing is deleted, only counted. After `max_time` no further transaction begins; `pause` is the
        time between two transactions.
        """
        self.pruned = Pruned(finished=False)
        self._users = 0
        self._progress: Callable[[int, Pruned], None] = lambda users, pruned: None
        self._deadline = inf if max_time is None else monotonic() + max_time.total_seconds()
        self._pause = pause.total_seconds()
        self._database = database
        self._before = options.before
        self._keep = options.keep
        self._retains_sessions = options.retains_sessions
        self._following = options.following
        self._dry_run = dry_run
        # What a dry run has counted of the current users: the ids by user and kind. The states of a session are counted
        # if they were saved before a time, which is `before` for those that are not in the dict.
        self._counted = _Keys()
        self._cutoffs: dict[tuple[str, str], datetime] = {}

    async def run(self, progress: Callable[[int, Pruned], None]) -> Pruned:
        """Prune, and return how much was deleted.

        `progress` is called after each transaction and each page of users, with the number of users processed and how
        much was deleted so far. If the task is canceled, the transaction in progress is completed and reported first.
        """
        self._progress = progress
        with suppress(_OutOfTime):
            await self._run()
            self.pruned = replace(self.pruned, finished=True)
        return self.pruned

    async def _run(self) -> None:
        await self._delete_expired_documents()
        settings = self._database.settings
        if self._before is None and settings.session_ttl is settings.memory_ttl is settings.state_ttl is None:
            # Nothing else can be old.
            owners: set[str] = set()
            async for rows in self._pages(FIND_EXPIRED_SESSIONS, ("", "")):
                self._counted.clear()
                for batch in batches(rows):
                    await self._delete("sessions", batch)
                owners.update(row[0] for row in rows)
                self._count_users(len(owners))
            return
        seen = 0
        async for users in self._user_pages():
            first, last = users[0], users[-1]
            self._counted.clear()
            self._cutoffs.clear()
            of_users = {"last_user": last, "before": self._before}
            for kind in KINDS:
                retained = await self._find_retained(kind, first, last)
                async for rows in self._pages(FIND[kind], (first, ""), **of_users):
                    for batch in batches([row for row in rows if row["has_expired"] or not retained(row)]):
                        await self._delete(kind, batch)
            if self._before is not None:
                async for rows in self._pages(FIND_ROUNDS, (first, ""), **of_users, keep=self._keep["states"]):
                    for user_id, session_id, saved_at in rows:
                        if not self._has_counted_states(user_id, session_id, saved_at):
                            await self._delete_rounds(user_id, session_id)
                async for rows in self._pages(FIND_WORKSPACES, (first, "", ""), **of_users):
                    await self._delete_workspaces(rows)
                async for rows in self._pages(FIND_BLOBS, (first, ""), **of_users):
                    await self._delete_blobs(rows)
                async for rows in self._pages(FIND_CHECKPOINTS, (first, ""), **of_users):
                    await self._delete_checkpoints(rows)
            seen += len(users)
            self._count_users(seen)

    async def _delete_expired_documents(self) -> None:
        if self._dry_run:
            ((count, size),) = await self._database.fetch(documents.COUNT_EXPIRED)
            self.pruned += Pruned(memories=count, bytes=int(size))
            return

        async def delete(user_id: str, ids: list[str]) -> Pruned:
            rows = await self._database.fetch(documents.DELETE_EXPIRED, user_id=user_id, ids=ids)
            await count_memories(self._database.fetch, user_id, len(rows))
            return Pruned(memories=len(rows), bytes=sum(row["bytes"] for row in rows))

        deleted = True
        while deleted:
            deleted = False
            for user_id, ids in await documents.find_expired(self._database):
                deleted = bool((await self._execute(delete(user_id, ids))).memories) or deleted

    async def _user_pages(self) -> AsyncIterator[list[str]]:
        rows = await self._database.fetch(FIRST_USERS, limit=_USER_PAGE)
        while rows:
            if monotonic() >= self._deadline:
                raise _OutOfTime
            yield [row[0] for row in rows]
            rows = await self._database.fetch(USERS, after=rows[-1][0], limit=_USER_PAGE)

    async def _pages(self, statement: Statement, first: tuple[str, ...], **values: Any) -> AsyncIterator[list[Row]]:
        """Read the rows of a statement in pages, from the key `first`, with which their columns begin.

        A page begins at the least key after the last of the previous page. With a condition for "the first page, or
        after a key" a generic plan would read the rows of all previous pages again.
        """
        names = ("from_user", "from_session", "from_type")[: len(first)]
        key = first
        while True:
            rows = await self._database.fetch(statement, **values, **dict(zip(names, key, strict=True)), limit=_PAGE)
            if rows:
                yield rows
            if len(rows) < _PAGE:
                return
            key = (*rows[-1][: len(first) - 1], rows[-1][len(first) - 1] + LEAST)

    async def _find_retained(self, kind: str, first: str, last: str) -> Callable[[Row], bool]:
        """Return a function that says whether an old row of FIND is retained, of the users from `first` to `last`."""
        follows = kind in self._following and self._retains_sessions
        keep = self._keep[kind]
        if self._before is None or not keep:
            return lambda row: follows and row["has_session"]
        rows = await self._database.fetch(
            LAST[kind], first_user=first, last_user=last, keep=keep, without_session=follows
        )
        rank = itemgetter(*_RANK[kind])
        lasts = {row["user_id"]: rank(row) for row in rows}
        return lambda row: (
            (follows and row["has_session"]) or row["user_id"] not in lasts or rank(row) >= lasts[row["user_id"]]
        )

    def _count_users(self, users: int) -> None:
        self._users = users
        self._progress(users, self.pruned)

    async def _execute(self, transaction: Coroutine[Any, Any, Pruned]) -> Pruned:
        """Execute a transaction that deletes, add what it deleted to the totals, and pause."""
        if monotonic() >= self._deadline:
            transaction.close()
            raise _OutOfTime
        # A task of its own, which is not canceled: its outcome would be unknown.
        task = asyncio.ensure_future(transaction)
        try:
            await asyncio.wait([task])
        finally:
            if not task.done():
                await asyncio.wait([task])
            if task.exception() is None:
                self.pruned += task.result()
                self._progress(self._users, self.pruned)
        if self._pause and not self._dry_run:
            await asyncio.sleep(min(self._pause, self._deadline - monotonic()))
        return task.result()

    async def _delete(self, kind: str, rows: list[Row]) -> None:
        is_large = rows[0][2] > _BATCH_ROWS and not self._dry_run
        # One statement for each user, since Citus refuses to lock rows of several, in one transaction.
        by_user = [
            {
                "user_id": user_id,
                "ids": [row[1] for row in of_user],
                "before": self._before,
                "with_counts": not is_large,
            }
            for user_id, of_user in groupby(rows, key=itemgetter(0))
        ]

        async def delete() -> Pruned:
            async with self._database.transaction() as transaction:
                pruned = Pruned()
                if is_large:
                    if not await transaction.fetch(LOCK[kind], **by_user[0]):
                        return pruned
                    pruned = await delete_in_steps(transaction, kind, rows[0])
                if kind == "sessions":
                    return pruned + await self._delete_sessions(transaction, by_user, is_large=is_large)
                return pruned + await self._delete_parts(transaction, kind, by_user)

        await self._execute(delete())
        if self._dry_run and kind != "sessions":
            self._counted.update(kind, ((row[0], row[1]) for row in rows))

    async def _delete_parts(self, transaction: Transaction, kind: str, by_user: list[dict[str, Any]]) -> Pruned:
        """Delete buckets with their memories, or heads with the rounds of states."""
        found = await transaction.fetch_many(MEASURE[kind] if self._dry_run else DELETE[kind], by_user)
        if kind == "memories" and not self._dry_run:
            for of_user, row in zip(by_user, found, strict=True):
                changes = row["parts"] if of_user["with_counts"] else _BATCH_ROWS
                await count_memories(transaction.fetch, of_user["user_id"], changes)
        _, parts, size = (sum(map(int, column)) for column in zip(*found, strict=True))
        return Pruned(memories=parts, bytes=size) if kind == "memories" else Pruned(state_rounds=parts, bytes=size)

    async def _delete_sessions(
        self, transaction: Transaction, by_user: list[dict[str, Any]], *, is_large: bool
    ) -> Pruned:
        """Delete sessions with their messages, and the memories and states that go with them.

        With `is_large` it is one session, whose messages are deleted already; it may have as many of the others.
        """
        rows = await transaction.fetch_many(MEASURE["sessions"] if self._dry_run else DELETE["sessions"], by_user)
        pruned = Pruned(sessions=len(rows), messages=sum(row["parts"] for row in rows))
        pruned += Pruned(bytes=sum(int(row["bytes"]) for row in rows))
        for kind in self._following:
            ids: dict[tuple[str, datetime], list[str]] = {}
            for row in rows:
                cutoff = self._cutoff(kind, row)
                if cutoff is not None and not self._counted.has(kind, row["user_id"], row["id"]):
                    ids.setdefault((row["user_id"], cutoff), []).append(row["id"])
                    if self._dry_run and kind == "states" and self._before is not None:
                        self._counted.update(_STATES_OF_SESSIONS, [(row["user_id"], row["id"])])
                        if cutoff != self._before:
                            self._cutoffs[row["user_id"], row["id"]] = cutoff
            parts = [
                {"user_id": user, "ids": of_user, "before": before, "with_counts": not is_large}
                for (user, before), of_user in ids.items()
            ]
            if parts and is_large:
                if not await transaction.fetch(LOCK[kind], **parts[0]):
                    continue
                pruned += await delete_in_steps(transaction, kind, rows[0])
            if parts:
                pruned += await self._delete_parts(transaction, kind, parts)
        if self._dry_run:
            self._counted.update("sessions", ((row["user_id"], row["id"]) for row in rows))
        return pruned

    def _cutoff(self, kind: str, session: Row) -> datetime | None:
        """Return before which time the memories or states were written that go with a session; None if none do.

        They are as old as the session. Memories do not expire with it, nor do states that have a ttl of their own.
        """
        settings = self._database.settings
        ttl = settings.session_ttl if session["ttl"] is None else session["ttl"]
        if kind == "memories" or settings.state_ttl is not None or ttl is None or not session["has_expired"]:
            return self._before
        expired_at: datetime = session["updated_at"] + timedelta(seconds=ttl)
        return expired_at if self._before is None else max(self._before, expired_at)

    def _has_counted_states(self, user_id: str, session_id: str, saved_at: datetime) -> bool:
        """Return whether a dry run has counted the states of a session that were last saved at this time."""
        if self._counted.has("states", user_id, session_id):
            return True
        if self._before is None or not self._counted.has(_STATES_OF_SESSIONS, user_id, session_id):
            return False
        return saved_at < self._cutoffs.get((user_id, session_id), self._before)

    async def _delete_rounds(self, user_id: str, session_id: str) -> None:
        key = {"user_id": user_id, "session_id": session_id, "before": self._before, "keep": self._keep["states"]}

        async def delete() -> Pruned:
            if self._dry_run:
                ((count, size),) = await self._database.fetch(MEASURE_ROUNDS, **key)
                return Pruned(state_rounds=count, bytes=int(size))
            async with self._database.transaction() as transaction:
                if not await transaction.fetch(LOCK_HEAD, **key):
                    return Pruned()  # a save has locked it
                ((count, size),) = await transaction.fetch(DELETE_ROUNDS, **key, limit=_BATCH_ROWS)
            return Pruned(state_rounds=count, bytes=int(size))

        while (await self._execute(delete())).state_rounds >= _BATCH_ROWS and not self._dry_run:
            pass

    async def _delete_workspaces(self, rows: list[Row]) -> None:
        for user_id, session_id, type_, size, has_session in rows:
            if self._retains_sessions and has_session and not self._counted.has("sessions", user_id, session_id):
                continue
            key = {"user_id": user_id, "session_id": session_id, "type": type_}
            await self._execute(self._delete_workspace(key, size))

    async def _delete_blobs(self, rows: list[Row]) -> None:
        for user_id, session_id, versions, size in rows:
            key = {"user_id": user_id, "session_id": session_id}
            if not await self._is_retained(**key):
                await self._execute(self._delete_blobs_of(key, versions, size))

    async def _is_retained(self, user_id: str, session_id: str) -> bool:
        """Return whether the session of blobs or checkpoints is retained, and they with it."""
        if not self._retains_sessions or self._counted.has("sessions", user_id, session_id):
            return False
        return bool(await self._database.fetch(SESSION_EXISTS, user_id=user_id, session_id=session_id))

    async def _delete_checkpoints(self, rows: list[Row]) -> None:
        for user_id, session_id in rows:
            if not await self._is_retained(user_id, session_id):
                await self._execute(self._delete_checkpoints_of({"user_id": user_id, "session_id": session_id}))

    async def _delete_checkpoints_of(self, key: dict[str, str]) -> Pruned:
        async with self._database.transaction() as transaction:
            ((count, size),) = await transaction.fetch(MEASURE_CHECKPOINTS, **key)
            if not self._dry_run and not await transaction.fetch(DELETE_CHECKPOINTS, **key, before=self._before):
                return Pruned()  # written to meanwhile
        return Pruned(checkpoints=count, bytes=size)

    async def _delete_blobs_of(self, key: dict[str, str], versions: int, size: int) -> Pruned:
        if self._dry_run:
            return Pruned(blobs=versions, bytes=size)
        async with self._database.transaction() as transaction:
            deleted = await delete_in(transaction, PRUNE_BLOBS, {**key, "before": self._before})
        return Pruned(blobs=len(deleted), bytes=sum(row[1] for row in deleted))

    async def _delete_workspace(self, key: dict[str, str], size: int) -> Pruned:
        if self._dry_run or await self._database.fetch(DELETE_WORKSPACE, **key, before=self._before):
            return Pruned(workspaces=1, bytes=size)
        return Pruned()


async def delete_in_steps(transaction: Transaction, kind: str, row: Row) -> Pruned:
    """Delete the messages of a locked session, the memories of a bucket or the rounds of a head."""
    count, size = await steps.delete_parts(transaction.fetch, kind, row["user_id"], row["id"])
    counts: dict[str, Any] = {PARTS[kind]: count}
    return Pruned(bytes=size, **counts)


def batches(rows: list[Row]) -> Iterator[list[Row]]:
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
