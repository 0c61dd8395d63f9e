"""Messages of ours as those of another package, and back.

AgentScope Runtime's classes have the fields of ours. What was read from the database is valid, so an object of theirs
is made of it without validating again; what an application gives may have been changed since it was validated.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from agentstore.errors import InvalidContent
from agentstore.exact_json import no_collection
from agentstore.schemas import message as ours
from agentstore.schemas.payload import as_array, as_message, load_messages, without_no_id

_PARTS = ("TextContent", "ImageContent", "DataContent", "AudioContent", "FileContent", "RefusalContent")


class Classes:
    """Of which classes an application's sessions and messages are."""

    def __init__(self, session: type[BaseModel], schemas: ModuleType) -> None:
        """`schemas` is the module in which the messages are."""
        self.session: Any = session
        message: Any = schemas.Message
        self.message = message
        self.is_ours = self.message is ours.Message
        self._made_of: dict[type, Any] = {
            getattr(ours, name): getattr(schemas, name) for name in ("Message", "Error", *_PARTS)
        }
        self._list: TypeAdapter[list[Any]] = TypeAdapter(list[message])  # pyright: ignore[reportInvalidTypeForm]
        self._fields = {kind: tuple(kind.model_fields) for kind in self._made_of.values()}

    def theirs(self, messages: Iterable[ours.Message]) -> list[Any]:
        """Return messages of ours, which are valid, as the application's."""
        return list(messages) if self.is_ours else [self._made(each) for each in messages]

    def load(self, payloads: Sequence[bytes]) -> list[Any]:
        """Return stored messages as the application's."""
        if payloads and not self.is_ours:
            try:
                with no_collection(len(payloads)):
                    return self._list.validate_json(as_array(payloads))
            except ValidationError:
                pass  # what ours may hold and theirs may not, or a lone surrogate
        return self.theirs(load_messages(payloads))

    def given(self, message: object) -> Any:
        """Return what an application gives, one of its messages, one of ours or a dict, as one of its messages.

        Raises:
            InvalidContent: it is none.
        """
        if isinstance(message, self.message):
            return message
        if isinstance(message, ours.Message):
            message = message.model_dump()
        try:
            return self.message.model_validate(without_no_id(message) if isinstance(message, Mapping) else message)
        except ValidationError as error:
            raise InvalidContent(f"this is not a message: {error}") from error

    def ours(self, message: Any) -> ours.Message:
        """Return a message of the application's as one of ours.

        Raises:
            InvalidContent: it was changed into something that is none, or has a part that is not known here.
        """
        return as_message(message if self.is_ours else message.model_dump(warnings=False))

    def _made(self, source: BaseModel) -> Any:
        kind = self._made_of[type(source)]
        values = source.__dict__
        fields = {name: values[name] for name in self._fields[kind] if name in values}
        if fields.get("error") is not None:
            fields["error"] = self._made(fields["error"])
        if type(content := fields.get("content")) is list:
            fields["content"] = [self._made(part) for part in content]
        made = kind.__new__(kind)
        set_ = object.__setattr__
        set_(made, "__dict__", fields)
        set_(made, "__pydantic_fields_set__", source.__pydantic_fields_set__ & fields.keys())
        set_(made, "__pydantic_extra__", None)
        set_(made, "__pydantic_private__", None)
        return made
