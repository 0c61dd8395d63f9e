"""The connections that the pools of several event loops may open together."""

import math
import threading
import time
from typing import Protocol

from agentstore.event_loops import notify_after_fork

# Seconds for which the server may still count connections whose ends it has been told to close.
_ENDING = 1.0


class Sharer(Protocol):
    """The pool of one event loop. Its methods are called in any thread."""

    def is_of_closed_loop(self) -> bool:
        """Return whether the event loop was closed."""
        ...

    def drop(self) -> None:
        """Close the connections that a closed event loop left open, and leave the budget."""

    def receive(self) -> None:
        """Add a slot, which this pool has requested and now owns."""

    def offer(self) -> None:
        """Give up slots that are free, as long as :meth:`Budget.begin_release` accepts them."""

    def grow(self) -> None:
        """Take slots of the budget, if calls wait for one."""


class Budget:
    """The slots of a process: each is the right to open one connection, and is free or owned by a pool.

    A pool takes slots as it needs them. When none is free, a pool that owns less than its share, the size divided by
    the number of pools, requests one, and gets it from a pool that owns more than its share. With more pools than
    slots, each slot goes from pool to pool.

    Attributes:
        size: the number of slots.
        is_wanted: whether a pool has requested a slot that it did not get yet.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.is_wanted = False
        self._ended_at = -math.inf
        self._lock = threading.Lock()
        self._owned: dict[Sharer, int] = {}
        # In the order of their requests, with the number of slots requested.
        self._requests: dict[Sharer, int] = {}
        # The number of slots that a pool is giving up.
        self._releasing: dict[Sharer, int] = {}
        notify_after_fork(self)

    def add(self, pool: Sharer) -> None:
        """Let a pool take part."""
        with self._lock:
            self._owned[pool] = 0

    def remove(self, pool: Sharer) -> None:
        """Take back all slots of a pool, which was closed."""
        with self._lock:
            self._forget(pool)
            received = [each for each in list(self._requests) if self._free() > 0 and self._grant(each)]
            growing = list(self._owned) if self._free() > 0 else []
        for each in received:
            each.receive()
        for each in growing:
            each.grow()

    def note_ending(self) -> None:
        """Note that a pool has closed its connections without waiting for the server to do the same."""
        self._ended_at = time.monotonic()

    def is_ending(self) -> bool:
        """Return whether the server may still count such connections."""
        return time.monotonic() - self._ended_at < _ENDING

    def owned(self, pool: Sharer) -> int:
        """Return how many slots a pool owns."""
        return self._owned.get(pool, 0)

    def is_used_up(self) -> bool:
        """Return whether no slot is free."""
        return self._free() <= 0

    def take(self, pool: Sharer) -> bool:
        """Take a free slot for a pool, and return whether there was one."""
        if self._free() <= 0:
            self._drop_closed()
        with self._lock:
            if self._free() <= 0 or pool not in self._owned:
                return False
            self._owned[pool] += 1
            return True

    def request(self, pool: Sharer) -> None:
        """Request a slot for a pool that owns less than its share; it receives the slot later."""
        self._drop_closed()
        with self._lock:
            share = self._share()
            if self._owned.get(pool, 0) + self._requests.get(pool, 0) >= max(share, 1) or pool not in self._owned:
                return
            self._requests[pool] = self._requests.get(pool, 0) + 1
            self.is_wanted = True
            owners = [each for each, owned in self._owned.items() if owned > share and each is not pool]
        for each in owners:
            each.offer()

    def begin_release(self, pool: Sharer) -> bool:
        """Return whether a pool is to give up a slot: another one has requested it, and it owns more than its share.

        If so, call :meth:`release` once the connection of the slot is closed, or :meth:`cancel_release`.
        """
        with self._lock:
            requested = sum(count for each, count in self._requests.items() if each is not pool)
            releasing = self._releasing.get(pool, 0)
            if self._owned.get(pool, 0) - releasing <= self._share() or sum(self._releasing.values()) >= requested:
                return False
            self._releasing[pool] = releasing + 1
            return True

    def cancel_release(self, pool: Sharer) -> None:
        """Keep the slot of :meth:`begin_release`."""
        with self._lock:
            self._end_release(pool)

    def release(self, pool: Sharer) -> None:
        """Pass on the slot of :meth:`begin_release` to the next pool that has requested one."""
        with self._lock:
            if not self._end_release(pool):
                return  # it was removed
            self._owned[pool] -= 1
            receiver = next((each for each in list(self._requests) if each is not pool and self._grant(each)), None)
        if receiver is not None:
            receiver.receive()

    def after_fork(self) -> None:
        """Forget the pools of the parent, and a lock that one of its threads may have held."""
        self._lock = threading.Lock()
        self._owned, self._requests, self._releasing, self.is_wanted = {}, {}, {}, False

    def _end_release(self, pool: Sharer) -> bool:
        releasing = self._releasing.pop(pool, 0)
        if releasing > 1:
            self._releasing[pool] = releasing - 1
        return releasing > 0

    def _free(self) -> int:
        return self.size - sum(self._owned.values())

    def _share(self) -> int:
        return self.size // max(1, len(self._owned))

    def _grant(self, pool: Sharer) -> bool:
        """Give a free slot to a pool that has requested one; False if its event loop is closed."""
        wanted = self._requests.pop(pool)
        if wanted > 1:
            self._requests[pool] = wanted - 1  # behind the others
        self.is_wanted = bool(self._requests)
        if pool.is_of_closed_loop():
            return False
        self._owned[pool] += 1
        return True

    def _forget(self, pool: Sharer) -> None:
        self._owned.pop(pool, None)
        self._requests.pop(pool, None)
        self._releasing.pop(pool, None)
        self.is_wanted = bool(self._requests)

    def _drop_closed(self) -> None:
        for each in list(self._owned):
            if each.is_of_closed_loop():
                each.drop()
