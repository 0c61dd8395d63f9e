"""Messages in their stored form, for callers that do not need a Message object for each."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

from agentstore.exact_json import loads, no_collection
from agentstore.schemas.message import Message
from agentstore.schemas.payload import as_array, load_messages

# The number of messages that an iteration parses at a time.
_CHUNK = 100


class StoredMessages(Sequence[Message]):
    """The messages of a session in order, as stored JSON: the result of ``read_messages``.

    A Message is parsed each time it is accessed. Parsing a session of thousands of messages creates about ten objects
    for each, although most callers read the last few, or pass all of them on: as JSON (:meth:`json`) or as dicts
    (:meth:`dicts`).
    """

    __slots__ = ("_payloads",)

    def __init__(self, payloads: Sequence[str] | Sequence[bytes] = ()) -> None:
        """Wrap `payloads`, the JSON texts of valid messages."""
        self._payloads = payloads

    def models(self) -> list[Message]:
        """Return all messages as Message objects, as ``get_session`` does."""
        return load_messages(self._payloads)

    def dicts(self) -> list[dict[str, Any]]:
        """Return all messages as dicts, without the fields that have their default value."""
        with no_collection(len(self._payloads)):
            found: list[dict[str, Any]] = loads(as_array(self._payloads))
        return found

    def json(self) -> bytes:
        """Return all messages as one JSON array in UTF-8, without the fields that have their default value."""
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
        for start in range(0, len(self._payloads), _CHUNK):
            yield from load_messages(self._payloads[start : start + _CHUNK])

    def __len__(self) -> int:
        return len(self._payloads)

    def __repr__(self) -> str:
        return f"<{len(self)} stored messages>"
