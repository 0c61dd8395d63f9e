"""Facts from conversations on Postgres: a job is claimed, given to an extractor, and its effect written, once.

The statements are in :mod:`agentstore.repositories.memory_queue`. No connection is held while the extractor works.
What was written and the end of the job are one transaction, which does nothing if the job is no longer ours.
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
from agentstore.database.statement import Row
from agentstore.database.transaction import Transaction
from agentstore.errors import (
    AgentStoreError,
    Conflict,
    ExtractionFailed,
    InvalidContent,
    LimitExceeded,
    StatementFailed,
    Unavailable,
    UnknownOutcome,
)
from agentstore.interfaces import Extractor
from agentstore.repositories.memory.items import Fetch, lock_items, save_items
from agentstore.repositories.memory.queue import (
    CLAIM,
    DUE,
    FAIL,
    FAILED_USER,
    FINISH,
    GIVE_BACK,
    HELD,
    LIST_FAILED,
    LIST_FAILED_AFTER,
    MOST_MESSAGES,
    READ,
    RETRY,
    SET_ASIDE,
    SHOWN,
)
from agentstore.repositories.service import back_off
from agentstore.schemas import Extracted, Extraction, FailedExtraction, MemoryItem, Message, Page
from agentstore.schemas.extraction import prepare_extraction
from agentstore.schemas.memory_item import item_of
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, load_messages
from agentstore.search.view import Facts, items_in_view, readable, with_time
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# Tries of a conversation that the extractor cannot make anything of, and of one whose endpoint is not there: those of
# a night.
_MOST_TRIES, _MOST_TRIES_IN_OUTAGE = 5, 20
_FIRST_WAIT, _LONGEST_WAIT = 10.0, 3600.0
# What moved is there to be seen at once; the rest of the time is for whoever moves it.
_MOVED_WAIT = 1.0
_CANDIDATES = 100
# For what comes before and after the extractor, so that the lease does not end in the middle.
_LEASE_GRACE = 60.0
_WRITES = 5
_LONGEST_ERROR = 1_000


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


class _Memory(Facts, Protocol):
    """The service whose memories are extracted from."""

    @abstractmethod
    async def expire(self, user_id: str) -> None:
        """See :meth:`PostgresMemoryService.expire`."""


class _Moved(Exception):
    """What the extractor was shown is not what is there now."""


class _Lost(Exception):
    """The job is another worker's now, or went with its bucket."""


