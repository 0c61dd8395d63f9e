"""Derive ids from content, so that a repeated import adds nothing."""

from array import array
from hashlib import blake2b
from typing import Any
from uuid import UUID, uuid5

from agentstore.exact_json import dumps_sorted

_NAMESPACE = UUID("6f0d3f6e-4b0c-5c0e-9d55-0a6f5b1f7c11")


class Ids:
    """The ids of the conversations and messages of one file that have none.

    An id is a UUID of version 5 (RFC 9562) of the content and of the number of equal contents before it in the file.
    For a message of a named session, of which other files may contain parts, it depends on the file as well. Line
    numbers are not part of it, so ids do not change if the file is corrected, sorted or appended to.

    Memory: about 20 bytes for each conversation, and for each message of a named session.
    """

    def __init__(self, file: str) -> None:
        """Derive ids for one file, which `file` identifies, for example by its path."""
        self._file = file
        self._seen = _Counter()

    def for_file(self) -> str:
        """Return the id of the session to which messages without a session belong."""
        return str(uuid5(_NAMESPACE, dumps_sorted(["file", self._file])))

    def for_conversation(self, user_id: str, content: Any) -> str:
        """Return the id of a conversation that names no session."""
        return str(_id(self._seen, ["session", user_id, content]))

    def for_message(self, user_id: str, session_id: str, content: Any) -> str:
        """Return the id of a message of a named session."""
        return f"msg_{_id(self._seen, ['message', self._file, user_id, session_id, content])}"

    @staticmethod
    def for_messages(session_id: str, contents: list[Any]) -> list[str]:
        """Return the ids of all messages of a session, none of which is elsewhere in the file."""
        seen = _Counter()
        return [f"msg_{_id(seen, ['message', session_id, content])}" for content in contents]


class _Counter:
    """Counts 64-bit numbers.

    A hash table with open addressing and 8 bytes an entry; a dict would take ten times the memory.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 64))
        self._used = 0
        self._repeated: dict[int, int] = {}

    def count(self, key: int) -> int:
        """Count `key`, and return how often it was counted before."""
        key = key or 1  # 0 marks a free entry
        if not self._add(key):
            before = self._repeated.get(key, 1)
            self._repeated[key] = before + 1
            return before
        self._used += 1
        if self._used * 3 > len(self._table) * 2:
            old, self._table = self._table, array("Q", bytes(16 * len(self._table)))
            for each in old:
                if each:
                    self._add(each)
        return 0

    def _add(self, key: int) -> bool:
        """Insert `key`, and return whether it was missing."""
        table, last = self._table, len(self._table) - 1
        place = key & last
        while found := table[place]:
            if found == key:
                return False
            place = (place + 1) & last
        table[place] = key
        return True


def _id(seen: _Counter, content: list[Any]) -> UUID:
    text = dumps_sorted(content)
    before = seen.count(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big"))
    return uuid5(_NAMESPACE, f"{before} {text}")
