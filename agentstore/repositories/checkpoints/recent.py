"""The values that this process has read or stored last: what the next versions are compared with."""

import threading
from collections import OrderedDict

from agentstore.schemas.pieces import COMPARED_FROM, Composed

MAX_BYTES = 64_000_000
"""The size of all values together in bytes, and those that have not been used for longest are forgotten."""

_Key = tuple[str, str]  # user id, session id
_Channel = tuple[str, str]  # namespace, channel


class RecentValues:
    """The last value of each channel by session, with the epoch in which they are stored.

    It may be used by several threads at once. An epoch that is no longer that of the session's head does no harm: a put
    that names it is refused.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """Create it empty."""
        self._max_bytes = max_bytes
        self._sessions: OrderedDict[_Key, tuple[int, dict[_Channel, Composed]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def epoch_of(self, session: _Key) -> int | None:
        """Return the epoch of a session; None if nothing is known of it."""
        with self._lock:
            found = self._sessions.get(session)
            return None if found is None else found[0]

    def get(self, session: _Key, epoch: int | None, channel: _Channel) -> Composed | None:
        """Return the last value of a channel in an epoch of the session."""
        with self._lock:
            found = self._sessions.get(session)
            return found[1].get(channel) if found is not None and found[0] == epoch else None

    def add(self, session: _Key, epoch: int, values: dict[_Channel, Composed]) -> None:
        """Add values that are stored in an epoch, which is then that of the session."""
        with self._lock:
            known_epoch, known = self._sessions.pop(session, (epoch, {}))
            if known_epoch != epoch:
                self._bytes -= _size(known)
                known = {}
            for channel, value in values.items():
                self._bytes -= _size_of(known.pop(channel, None))
                if len(value.value) >= COMPARED_FROM:
                    known[channel] = value
                    self._bytes += _size_of(value)
            self._sessions[session] = epoch, known
            while self._sessions and (self._bytes > self._max_bytes or len(self._sessions) > 10_000):
                _, (_, forgotten) = self._sessions.popitem(last=False)
                self._bytes -= _size(forgotten)

    def forget(self, session: _Key) -> None:
        """Remove all that is known of a session."""
        with self._lock:
            found = self._sessions.pop(session, None)
            if found is not None:
                self._bytes -= _size(found[1])


def _size(values: dict[_Channel, Composed]) -> int:
    return sum(map(_size_of, values.values()))


def _size_of(value: Composed | None) -> int:
    return 0 if value is None else len(value.value) + 100 * len(value.pieces)