class Extractions:
    """The work on one database's queue, by one extractor."""

    def __init__(self, database: Database, memory: _Memory, extractor: Extractor, language: str) -> None:
        """`memory` is where the items in view are found."""
        self._database = database
        self._settings = database.settings
        self._memory = memory
        self._extractor = extractor
        self._language = language

    async def next(self, user_id: str | None, *, settled: bool) -> Extracted | None:
        """Do the job that has been due for longest, of one user or of all; None: there is none.

        Cancelled, it gives the job back. A worker that is killed leaves it to others, when its lease ends.

        Raises:
            Unavailable, UnknownOutcome: the database is not there; what was begun is done again, if it was not done.
        """
        lease = uuid4().hex
        early = 0.0 if settled else self._settings.extraction_settle
        time = self._settings.extraction_timeout + _LEASE_GRACE
        loop = asyncio.get_running_loop()
        # Not cancelled with this: it may take the job after all, and what gives it back has to come later.
        claiming = loop.create_task(
            self._claim(user_id, early=timedelta(seconds=early), lease=lease, lease_time=timedelta(seconds=time))
        )
        try:
            row = await asyncio.shield(claiming)
            return None if row is None else await self._work(_Job(**dict(row.items()), lease=lease))
        except asyncio.CancelledError:
            # In a task of its own: whoever is in a hurry cancels twice.
            await asyncio.shield(loop.create_task(self._give_back(lease, claiming)))
            raise
        except AgentStoreError:
            await self._give_back(lease)
            raise

    async def _claim(self, user_id: str | None, *, early: timedelta, lease: str, lease_time: timedelta) -> Row | None:
        due = await self._database.fetch(DUE, owner=user_id, early=early, limit=_CANDIDATES)
        for user, session, first_seq in due:
            key = {"user_id": user, "session_id": session, "first_seq": first_seq}
            row = await self._database.fetch_one(CLAIM, **key, early=early, lease=lease, lease_time=lease_time)
            if row is not None:
                return row
        return None

    async def _work(self, job: _Job) -> Extracted:
        await self._memory.expire(job.user_id)
        rows = await self._database.fetch(
            READ,
            user_id=job.user_id,
            session_id=job.session_id,
            first_seq=job.first_seq,
            last_seq=job.last_seq,
            limit=MOST_MESSAGES,
        )
        loaded = load_messages([row[1] for row in rows])
        messages = [with_time(message, row[2]) for message, row in zip(loaded, rows, strict=True)]
        count = readable(messages)
        messages = messages[:count]
        done = rows[count - 1][0] if count < len(rows) or len(rows) == MOST_MESSAGES else job.last_seq
        if job.attempts > _MOST_TRIES_IN_OUTAGE:
            return await self._fail(job, done, count, ExtractionFailed("each worker that tried it came to an end"))
        try:
            extraction, shown = await self._extract(job, messages)
            items, gone = prepare_extraction(extraction, messages, shown, self._extractor.name, self._settings)
            return await self._write(job, done, count, items, gone, shown)
        except (ExtractionFailed, InvalidContent, LimitExceeded, Conflict, StatementFailed) as error:
            return await self._fail(job, done, count, error)
        except _Lost:
            return _nothing(job, count, "another worker took it over, or it was deleted")
        except (AgentStoreError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # A fault in the extractor: it is the caller's to see, and the job waits as after any failure.
            await self._fail(job, done, count, ExtractionFailed(f"{type(error).__name__}: {error}"))
            raise

    async def _extract(self, job: _Job, messages: list[Message]) -> tuple[Extraction, list[MemoryItem]]:
        """Return what the extractor answers, and the items that it was shown."""
        time = self._settings.extraction_timeout
        limit = asyncio.timeout(time)
        try:
            async with limit:
                shown = await items_in_view(self._memory, job.user_id, messages, self._extractor.kinds)
                if not messages:
                    return Extraction(), shown
                # Copies: what was shown is compared with what is there, whatever an extractor does to its own.
                given = [item.model_copy(deep=True) for item in shown]
                return await self._extractor.extract(messages, given), shown
        except TimeoutError as error:
            if not limit.expired():
                raise  # the extractor's own
            raise ExtractionFailed(f"the extractor took longer than {time:g} s", outage=True) from error

    async def _write(
        self,
        job: _Job,
        done: int,
        count: int,
        items: list[MemoryItem],
        gone: list[str],
        shown: Sequence[MemoryItem],
    ) -> Extracted:
        """Write what was extracted and end the job, or neither."""
        touched = {item.id for item in items}.union(gone)
        relied_on = {item.id: item for item in shown if item.id in touched}
        written = Extracted(job.user_id, job.session_id, count, tuple(items), tuple(gone))
        is_unsure = False
        for attempt in range(_WRITES):
            try:
                async with self._database.transaction() as transaction:
                    # First: it locks the bucket, as an addition does before it extends the job.
                    await lock_items(transaction.fetch, job.user_id, job.session_id, list(touched))
                    await self._check_unmoved(transaction, job, relied_on)
                    if items or gone:
                        await save_items(
                            *(transaction.fetch, job.user_id, job.session_id, items, gone),
                            *(self._language, self._settings),
                        )
                    if not await transaction.fetch(FINISH, **job.key(), done_seq=done):
                        raise _Lost
                return written
            except (_Moved, _Lost) as error:
                if is_unsure and await self._is_written(job, items, gone):
                    return written
                if isinstance(error, _Lost):
                    raise
                moved = ExtractionFailed("what it was to change has changed")
                return await self._fail(job, done, count, moved, moved=True)
            except (StatementFailed, Unavailable, UnknownOutcome) as error:
                # Somebody came in between, or the answer was lost: said again, it has no effect if it had one.
                is_unsure = is_unsure or isinstance(error, UnknownOutcome)
                if attempt == _WRITES - 1:
                    raise
            await back_off(attempt)
        raise AssertionError("unreachable")

    async def _is_written(self, job: _Job, items: list[MemoryItem], gone: list[str]) -> bool:
        """Return whether a commit without an answer was one: the job is no longer ours, and its effect is there."""
        if await self._database.fetch(HELD, **job.key()):
            return False
        now = await self._items(self._database.fetch, job, [*(item.id for item in items), *gone])
        return all(now.get(item.id) == item for item in items) and all(
            id in now and now[id].valid_until is not None for id in gone
        )

    async def _items(self, fetch: Fetch, job: _Job, ids: list[str]) -> dict[str, MemoryItem]:
        """Return those of the items that are there, as they are now."""
        if not ids:
            return {}
        rows = await fetch(SHOWN, user_id=job.user_id, ids=ids)
        loaded = load_messages([row[0] for row in rows])
        return {each.id: each for each in (item_of(m, row[1]) for m, row in zip(loaded, rows, strict=True))}

    async def _check_unmoved(self, transaction: Transaction, job: _Job, relied_on: dict[str, MemoryItem]) -> None:
        if await self._items(transaction.fetch, job, list(relied_on)) != relied_on:
            raise _Moved

    async def _fail(
        self, job: _Job, done: int, count: int, error: AgentStoreError, *, moved: bool = False
    ) -> Extracted:
        """Leave the job for another try, or set it aside. What `moved` is no failure, and does not count as a try."""
        outage = isinstance(error, ExtractionFailed) and error.outage
        said = _storable(str(error))
        tries = job.outages + 1 if outage else job.attempts
        if not moved and tries >= (_MOST_TRIES_IN_OUTAGE if outage else _MOST_TRIES):
            rows = await self._database.fetch(SET_ASIDE, **job.key(), done_seq=done, error=said)
            _log.error("facts of session %r of user %r are not extracted: %s", job.session_id, job.user_id, said)
            return _nothing(job, count, said, failed=bool(rows), outage=outage)
        delay = _MOVED_WAIT if moved else min(_FIRST_WAIT * 2 ** (tries - 1), _LONGEST_WAIT)
        delay *= random.uniform(0.5, 1)  # noqa: S311
        if isinstance(error, ExtractionFailed) and error.retry_after is not None:
            delay = max(delay, min(error.retry_after, _LONGEST_WAIT))
        await self._database.fetch(
            FAIL,
            **job.key(),
            error=said,
            delay=timedelta(seconds=delay),
            not_attempts=int(moved or outage),
            outages=int(outage),
        )
        return _nothing(job, count, said, outage=outage)

    async def _give_back(self, lease: str, claiming: "asyncio.Task[Row | None] | None" = None) -> None:
        if claiming is not None:
            await asyncio.wait([claiming])
            if not claiming.cancelled() and claiming.exception() is None and claiming.result() is None:
                return
        try:
            await self._database.fetch(GIVE_BACK, lease=lease)
        except AgentStoreError as error:
            _log.warning("a job could not be given back, and is done again when its lease ends: %s", error)


async def list_failed(
    database: Database, user_id: str | None, limit: int, cursor: str | None
) -> Page[FailedExtraction]:
    """See :meth:`PostgresMemoryService.list_failed_extractions`."""
    settings = database.settings
    check_count(limit, "limit", settings.max_page)
    values = {"owner": _owner(user_id, settings), "limit": limit}
    if cursor is None:
        rows = await database.fetch(LIST_FAILED, **values)
    else:
        user, session, seq = read_cursor(cursor, str, str, str)
        if not str(seq).isdecimal() or len(str(seq)) > 18:
            raise InvalidContent(f"{cursor!r} is no cursor of this list: give a page's next_cursor")
        rows = await database.fetch(
            LIST_FAILED_AFTER, **values, after_user=user, after_session=session, after_seq=int(str(seq))
        )
    end = write_cursor(rows[-1][0], rows[-1][1], str(rows[-1][2])) if rows and len(rows) == limit else None
    return Page((FailedExtraction(*row) for row in rows), end)


async def retry_failed(database: Database, user_id: str | None) -> int:
    """See :meth:`PostgresMemoryService.retry_failed_extractions`."""
    owner = _owner(user_id, database.settings)
    if owner is not None:
        return len(await database.fetch(RETRY, user_id=owner))
    count = 0
    after = ""
    while rows := await database.fetch(FAILED_USER, after_user=after):
        after = rows[0][0]
        count += len(await database.fetch(RETRY, user_id=after))
    return count


def _owner(user_id: str | None, settings: Settings) -> str | None:
    return None if user_id is None else check_id(user_id, "user_id", settings)


def _nothing(job: _Job, count: int, error: str, *, failed: bool = False, outage: bool = False) -> Extracted:
    return Extracted(job.user_id, job.session_id, count, error=error, failed=failed, outage=outage)


def _storable(text: str) -> str:
    """Return a text as Postgres can keep it: what an endpoint answered may hold anything."""
    return text[:_LONGEST_ERROR].replace("\0", "").encode(errors="backslashreplace").decode()
