"""Messages in their stored form, for callers that do not need a Message object for each."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, PrivateAttr, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, core_schema

from agentstore.errors import UnreadableRow
from agentstore.exact_json import dumps, loads, no_collection
from agentstore.schemas.message import Message, OpenAIAPI, Place, seq_and_time
from agentstore.schemas.payload import as_array, load_each_message, load_messages, message_key

# The number of messages that an iteration parses at a time.
_CHUNK = 100


class StoredMessages(BaseModel, Sequence[Message]):
    """The messages of a session in order, as stored JSON: the result of ``read_messages``.

    A Message is parsed each time it is accessed. Parsing a session of thousands of messages creates about ten objects
    for each, although most callers read the last few, or pass all of them on: as JSON (:meth:`json`) or as dicts
    (:meth:`dicts`).

    A pydantic type, such as the response of a web framework: an array of messages. A model rather than a class with a
    schema, because FastAPI's encoder of values without a declared type knows models only.
    """

    model_config = ConfigDict(defer_build=True)

    _payloads: Sequence[str] | Sequence[bytes] = PrivateAttr()
    _user_id: str | None = PrivateAttr()
    _session_id: str | None = PrivateAttr()
    _places: Sequence[Place] = PrivateAttr()

    def __init__(
        self,
        payloads: Sequence[str] | Sequence[bytes] = (),
        user_id: str | None = None,
        session_id: str | None = None,
        places: Sequence[Place] = (),
    ) -> None:
        """Wrap `payloads`, the JSON texts of messages of a session, which an error names by its ids.

        `places` are the ``seq`` and the ``created_at`` of each message.
        """
        # As model_construct does: there are no fields to validate.
        set_ = object.__setattr__
        set_(self, "__dict__", {})
        set_(self, "__pydantic_fields_set__", set())
        set_(self, "__pydantic_extra__", None)
        set_(
            self,
            "__pydantic_private__",
            {"_payloads": payloads, "_user_id": user_id, "_session_id": session_id, "_places": places},
        )

    def models(self, *, on_unreadable: Callable[[UnreadableRow], object] | None = None) -> list[Message]:
        """Return all messages as Message objects, as ``get_session`` does.

        Args:
            on_unreadable: called with the error of each stored message that is not valid, which is then left out.
                ``seq`` of the error is its place.

        Raises:
            UnreadableRow: a stored message is not valid, and there is no `on_unreadable`; so do an iteration and an
                access to it.
        """
        if on_unreadable is None:
            return self._load(0, len(self))
        key = message_key(self._user_id, self._session_id)
        messages: list[Message] = []
        for each in load_each_message(self._payloads, key, self._places):
            if isinstance(each, UnreadableRow):
                on_unreadable(each)
            else:
                messages.append(each)
        return messages

    def dicts(self) -> list[dict[str, Any]]:
        """Return all messages as dicts, without the fields that have their default value."""
        with no_collection(len(self._payloads)):
            try:
                found: list[dict[str, Any]] = loads(as_array(self._payloads))
            except (ValueError, RecursionError):
                self.models()  # raises UnreadableRow for that message
                raise
        return found

    def json(self, *, with_times: bool = False) -> bytes:  # type: ignore[override]
        """Return all messages as one JSON array in UTF-8, without the fields that have their default value.

        `with_times` adds the ``seq`` and the ``created_at`` of each, in place of fields of its own with these names.
        """
        array = as_array(self._payloads)
        if with_times:
            array = as_array([_with_place(self._payloads[n], place) for n, place in enumerate(self._places)])
        return array if isinstance(array, bytes) else array.encode()

    def to_openai(self, api: OpenAIAPI = "chat") -> list[dict[str, Any]]:
        """Return all messages as those of OpenAI's chat completions or as Responses items.

        See :meth:`Message.to_openai_all`.
        """
        return Message.to_openai_all(self, api)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredMessages": ...
    def __getitem__(self, index: int | slice) -> "Message | StoredMessages":
        if isinstance(index, slice):
            return StoredMessages(self._payloads[index], self._user_id, self._session_id, self._places[index])
        index = range(len(self))[index]
        return self._load(index, index + 1)[0]

    def __iter__(self) -> Iterator[Message]:  # type: ignore[override]
        for start in range(0, len(self._payloads), _CHUNK):
            yield from self._load(start, start + _CHUNK)

    def _load(self, start: int, stop: int) -> list[Message]:
        key = message_key(self._user_id, self._session_id, start + 1)
        return load_messages(self._payloads[start:stop], key, self._places[start:stop])

    def __len__(self) -> int:
        return len(self._payloads)

    def __repr__(self) -> str:
        return f"<{len(self)} stored messages>"

    __str__ = __repr__

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        messages = handler.generate_schema(list[Message])
        to_list = core_schema.plain_serializer_function_ser_schema(cls.models, return_schema=messages)
        return core_schema.no_info_wrap_validator_function(_validate, messages, serialization=to_list)


def _validate(value: Any, parse: ValidatorFunctionWrapHandler) -> StoredMessages:
    if isinstance(value, StoredMessages):
        return value
    return StoredMessages([dumps(message.model_dump()) for message in parse(value)])


def _with_place(payload: str | bytes, place: Place) -> str:
    """Return the JSON text of a message with its ``seq`` and its ``created_at``."""
    text = payload if isinstance(payload, str) else payload.decode()
    seq, time = seq_and_time(place)
    added = {"seq": seq, "created_at": time.isoformat().replace("+00:00", "Z")}
    if any(f'"{name}"' in text for name in added):
        return dumps({**loads(text), **added})
    return f"{text.rstrip()[:-1]},{dumps(added)[1:]}"
