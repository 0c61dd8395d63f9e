"""Messages as they are stored, for what does not need a Message of each."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

from agentstore.exact_json import loads, no_collection
from agentstore.schemas.message import Message
from agentstore.schemas.payload import as_array, load_messages

# How many are made Messages at a time where all are looked at one after the other.
_AT_ONCE = 100


class StoredMessages(Sequence[Message]):
    """Messages of a session, in order, as JSON; each is made a Message when it is looked at, and anew each time.

    A session of thousands of messages costs as many objects, ten for each, when most of its readers look at the last
    few, or hand all of them on: as they are (:meth:`json`), or as dicts (:meth:`dicts`).
    """

    __slots__ = ("_payloads",)

    def __init__(self, payloads: Sequence[str] | Sequence[bytes] = ()) -> None:
        """`payloads` are the JSON texts of valid messages."""
        self._payloads = payloads

    def models(self) -> list[Message]:
        """Return all of them as Messages, as :meth:`SessionHistoryService.get_session` does."""
        return load_messages(self._payloads)

    def dicts(self) -> list[dict[str, Any]]:
        """Return all of them as dicts, without the fields that have their default."""
        with no_collection(len(self._payloads)):
            found: list[dict[str, Any]] = loads(as_array(self._payloads))
        return found

    def json(self) -> bytes:
        """Return all of them as one JSON array in UTF-8, without the fields that have their default."""
        array = as_array(self._payloads)
        return array if isinstance(array, bytes) else array.encode()

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredMessages": ...
    def __getitem__(self, index: int | slice) -> "Message | StoredMessages":
        if isinstance(index, slice):
            return StoredMessages(self._payloads[index])
        return load_messages([self._payloads[index]])[0]  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Message]:
        for start in range(0, len(self._payloads), _AT_ONCE):
            yield from load_messages(self._payloads[start : start + _AT_ONCE])

    def __len__(self) -> int:
        return len(self._payloads)

    def __repr__(self) -> str:
        return f"<{len(self)} stored messages>"
