"""Group commit for appends: those that arrive while others are being executed share the next statement.

A commit waits for the disk, and the next append to the same session waits for that commit. Concurrent writers that each
execute a statement of their own therefore queue on the session's lock. Here the appends that wait form a batch, which
is one statement for one or several sessions. Postgres groups commits in the same way one level below, but the lock of a
session's row keeps the appends to that session out of such a group.

On a cluster, a batch is of the sessions on one server. The statement returns the place of each user, which is known
from then on until the user moves.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from copy import copy
from datetime import datetime
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.errors import AgentStoreError, Closed, PoolTimeout, StatementFailed
from agentstore.schemas.message import Place

Key = tuple[str, str]  # user id, session id

# A batch starts while fewer than `_LANES` statements are being executed. With one lane the client and the server would
# wait for each other; with many no append would wait, and none would share a statement. Up to `_FEW` concurrent writers
# are faster without batches: as long as batches are no larger than that, so many appends are executed individually.
_LANES, _FEW = 2, 6
# On a cluster one for each server, since the servers do not wait for each other: two would halve the batches, and a
# statement for half as many sessions takes more than half the time.
_LANES_OF_PLACE = 1
# Seconds after which a statement no longer occupies its lane: it may be waiting for a lock or for the network.
_PATIENCE = 0.05
# The largest append that may join a batch, and the largest batch. A batch takes about as long as its first append would
# have waited, and large appends delay no others.
_SMALL_MESSAGES, _SMALL_CHARACTERS = 32, 64_000
_BATCH_MESSAGES, _BATCH_CHARACTERS = 64, 256_000
_BATCH_SESSIONS = 32
# The maximum number of excluded sessions: those to which stored messages were appended again.
_MAX_EXCLUDED = 1_000
# The maximum number of users whose place is known, some 100 bytes each.
_MAX_PLACES = 50_000


class Stored(NamedTuple):
    """The result of an append: where and when its messages are stored."""

    first_seq: int
    last_seq: int
    created_at: datetime
    """When the last message was stored; without messages, when the session was last written to."""
    message_count: int
    """How many messages the session has after it."""
    places: Sequence[Place]
    """The seq and the timestamp of each message."""
    added: int
    """How many of the messages are new: those that were stored already are not stored again."""
    differing: tuple[str, ...] = ()
    """The ids of messages that were not stored, since another message is stored with the id."""

    @property
    def updated_at(self) -> datetime | None:
        """The timestamp of the append; None if it stored nothing."""
        return self.created_at if self.added else None


def contiguous(created_at: datetime, first_seq: int, count: int, message_count: int) -> Stored:
    """Return the result of an append of `count` new messages, or of none."""
    end = first_seq + count
    places = list(zip(range(first_seq, end), repeat(created_at, count), strict=True))
    return Stored(first_seq, end - 1, created_at, message_count, places, count)


def stored_by(rows: Sequence[Row], count: int) -> Stored:
    """Return the result of the statement APPEND for `count` messages, which its first row describes."""
    created_at, first_seq, message_count = rows[0]
    return contiguous(created_at, first_seq, count, message_count)


class _Waiting:
    """One queued append, and the future of its caller.

    The future's result is None if the caller has to execute the append individually.
    """

    __slots__ = ("caller", "future", "has_moved", "ids", "payloads", "size", "statements")

    def __init__(
        self, future: "asyncio.Future[Stored | None]", ids: list[str], payloads: list[str], caller: Any
    ) -> None:
        self.future = future
        # The span of the caller, and those of the statements that it shares with others; for OpenTelemetry.
        self.caller = caller
        self.statements: Sequence[Any] = ()
        self.ids = ids
        self.payloads = payloads
        self.size = sum(map(len, payloads))
        # Whether a batch was executed in another place than that of the user.
        self.has_moved = False


_Batch = dict[Key, list[_Waiting]]


class Appends:
    """The appends of one service in one event loop: those being executed, and those queued.

    An append is executed individually, by its caller, while a lane is free and no other append to its session is being
    executed. A batch for several sessions never waits for the lock of a session: it skips a session that is locked,
    whose appends are then executed by themselves. A batch therefore takes part in no deadlock, and a locked session
    delays no other.
    """

    def __init__(self, database: Database, append: Statement, append_to_many: Statement) -> None:
        """Create an empty queue. `append` is the statement for one session, `append_to_many` that for several."""
        self.loop = asyncio.get_running_loop()
        self._database = database
        self._append = append
        self._append_to_many = append_to_many
        # Row-level security names one user for each transaction.
        self._max_sessions = 1 if database.settings.row_level_security else _BATCH_SESSIONS
        # By session, in the order of arrival; a session that was part of a batch moves to the end.
        self._waiting: dict[Key, deque[_Waiting]] = {}
        self._busy: set[Key] = set()
        self._lanes: dict[object, tuple[int | None, float]] = {}  # what is being executed: its place, and since when
        # Which server of a cluster stores the rows of a user, as last seen.
        self._places: dict[str, int] = {}
        self._last = 0  # the number of appends in the last batch
        self._excluded: dict[Key, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def accepts(self, key: Key, payloads: Sequence[str]) -> bool:
        """Return whether an append may share a statement.

        A large one would delay the others, one to an excluded session would probably make the statement fail.
        """
        return (
            len(payloads) <= _SMALL_MESSAGES
            and sum(map(len, payloads)) <= _SMALL_CHARACTERS
            and (not self._excluded or key not in self._excluded)
        )

    def begin(self, key: Key) -> bool:
        """Return whether an append may be executed individually now; if so, call :meth:`end` when it is done."""
        lanes = None if self._waiting or self._last > _FEW else _FEW
        place = self._place(key)
        if key in self._busy or key in self._waiting or not self._has_lane(place, lanes):
            return False
        self._busy.add(key)
        self._lanes[key] = place, self.loop.time()
        return True

    def end(self, key: Key) -> None:
        """Release the lane of an append, and start the next batch."""
        del self._lanes[key]
        self._busy.discard(key)
        if self._waiting:
            self._dispatch()

    async def wait(self, key: Key, ids: list[str], payloads: list[str]) -> Stored | None:
        """Append as part of a batch.

        None if nothing was stored for this caller, or the outcome is unknown: execute the append individually.

        Raises:
            PoolTimeout, Closed: as for a statement that is executed individually.
        """
        otel = self._database.observer.otel
        caller = None if otel is None else otel.current_span()
        waiting = _Waiting(self.loop.create_future(), ids, payloads, caller)
        self._waiting.setdefault(key, deque()).append(waiting)
        self._start_timer()
        stored = await waiting.future
        if otel is not None:
            otel.link(waiting.statements)
        return stored

    def exclude(self, key: Key) -> None:
        """Execute the appends to a session individually from now on, since one had messages that are stored already."""
        self._excluded[key] = None
        if len(self._excluded) > _MAX_EXCLUDED:
            del self._excluded[next(iter(self._excluded))]

    def include(self, key: Key) -> None:
        """Let the appends to a session share statements again."""
        if self._excluded:
            self._excluded.pop(key, None)

    def _place(self, key: Key) -> int | None:
        """Return which server of a cluster stores a session; None if that is not known, or there is one server."""
        return self._places.get(key[0]) if self._database.is_distributed else None

    def _has_lane(self, place: int | None, lanes: int | None = None) -> bool:
        """Return whether another statement may be executed in a place."""
        if lanes is None:
            lanes = _LANES_OF_PLACE if self._database.is_distributed else _LANES
        if len(self._lanes) < lanes:
            return True
        patience = self.loop.time() - _PATIENCE
        return sum(since > patience and each == place for each, since in self._lanes.values()) < lanes

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_PATIENCE, self._dispatch_periodically)

    def _dispatch_periodically(self) -> None:
        self._timer = None
        self._dispatch()
        if self._waiting:
            self._start_timer()

    def _dispatch(self) -> None:
        while self._waiting and (self._database.is_distributed or self._has_lane(None)):
            place, batch = self._take_batch()
            if not batch:
                return
            self._last = sum(map(len, batch.values()))
            self._busy.update(batch)
            task = self.loop.create_task(self._execute(batch))
            self._lanes[task] = place, self.loop.time()
            task.add_done_callback(partial(self._finish, batch))

    def _finish(self, batch: _Batch, task: "asyncio.Task[None]") -> None:
        # The callers that have no result yet get their own errors.
        for line in batch.values():
            _release(line)
        self._busy.difference_update(batch)
        del self._lanes[task]
        if self._waiting:
            self._dispatch()

    def _take_batch(self) -> tuple[int | None, _Batch]:
        """Remove the next batch from the queue: in the order of arrival, of as many sessions as fit, in one place."""
        batch: _Batch = {}
        place: int | None = None
        full: set[int | None] = set()
        messages = size = 0
        for key in list(self._waiting):
            if key in self._busy:
                continue
            here = self._place(key)
            if batch:
                if here != place:
                    continue
            elif here in full:
                continue
            elif not self._has_lane(here):
                full.add(here)
                continue
            place = here
            line = self._waiting.pop(key)
            taken: list[_Waiting] = []
            ids: set[str] = set()
            while line and (not taken or ids.isdisjoint(line[0].ids)):
                if line[0].future.cancelled():
                    line.popleft()
                    continue
                count, length = len(line[0].ids), line[0].size
                if messages and (messages + count > _BATCH_MESSAGES or size + length > _BATCH_CHARACTERS):
                    break
                taken.append(line.popleft())
                ids.update(taken[-1].ids)
                messages += count
                size += length
            if line:
                self._waiting[key] = line  # at the end of the queue
            if taken:
                batch[key] = taken
            if messages >= _BATCH_MESSAGES or len(batch) >= self._max_sessions:
                break
        return place, batch

    async def _execute(self, batch: _Batch) -> None:
        if (otel := self._database.observer.otel) is None:
            await self._execute_batch(batch)
            return
        appends = [each for line in batch.values() for each in line]
        with otel.shared_by([each.caller for each in appends]) as statements:
            for each in appends:
                each.statements = statements
            await self._execute_batch(batch)

    async def _execute_batch(self, batch: _Batch) -> None:
        try:
            left = await self._execute_together(batch) if len(batch) > 1 else batch
            for (user_id, session_id), line in left.items():
                ids: list[str] = []
                payloads: list[str] = []
                for each in line:
                    ids += each.ids
                    payloads += each.payloads
                values = {"ids": ids, "payloads": payloads, "count": len(ids), "expected": None}
                rows = await self._database.fetch(self._append, user_id=user_id, session_id=session_id, **values)
                if rows:
                    _resolve(line, *rows[0])
                else:
                    _release(line)
        except (PoolTimeout, Closed) as error:
            for line in batch.values():
                for each in line:
                    if not each.future.done():
                        each.future.set_exception(copy(error))
        except StatementFailed as error:
            if error.sqlstate == "0A000":
                self._max_sessions = 1  # Citus: the tables are distributed by user
        except AgentStoreError:
            return  # whether it was stored is unknown: each caller appends again, which stores nothing twice

    async def _execute_together(self, batch: _Batch) -> _Batch:
        """Append to several sessions by one statement; return the skipped sessions that have more than one caller."""
        users: list[str] = []
        sessions: list[str] = []
        counts: list[int] = []
        firsts: list[int] = []
        numbers: list[int] = []
        ids: list[str] = []
        payloads: list[str] = []
        for number, ((user_id, session_id), line) in enumerate(batch.items(), 1):
            users.append(user_id)
            sessions.append(session_id)
            firsts.append(len(ids))
            for each in line:
                ids += each.ids
                payloads += each.payloads
            counts.append(len(ids) - firsts[-1])
            numbers += [number] * counts[-1]
        rows = await self._database.fetch(
            self._append_to_many,
            leader=users[0],
            users=users,
            sessions=sessions,
            counts=counts,
            firsts=firsts,
            numbers=numbers,
            ids=ids,
            payloads=payloads,
        )
        found = {row[0]: row for row in rows}
        left = {}
        for number, (key, line) in enumerate(list(batch.items()), 1):
            if number not in found:
                if len(line) > 1:
                    left[key] = line
                continue
            _, created_at, first_seq, message_count, *places = found[number]
            for place in places:
                self._note_place(key[0], place)
            if created_at is not None:
                _resolve(line, created_at, first_seq, message_count)
            elif not any(each.has_moved for each in line):
                self._put_back(key, line)
                del batch[key]
        return left

    def _note_place(self, user_id: str, place: int | None) -> None:
        if place is None:
            self._places.pop(user_id, None)
            return
        self._places[user_id] = place
        if len(self._places) > _MAX_PLACES:
            del self._places[next(iter(self._places))]

    def _put_back(self, key: Key, line: list[_Waiting]) -> None:
        """Put the appends of a batch that was executed in another place back into the queue, before later ones."""
        for each in line:
            each.has_moved = True
        self._waiting.setdefault(key, deque()).extendleft(reversed(line))
        self._busy.discard(key)
        self._start_timer()


def _resolve(line: list[_Waiting], created_at: datetime, first_seq: int, message_count: int) -> None:
    """Give each caller its part of the result of a batch."""
    for each in line:
        count = len(each.ids)
        if not each.future.done():
            each.future.set_result(contiguous(created_at, first_seq, count, message_count))
        first_seq += count


def _release(line: list[_Waiting]) -> None:
    """Let the callers that have no result execute their appends individually."""
    for each in line:
        if not each.future.done():
            each.future.set_result(None)
