"""Check sessions as an import does, without a database."""

from array import array
from collections.abc import Hashable

from agentstore.exact_json import dumps_sorted
from agentstore.schemas import Imported, Session
from agentstore.schemas.identity import identity_of
from agentstore.schemas.imports import check_import
from agentstore.settings import Settings


class DryRun:
    """Stands in for the session history service: it stores nothing, but knows what it would have stored.

    Memory: about 40 bytes for each session and for each message.
    """

    def __init__(self, settings: Settings) -> None:
        """Begin a dry run, in which there are no sessions."""
        self._settings = settings
        self._known = _Table()

    async def import_session(self, session: Session, *, differences: str) -> Imported:
        """Check a session with unique messages, and return the ids of those that differ from earlier ones.

        Raises:
            InvalidContent, LimitExceeded: an import would refuse the session.
        """
        key = _digest((session.user_id, session.id))
        check_import(session, self._settings, is_new=self._known.get(key) is None)
        self._known.setdefault(key, 1)
        differing = []
        for message in session.messages:
            digest = _digest(dumps_sorted(identity_of(message)))
            if self._known.setdefault(_digest((session.user_id, session.id, message.id)), digest) != digest:
                differing.append(message.id)
        return Imported(differing=tuple(differing))


def _digest(value: Hashable) -> int:
    """Return a number of 64 bits, not 0."""
    return hash(value) & (2**64 - 1) or 1


class _Table:
    """Numbers of 64 bits by such numbers, none of them 0: a hash table with open addressing, 16 bytes an entry.

    A dict would take six times the memory.
    """

    def __init__(self) -> None:
        self._keys = array("Q", bytes(8 * 64))
        self._values = array("Q", bytes(8 * 64))
        self._used = 0

    def get(self, key: int) -> int | None:
        """Return the value of a key, or None."""
        return self._values[self._place(key)] or None

    def setdefault(self, key: int, value: int) -> int:
        """Return the value of a key, which becomes `value` if it has none."""
        place = self._place(key)
        if found := self._values[place]:
            return found
        self._keys[place], self._values[place] = key, value
        self._used += 1
        if self._used * 3 > len(self._keys) * 2:
            self._grow()
        return value

    def _place(self, key: int) -> int:
        keys, last = self._keys, len(self._keys) - 1
        place = key & last
        while keys[place] not in (0, key):
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._keys, self._values = array("Q", bytes(16 * len(keys))), array("Q", bytes(16 * len(keys)))
        for key, value in zip(keys, values, strict=True):
            if key:
                place = self._place(key)
                self._keys[place], self._values[place] = key, value
