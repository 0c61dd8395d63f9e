"""Ids for what has none: the same for the same content, so that importing it again adds nothing."""

from array import array
from hashlib import blake2b
from typing import Any
from uuid import UUID, uuid5

from agentstore.exact_json import dumps_sorted

_NAMESPACE = UUID("6f0d3f6e-4b0c-5c0e-9d55-0a6f5b1f7c11")


class Ids:
    """The ids that the conversations and messages of one file get.

    Each is a UUID of version 5 (RFC 9562) of the content and of its place: for a conversation how often an equal one
    came before it in the file; for a message of a named session, which other files may have parts of, also the file.
    No line's number is in it, so what was imported of a file keeps its ids when the file is mended, sorted or
    continued.

    Some 20 bytes are kept of each conversation, and of each message of a session that has a name.
    """

    def __init__(self, file: str) -> None:
        """`file` is what tells the file from others, such as its path."""
        self._file = file
        self._seen = _Counter()

    def of_file(self) -> str:
        """Return the id of the session that the messages without one are."""
        return str(uuid5(_NAMESPACE, dumps_sorted(["file", self._file])))

    def of_conversation(self, user_id: str, content: Any) -> str:
        """Return the id of a conversation that names no session."""
        return str(_id(self._seen, ["session", user_id, content]))

    def of_message(self, user_id: str, session_id: str, content: Any) -> str:
        """Return the id of a message that has none, in a session that has a name."""
        return f"msg_{_id(self._seen, ['message', self._file, user_id, session_id, content])}"

    @staticmethod
    def of_messages(session_id: str, contents: list[Any]) -> list[str]:
        """Return the ids of all messages of a session that is in one place of the file, having got its id here."""
        seen = _Counter()
        return [f"msg_{_id(seen, ['message', session_id, content])}" for content in contents]


class _Counter:
    """How often each of many numbers of 64 bits came before.

    A hash table of 8 bytes an entry, which a dict would take ten times the memory for.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 64))
        self._used = 0
        self._repeated: dict[int, int] = {}

    def count(self, key: int) -> int:
        """Count `key`, and return how often it was counted before."""
        key = key or 1  # 0 is a free place
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
        """Put `key` into the table, unless it is there."""
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
