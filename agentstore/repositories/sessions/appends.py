"""Appends that share a statement: those that come while others are on their way go out together.

A commit waits for the disk, and the next append to the same session for that commit, so that writers who each say a
statement of their own spend their time waiting in line. Here those who wait are one batch, and one statement, for one
session or for several. It is what databases call group commit, one level up, where a session's lock does not stand in
the way.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from copy import copy
from datetime import datetime
from functools import partial

from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.errors import AgentStoreError, Closed, PoolTimeout, StatementFailed

Key = tuple[str, str]  # a user and a session

# A batch goes when fewer than two are on their way: with one at a time the client and the server would wait for each
# other, with many nobody would wait, and nobody share. As few writers as six are better off by themselves: as long as
# batches are no larger than that, so many appends go alone.
_LANES, _FEW = 2, 6
# What takes longer than that, in seconds, may be waiting for a lock or for the network: it leaves its lane to others.
_PATIENCE = 0.05
# The most that one append may bring to a batch, and a batch may have. So a batch takes about as long as its first
# append would have waited, and what is long by itself delays nobody.
_SMALL_MESSAGES, _SMALL_CHARACTERS = 32, 64_000
_BATCH_MESSAGES, _BATCH_CHARACTERS = 64, 256_000
_BATCH_SESSIONS = 32
# How many sessions are remembered whose messages were stored already.
_MOST_APART = 1_000


class _Waiting:
    """What one caller appends, and the future that tells it: the time of the append, or None: say it yourself."""

    __slots__ = ("future", "ids", "payloads", "size")

    def __init__(self, future: "asyncio.Future[datetime | None]", ids: list[str], payloads: list[str]) -> None:
        self.future = future
        self.ids = ids
        self.payloads = payloads
        self.size = sum(map(len, payloads))


_Batch = dict[Key, list[_Waiting]]


class Appends:
    """The appends of one service in one event loop that are on their way, and those that wait.

    An append goes by itself as long as a lane is free and none to its session is on its way: then it is the plain
    statement, said by its caller. A batch never waits for a session's lock: a session that is locked is left out of it,
    and said by itself. So a batch is never part of a deadlock, and a session that somebody holds delays no other.
    """

    def __init__(self, database: Database, append: Statement, append_to_many: Statement) -> None:
        """`append` stores messages of one session, `append_to_many` of several: see the module that has them."""
        self.loop = asyncio.get_running_loop()
        self._database = database
        self._append = append
        self._append_to_many = append_to_many
        # Row-level security is told of one user for each transaction.
        self._most_sessions = 1 if database.settings.row_level_security else _BATCH_SESSIONS
        # By session, in the order in which they came; a session that has had its turn goes to the end.
        self._waiting: dict[Key, deque[_Waiting]] = {}
        self._busy: set[Key] = set()
        self._lanes: dict[object, float] = {}  # what is on its way, and since when
        self._last = 0  # how many appends the last batch had
        self._apart: dict[Key, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def takes(self, key: Key, payloads: Sequence[str]) -> bool:
        """Whether this is about an append: a large one delays others, one that is a repetition would fail them."""
        return (
            len(payloads) <= _SMALL_MESSAGES
            and sum(map(len, payloads)) <= _SMALL_CHARACTERS
            and (not self._apart or key not in self._apart)
        )

    def begin(self, key: Key) -> bool:
        """Whether an append may go by itself now; if so, :meth:`end` must be called when it is done."""
        lanes = _LANES if self._waiting or self._last > _FEW else _FEW
        if key in self._busy or key in self._waiting or not self._has_lane(lanes):
            return False
        self._busy.add(key)
        self._lanes[key] = self.loop.time()
        return True

    def end(self, key: Key) -> None:
        """Let those that have waited go."""
        del self._lanes[key]
        self._busy.discard(key)
        if self._waiting:
            self._dispatch()

    async def wait(self, key: Key, ids: list[str], payloads: list[str]) -> datetime | None:
        """Append with others; return when, or None if it is to be said by itself: it failed, or another one did.

        Raises:
            PoolTimeout, Closed: as of a statement that is said by itself.
        """
        waiting = _Waiting(self.loop.create_future(), ids, payloads)
        self._waiting.setdefault(key, deque()).append(waiting)
        if self._timer is None:
            self._timer = self.loop.call_later(_PATIENCE, self._look_again)
        return await waiting.future

    def keep_apart(self, key: Key) -> None:
        """Let the appends to a session go by themselves, since one had messages that are stored already."""
        self._apart[key] = None
        if len(self._apart) > _MOST_APART:
            del self._apart[next(iter(self._apart))]

    def take_back(self, key: Key) -> None:
        """Let the appends to a session share statements again."""
        if self._apart:
            self._apart.pop(key, None)

    def _has_lane(self, lanes: int = _LANES) -> bool:
        if len(self._lanes) < lanes:
            return True
        patience = self.loop.time() - _PATIENCE
        return sum(since > patience for since in self._lanes.values()) < lanes

    def _look_again(self) -> None:
        self._timer = None
        self._dispatch()
        if self._waiting:
            self._timer = self.loop.call_later(_PATIENCE, self._look_again)

    def _dispatch(self) -> None:
        while self._waiting and self._has_lane():
            batch = self._take()
            if not batch:
                return
            self._last = sum(map(len, batch.values()))
            self._busy.update(batch)
            flight = self.loop.create_task(self._say(batch))
            self._lanes[flight] = self.loop.time()
            flight.add_done_callback(partial(self._landed, batch))

    def _landed(self, batch: _Batch, flight: "asyncio.Task[None]") -> None:
        # Whatever it was that did not come to its end: each caller goes by itself, and hears what is its own.
        for line in batch.values():
            _tell(line, None)
        self._busy.difference_update(batch)
        del self._lanes[flight]
        if self._waiting:
            self._dispatch()

    def _take(self) -> _Batch:
        """Take those that go next: in the order in which they came, of as many sessions as go together."""
        batch: _Batch = {}
        messages = size = 0
        for key in list(self._waiting):
            if key in self._busy:
                continue
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
                self._waiting[key] = line  # behind the others
            if taken:
                batch[key] = taken
            if messages >= _BATCH_MESSAGES or len(batch) >= self._most_sessions:
                break
        return batch

    async def _say(self, batch: _Batch) -> None:
        try:
            left = await self._say_together(batch) if len(batch) > 1 else batch
            for (user_id, session_id), line in left.items():
                ids: list[str] = []
                payloads: list[str] = []
                for each in line:
                    ids += each.ids
                    payloads += each.payloads
                values = {"ids": ids, "payloads": payloads, "count": len(ids)}
                rows = await self._database.fetch(self._append, user_id=user_id, session_id=session_id, **values)
                _tell(line, time_of(rows) if rows else None)
        except (PoolTimeout, Closed) as error:
            for line in batch.values():
                for each in line:
                    if not each.future.done():
                        each.future.set_exception(copy(error))
        except StatementFailed as error:
            if error.sqlstate == "0A000":
                self._most_sessions = 1  # a database that is distributed by user
        except AgentStoreError:
            return  # nothing of it is stored, or it is, and the ids of each will say so

    async def _say_together(self, batch: _Batch) -> _Batch:
        """Append to several sessions; return those that were not free and have more than one caller waiting."""
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
            users=users,
            sessions=sessions,
            counts=counts,
            firsts=firsts,
            numbers=numbers,
            ids=ids,
            payloads=payloads,
        )
        times: dict[int, datetime] = dict(rows)  # type: ignore[arg-type]
        left = {}
        for number, (key, line) in enumerate(batch.items(), 1):
            if number in times:
                _tell(line, times[number])
            elif len(line) > 1:
                left[key] = line
        return left


def time_of(rows: Sequence[Row]) -> datetime:
    """Return the time that one of an append's rows has."""
    (time,) = (row[0] for row in rows if row[0] is not None)
    found: datetime = time
    return found


def _tell(line: list[_Waiting], time: datetime | None) -> None:
    for each in line:
        if not each.future.done():
            each.future.set_result(time)
