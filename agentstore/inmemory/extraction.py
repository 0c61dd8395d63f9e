"""The extraction queue of the memory service without a database, and the worker that processes it."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentstore.errors import Conflict, ExtractionFailed, InvalidContent, LimitExceeded
from agentstore.interfaces import Extractor
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
from agentstore.search.view import call_extractor, count_for_one_call, with_timestamp
from agentstore.settings import Settings

if TYPE_CHECKING:
    from agentstore.inmemory.memory import InMemoryMemoryService

_Key = tuple[str, str]
# The errors of one job, after which the worker continues with the next.
_FAILURES = (ExtractionFailed, InvalidContent, LimitExceeded, Conflict)


@dataclass(eq=False)
class Job:
    """A range of a session's memories, whose messages have yet to be extracted; see MemoryExtractionRow."""

    first_seq: int
    last_seq: int
    is_open: bool = True
    attempts: int = 0
    outages: int = 0
    failed_at: datetime | None = None
    error: str | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_claimed: bool = False


class Extraction:
    """The queue. All jobs are due at once, and those that failed at the next call."""

    def __init__(self, memory: "InMemoryMemoryService", settings: Settings) -> None:
        """Create an empty queue of the messages in `memory`."""
        self._memory = memory
        self._settings = settings
        # (User id, session id) -> jobs, in order.
        self.jobs: dict[_Key, list[Job]] = {}

    def enqueue(self, user_id: str, session_id: str, seq: int) -> None:
        """Queue a message that was added as number `seq`: extend the session's open job, or open one."""
        jobs = self.jobs.setdefault((user_id, session_id), [])
        job = next((each for each in jobs if each.is_open), None)
        if job is None:
            jobs.append(Job(seq, seq))
        else:
            job.last_seq = seq

    def delete(self, user_id: str, session_id: str) -> None:
        """Delete the jobs of a session, as its memories are."""
        self.jobs.pop((user_id, session_id), None)

    async def run(self, extractor: Extractor, user_id: str | None, limit: int) -> list[Extracted]:
        """Process the jobs of one user or of all; see :meth:`StoreMemoryService.extract`."""
        results: list[Extracted] = []
        failed: list[Job] = []
        while len(results) < limit and not (results and results[-1].outage):
            found = next((each for each in self._due(user_id) if each[1] not in failed), None)
            if found is None:
                break
            key, job = found
            self._memory._use(key[0])
            if job not in self.jobs.get(key, ()):
                continue  # expired
            job.is_claimed = True
            try:
                results.append(await self._work(extractor, key, job))
            finally:
                job.is_claimed = False
            if results[-1].error is not None:
                failed.append(job)
        return results

    def list_failed(self, user_id: str | None, limit: int, cursor: str | None) -> Page[FailedExtraction]:
        """Return the next failed jobs of one user or of all, by user, session and position."""
        after = None if cursor is None else read_failed_cursor(cursor)
        jobs = sorted(
            (key[0].encode(), key[1].encode(), job.first_seq, key, job)
            for key, job in self._failed(user_id)
            if after is None or (key[0].encode(), key[1].encode(), job.first_seq) > _encoded(after)
        )
        page = [
            FailedExtraction(
                *key, job.first_seq, job.last_seq, job.attempts + job.outages, job.failed_at, job.error or ""
            )
            for *_, key, job in jobs[:limit]
            if job.failed_at is not None
        ]
        return Page(page, write_failed_cursor(page[-1]) if page and len(page) == limit else None)

    def list_pending(
        self, user_id: str | None, leased: bool, limit: int, cursor: str | None
    ) -> Page[PendingExtraction]:
        """Return the next open jobs of one user or of all: by time if they are not leased and of all users."""
        after = None if cursor is None else read_pending_cursor(cursor)

        def place(due_at: datetime, *key: Any) -> tuple[Any, ...]:
            return (due_at, *_encoded(key)) if user_id is None and not leased else _encoded(key)

        found = sorted(
            (place(job.created_at, *key, job.first_seq), key, job)
            for key, job in self._jobs(user_id)
            if job.failed_at is None
            and job.is_claimed == leased
            and (after is None or place(job.created_at, *key, job.first_seq) > place(*after))
        )
        page = [
            PendingExtraction(
                *key, job.first_seq, job.last_seq, job.attempts + job.outages, job.created_at, None, job.error
            )
            for _, key, job in found[:limit]
        ]
        return Page(page, write_pending_cursor(page[-1]) if page and len(page) == limit else None)

    def retry_failed(self, user_id: str | None) -> int:
        """Make the failed jobs of one user or of all due again, and return their number."""
        failed = list(self._failed(user_id))
        for _, job in failed:
            job.failed_at, job.attempts, job.outages = None, 0, 0
        return len(failed)

    def _due(self, user_id: str | None) -> Iterator[tuple[_Key, Job]]:
        for key, jobs in self.jobs.items():
            for job in jobs if user_id in (None, key[0]) else ():
                if job.failed_at is None and not job.is_claimed:
                    yield key, job

    def _failed(self, user_id: str | None) -> Iterator[tuple[_Key, Job]]:
        return ((key, job) for key, job in self._jobs(user_id) if job.failed_at is not None)

    def _jobs(self, user_id: str | None) -> Iterator[tuple[_Key, Job]]:
        expired = {user: self._memory._list_expired(user) for user, _ in self.jobs}
        for key, jobs in self.jobs.items():
            for job in jobs if user_id in (None, key[0]) and key[1] not in expired[key[0]] else ():
                yield key, job

    async def _work(self, extractor: Extractor, key: _Key, job: Job) -> Extracted:
        """Extract from the first messages of a job, and shorten it by them, or count a failure."""
        user_id, session_id = key
        memories = self._memory._users[user_id][session_id]
        numbered = list(enumerate(memories.values(), 1))[job.first_seq - 1 : job.last_seq]
        stored = [(seq, each) for seq, each in numbered if each.item is None][:MAX_MESSAGES]
        messages = [with_timestamp(each.message(), each.time) for _, each in stored]
        count = count_for_one_call(messages)
        messages = messages[:count]
        done = stored[count - 1][0] if count < len(stored) or len(stored) == MAX_MESSAGES else job.last_seq
        try:
            extraction, existing = await call_extractor(
                *(extractor.extract, extractor.kinds, self._memory, user_id, messages),
                self._settings.extraction_timeout,
            )
            items, superseded = prepare_extraction(
                *(extraction, messages, existing, extractor.name, self._settings),
                namespaces={each.namespace for _, each in stored[:count]},
            )
            if job not in self.jobs.get(key, ()):
                return Extracted(user_id, session_id, count, error="the session was deleted")
            if not self._are_unchanged(user_id, existing, {item.id for item in items}.union(superseded)):
                changed = ExtractionFailed("an item that the extractor changes was changed concurrently")
                return self._fail(key, job, done, count, changed, items_changed=True)
            await self._memory.save_items(user_id, items, session_id, supersedes=superseded)
        except _FAILURES as error:
            return self._fail(key, job, done, count, error)
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # A bug in the extractor: raised to the caller, and the job is retried as after any failure.
            self._fail(key, job, done, count, ExtractionFailed(f"{type(error).__name__}: {error}"))
            raise
        if job.last_seq <= done:
            self.jobs[key].remove(job)
        else:
            job.first_seq, job.attempts, job.outages, job.error = done + 1, 0, 0, None
        return Extracted(user_id, session_id, count, tuple(items), tuple(superseded))

    def _are_unchanged(self, user_id: str, existing: Sequence[MemoryItem], touched: set[str]) -> bool:
        current = {each.item.id: each.item for each in self._memory._all(user_id) if each.item is not None}
        return all(current.get(item.id) == item for item in existing if item.id in touched)

    def _fail(
        self, key: _Key, job: Job, done: int, count: int, error: Exception, *, items_changed: bool = False
    ) -> Extracted:
        """Count a failure; after too many, mark the part of the job that was tried as failed."""
        outage = isinstance(error, ExtractionFailed) and error.outage
        job.error = storable_error(str(error))
        job.attempts += not outage and not items_changed
        job.outages += outage
        attempts = job.outages if outage else job.attempts
        has_failed = not items_changed and attempts >= (MAX_ATTEMPTS_IN_OUTAGE if outage else MAX_ATTEMPTS)
        if has_failed:
            if job.last_seq > done:
                self.jobs.setdefault(key, []).append(Job(done + 1, job.last_seq, job.is_open))
            job.last_seq, job.is_open, job.failed_at = done, False, datetime.now(UTC)
        return Extracted(*key, count, error=job.error, failed=has_failed, outage=outage)


def _encoded(key: tuple[Any, ...]) -> tuple[bytes, bytes, int]:
    return key[0].encode(), key[1].encode(), key[2]
