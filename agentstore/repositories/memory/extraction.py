"""The worker that extracts items from queued messages: it claims a job, calls the extractor, writes the result.

The statements are in :mod:`agentstore.repositories.memory.queue`. No connection is checked out while the extractor
runs. The items are written and the job is finished in one transaction, which is rolled back if the worker no longer
has the lease of the job.
"""

import asyncio
import logging
import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import uuid4

from agentstore.database.database import Database
from agentstore.database.retry import retry
from agentstore.database.statement import Row
from agentstore.database.transaction import Transaction
from agentstore.errors import (
    AgentStoreError,
    Conflict,
    ExtractionFailed,
    InvalidContent,
    LimitExceeded,
    NotConfigured,
    StatementFailed,
    Unavailable,
    UnknownOutcome,
    UnreadableRow,
)
from agentstore.interfaces import Extractor
from agentstore.repositories.memory.items import Fetch, lock_items, save_items
from agentstore.repositories.memory.queue import (
    CHECK_LEASE,
    CLAIM,
    FINISH,
    LIST_DUE,
    LIST_DUE_OF_USER,
    LIST_FAILED,
    LIST_FAILED_AFTER,
    LIST_FAILED_OF_USER,
    LIST_FAILED_OF_USER_AFTER,
    MARK_FAILED,
    NEXT_FAILED_USER,
    PENDING,
    READ_ITEMS,
    READ_MESSAGES,
    RELEASE,
    RELEASE_FOR_RETRY,
    RELEASE_OF_USER,
    RETRY,
)
from agentstore.schemas import Extracted, FailedExtraction, MemoryItem, Page, PendingExtraction
from agentstore.schemas.extraction import (
    MAX_ATTEMPTS,
    MAX_ATTEMPTS_IN_OUTAGE,
    MAX_MESSAGES,
    prepare_extraction,
    read_failed_cursor,
    read_pending_cursor,
    storable_error,
    write_failed_cursor,
    write_pending_cursor,
)
from agentstore.schemas.memory_item import parse_memories
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import check_id, load_messages
from agentstore.search.view import ItemSource, call_extractor, count_for_one_call, with_timestamp
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# Seconds before a retry: after the first attempt, doubled with each further one up to the maximum.
_FIRST_DELAY, _MAX_DELAY = 10.0, 3600.0
# Seconds before a retry after another transaction changed the items.
_CHANGED_DELAY = 1.0
# Due jobs that are listed, of which one is claimed.
_CANDIDATES = 100
# Seconds of the lease beyond the extractor's timeout, for what is done before and after it.
_LEASE_GRACE = 60.0
_WRITE_ATTEMPTS = 5
# The errors of one job, after which the worker continues with the next.
_FAILURES = (ExtractionFailed, InvalidContent, LimitExceeded, Conflict, StatementFailed, UnreadableRow)


@dataclass(frozen=True, slots=True)
class _Job:
    user_id: str
    session_id: str
    first_seq: int
    last_seq: int
    attempts: int
    outages: int
    lease: str

    def key(self) -> dict[str, object]:
        return {
            "user_id": self.user_id,
            "session_id": self.session_id,
            "first_seq": self.first_seq,
            "lease": self.lease,
        }


class _Memory(ItemSource, Protocol):
    """The memory service."""

    @abstractmethod
    async def expire(self, user_id: str) -> None:
        """See :meth:`PostgresMemoryService.expire`."""


class _ItemsChanged(Exception):
    """An item that the extractor changed is no longer the one it was given."""


class _LeaseLost(Exception):
    """Another worker has claimed the job, or the job was deleted with its bucket."""


class ExtractionWorker:
    """Processes the queue of one database with one extractor."""

    def __init__(self, database: Database, memory: _Memory, extractor: Extractor, language: str) -> None:
        """Create a worker. `memory` is the service in which items related to a conversation are searched."""
        self._database = database
        self._settings = database.settings
        self._memory = memory
        self._extractor = extractor
        self._language = language

    async def run(self, user_id: str | None, limit: int, *, settled: bool) -> list[Extracted]:
        """Process up to `limit` jobs, as :meth:`run_next` does each, until none is due or the endpoint is down."""
        results: list[Extracted] = []
        while len(results) < limit and not (results and results[-1].outage):
            extracted = await self.run_next(user_id, settled=settled)
            if extracted is None:
                break
            results.append(extracted)
        return results

    async def run_next(self, user_id: str | None, *, settled: bool) -> Extracted | None:
        """Process the job that has been due for longest, of one user or of all; None if no job is due.

        When canceled, it releases the job. The job of a killed worker is claimed by another one after the lease has
        expired.

        Raises:
            Unavailable, UnknownOutcome: the database is unavailable; the job is retried unless it was committed.
        """
        lease = uuid4().hex
        early = 0.0 if settled else self._settings.extraction_settle
        time = self._settings.extraction_timeout + _LEASE_GRACE
        loop = asyncio.get_running_loop()
        # Shielded from cancellation: a claim that was sent may still succeed, and must be released after that.
        claiming = loop.create_task(
            self._claim(user_id, early=timedelta(seconds=early), lease=lease, lease_time=timedelta(seconds=time))
        )
        try:
            row = await asyncio.shield(claiming)
            return None if row is None else await self._work(_Job(**dict(row.items()), lease=lease))
        except asyncio.CancelledError:
            # In a task of its own, so that a second cancellation does not interrupt it.
            await asyncio.shield(loop.create_task(self._release(user_id, lease, claiming)))
            raise
        except AgentStoreError:
            # A claim that was refused, as that about all users is under row-level security, has claimed nothing.
            if not isinstance(claiming.exception(), NotConfigured):
                await self._release(user_id, lease)
            raise

    async def _claim(self, user_id: str | None, *, early: timedelta, lease: str, lease_time: timedelta) -> Row | None:
        list_due = LIST_DUE if user_id is None else LIST_DUE_OF_USER
        due = await self._database.fetch(list_due, user_id=user_id, early=early, limit=_CANDIDATES)
        for user, session, first_seq in due:
            key = {"user_id": user, "session_id": session, "first_seq": first_seq}
            row = await self._database.fetch_one(CLAIM, **key, early=early, lease=lease, lease_time=lease_time)
            if row is not None:
                return row
        return None

    async def _work(self, job: _Job) -> Extracted:
        await self._memory.expire(job.user_id)
        rows: list[Row] = []
        try:
            rows = await self._database.fetch(
                READ_MESSAGES,
                user_id=job.user_id,
                session_id=job.session_id,
                first_seq=job.first_seq,
                last_seq=job.last_seq,
                limit=MAX_MESSAGES,
            )
            loaded = load_messages(
                [row[1] for row in rows], lambda index: ("memories", job.user_id, job.session_id, rows[index][0])
            )
        except _FAILURES as error:
            return await self._fail(job, _last_of_call(job, rows, len(rows)), len(rows), error)
        messages = [with_timestamp(message, row[2]) for message, row in zip(loaded, rows, strict=True)]
        count = count_for_one_call(messages)
        messages = messages[:count]
        done = _last_of_call(job, rows, count)
        if job.attempts > MAX_ATTEMPTS_IN_OUTAGE:
            died = ExtractionFailed(f"the workers ended before they finished the job ({job.attempts - 1} attempts)")
            return await self._fail(job, done, count, died)
        try:
            extraction, existing = await call_extractor(
                *(self._extractor.extract, self._extractor.kinds, self._memory, job.user_id, messages),
                self._settings.extraction_timeout,
            )
            items, superseded = prepare_extraction(
                *(extraction, messages, existing, self._extractor.name, self._settings),
                namespaces={row["namespace"] for row in rows[:count]},
            )
            return await self._write(job, done, count, items, superseded, existing)
        except _FAILURES as error:
            return await self._fail(job, done, count, error)
        except _LeaseLost:
            return _failure(job, count, "another worker claimed the job, or its session was deleted")
        except (AgentStoreError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # A bug in the extractor: raised to the caller, and the job is retried as after any failure.
            await self._fail(job, done, count, ExtractionFailed(f"{type(error).__name__}: {error}"))
            raise

    async def _write(
        self,
        job: _Job,
        done: int,
        count: int,
        items: list[MemoryItem],
        superseded: list[str],
        existing: Sequence[MemoryItem],
    ) -> Extracted:
        """Write the extracted items and finish the job, in one transaction."""
        touched = {item.id for item in items}.union(superseded)
        expected = {item.id: item for item in existing if item.id in touched}
        written = Extracted(job.user_id, job.session_id, count, tuple(items), tuple(superseded))
        is_unsure = False

        async def write(_: int) -> Extracted:
            nonlocal is_unsure
            try:
                async with self._database.transaction() as transaction:
                    # Locks the bucket first, as an addition does before it extends the job.
                    await lock_items(transaction.fetch, job.user_id, job.session_id, list(touched))
                    await self._check_unchanged(transaction, job, expected)
                    if items or superseded:
                        await save_items(
                            *(transaction.fetch, job.user_id, job.session_id, items, superseded),
                            *(self._language, self._settings),
                        )
                    if not await transaction.fetch(FINISH, **job.key(), done_seq=done):
                        raise _LeaseLost
                return written
            except (_ItemsChanged, _LeaseLost) as error:
                if is_unsure and await self._is_written(job, items, superseded):
                    return written
                if isinstance(error, _LeaseLost):
                    raise
                changed = ExtractionFailed("an item that the extractor changes was changed concurrently")
                return await self._fail(job, done, count, changed, items_changed=True)
            except UnknownOutcome:
                is_unsure = True
                raise

        # Safe to repeat after a lost connection: if the transaction was committed, the lease is gone.
        return await retry(
            write,
            f"could not write what was extracted from session {job.session_id!r} of user {job.user_id!r}",
            attempts=_WRITE_ATTEMPTS,
            repeated=(Unavailable, UnknownOutcome),
            error=ExtractionFailed,
        )

    async def _is_written(self, job: _Job, items: list[MemoryItem], superseded: list[str]) -> bool:
        """Return whether a transaction of unknown outcome was committed: the lease is gone and the items are stored."""
        if await self._database.fetch(CHECK_LEASE, **job.key()):
            return False
        stored = await self._read_items(self._database.fetch, job, [*(item.id for item in items), *superseded])
        return all(stored.get(item.id) == item for item in items) and all(
            id in stored and stored[id].valid_until is not None for id in superseded
        )

    async def _read_items(self, fetch: Fetch, job: _Job, ids: list[str]) -> dict[str, MemoryItem]:
        """Return those of the items that exist, in their current state."""
        if not ids:
            return {}
        rows = await fetch(READ_ITEMS, user_id=job.user_id, ids=ids)
        memories = parse_memories(
            [(row["payload"], row["kind"], row["valid_until"], row["namespace"]) for row in rows],
            lambda index: ("memories", job.user_id, rows[index]["session_id"], rows[index]["id"]),
        )
        return {item.id: item for _, item in memories if item is not None}

    async def _check_unchanged(self, transaction: Transaction, job: _Job, expected: dict[str, MemoryItem]) -> None:
        if await self._read_items(transaction.fetch, job, list(expected)) != expected:
            raise _ItemsChanged

    async def _fail(
        self, job: _Job, done: int, count: int, error: AgentStoreError, *, items_changed: bool = False
    ) -> Extracted:
        """Release the job for a retry, or mark it as failed after too many attempts.

        With `items_changed`, another transaction changed the items: that is no failure, and counts as no attempt.
        """
        outage = isinstance(error, ExtractionFailed) and error.outage
        message = storable_error(str(error))
        attempts = job.outages + 1 if outage else job.attempts
        if not items_changed and attempts >= (MAX_ATTEMPTS_IN_OUTAGE if outage else MAX_ATTEMPTS):
            rows = await self._database.fetch(MARK_FAILED, **job.key(), done_seq=done, error=message)
            _log.error(
                "Extraction from session %r of user %r failed %d times and is not retried: %s",
                *(job.session_id, job.user_id, attempts, message),
            )
            return _failure(job, count, message, failed=bool(rows), outage=outage)
        delay = _CHANGED_DELAY if items_changed else min(_FIRST_DELAY * 2 ** (attempts - 1), _MAX_DELAY)
        delay *= random.uniform(0.5, 1)  # noqa: S311
        if isinstance(error, ExtractionFailed) and error.retry_after is not None:
            delay = max(delay, min(error.retry_after, _MAX_DELAY))
        await self._database.fetch(
            RELEASE_FOR_RETRY,
            **job.key(),
            error=message,
            delay=timedelta(seconds=delay),
            not_attempts=int(items_changed or outage),
            outages=int(outage),
        )
        return _failure(job, count, message, outage=outage)

    async def _release(
        self, user_id: str | None, lease: str, claiming: "asyncio.Task[Row | None] | None" = None
    ) -> None:
        if claiming is not None:
            await asyncio.wait([claiming])
            if not claiming.cancelled() and claiming.exception() is None and claiming.result() is None:
                return
        try:
            await self._database.fetch(RELEASE if user_id is None else RELEASE_OF_USER, user_id=user_id, lease=lease)
        except AgentStoreError as error:
            _log.warning("A job could not be released; another worker claims it when its lease expires: %s", error)


async def list_failed(
    database: Database, user_id: str | None, limit: int, cursor: str | None
) -> Page[FailedExtraction]:
    """See :meth:`PostgresMemoryService.list_failed_extractions`."""
    settings = database.settings
    check_count(limit, "limit", maximum=settings.max_page)
    values: dict[str, object] = {"user_id": _owner(user_id, settings), "limit": limit}
    if cursor is None:
        statement = LIST_FAILED if user_id is None else LIST_FAILED_OF_USER
    else:
        user, session, seq = read_failed_cursor(cursor)
        statement = LIST_FAILED_AFTER if user_id is None else LIST_FAILED_OF_USER_AFTER
        values |= {"after_user": user, "after_session": session, "after_seq": seq}
    page = [FailedExtraction(*row) for row in await database.fetch(statement, **values)]
    return Page(page, write_failed_cursor(page[-1]) if page and len(page) == limit else None)


async def list_pending(
    database: Database, user_id: str | None, leased: bool, limit: int, cursor: str | None
) -> Page[PendingExtraction]:
    """See :meth:`PostgresMemoryService.list_pending_extractions`."""
    settings = database.settings
    check_count(limit, "limit", maximum=settings.max_page)
    values: dict[str, object] = {"user_id": _owner(user_id, settings), "limit": limit}
    if cursor is not None:
        time, user, session, seq = read_pending_cursor(cursor)
        values |= {"after_time": time, "after_user": user, "after_session": session, "after_seq": seq}
    which = ("leased" if leased else "waiting") + "_of_user" * (user_id is not None) + "_after" * (cursor is not None)
    statement = PENDING[which]
    page = [PendingExtraction(*row) for row in await database.fetch(statement, **values)]
    return Page(page, write_pending_cursor(page[-1]) if page and len(page) == limit else None)


async def retry_failed(database: Database, user_id: str | None) -> int:
    """See :meth:`PostgresMemoryService.retry_failed_extractions`."""
    owner = _owner(user_id, database.settings)
    if owner is not None:
        return len(await database.fetch(RETRY, user_id=owner))
    count = 0
    user: str | None = ""  # the first of all ids, and itself the id of a user
    while user is not None:
        count += len(await database.fetch(RETRY, user_id=user))
        following = await database.fetch(NEXT_FAILED_USER, after_user=user)
        user = following[0][0] if following else None
    return count


def _last_of_call(job: _Job, rows: Sequence[Row], count: int) -> int:
    """Return the position up to which a call with the first `count` of these messages processes the job."""
    last: int = rows[count - 1][0] if count < len(rows) or len(rows) == MAX_MESSAGES else job.last_seq
    return last


def _owner(user_id: str | None, settings: Settings) -> str | None:
    return None if user_id is None else check_id(user_id, "user_id", settings)


def _failure(job: _Job, count: int, error: str, *, failed: bool = False, outage: bool = False) -> Extracted:
    return Extracted(job.user_id, job.session_id, count, error=error, failed=failed, outage=outage)
