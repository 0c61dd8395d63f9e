"""Convert messages between agentstore's classes and those of another package.

AgentScope Runtime's classes have the fields of agentstore's. Messages that were read from the database are valid, so
they are converted without validation. Messages from an application are validated: they may have been changed since they
were built.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from agentstore.errors import InvalidContent
from agentstore.exact_json import no_collection
from agentstore.schemas import message as own
from agentstore.schemas.payload import as_array, drop_null_id, load_messages, message_key, parse_message

_PARTS = ("TextContent", "ImageContent", "DataContent", "AudioContent", "FileContent", "RefusalContent")


class MessageClasses:
    """The session and message classes that an application uses, and the conversion from and to agentstore's."""

    def __init__(self, session: type[BaseModel], schemas: ModuleType) -> None:
        """Use the class `session`, and the module `schemas` with Message, Error and the content classes."""
        self.session: Any = session
        message: Any = schemas.Message
        self.message = message
        self.is_own = self.message is own.Message
        """Whether these are agentstore's classes, so that nothing is converted."""
        self._class_of: dict[type, Any] = {
            getattr(own, name): getattr(schemas, name) for name in ("Message", "Error", *_PARTS)
        }
        self._list: TypeAdapter[list[Any]] = TypeAdapter(list[message])  # pyright: ignore[reportInvalidTypeForm]
        self._fields = {kind: tuple(kind.model_fields) for kind in self._class_of.values()}

    def convert(self, messages: Iterable[own.Message]) -> list[Any]:
        """Convert valid agentstore messages to the application's class."""
        return list(messages) if self.is_own else [self._convert(each) for each in messages]

    def load(self, payloads: Sequence[bytes], user_id: str, session_id: str) -> list[Any]:
        """Parse the stored messages of a session into the application's class.

        Raises:
            UnreadableRow: one of them is not a valid message.
        """
        if payloads and not self.is_own:
            try:
                with no_collection(len(payloads)):
                    return self._list.validate_json(as_array(payloads))
            except ValidationError:
                pass  # a value that only agentstore's classes allow, or a lone surrogate
        return self.convert(load_messages(payloads, message_key(user_id, session_id)))

    def validate(self, message: object) -> Any:
        """Return a message of the application's class from one, from an agentstore Message, or from a dict.

        Raises:
            InvalidContent: `message` is not valid.
        """
        if isinstance(message, self.message):
            return message
        if isinstance(message, own.Message):
            message = message.model_dump()
        try:
            return self.message.model_validate(drop_null_id(message) if isinstance(message, Mapping) else message)
        except ValidationError as error:
            raise InvalidContent(f"this is not a valid message: {error}") from error

    def to_own(self, message: Any) -> own.Message:
        """Convert a message of the application's class to an agentstore Message, with validation.

        Raises:
            InvalidContent: an attribute was set to an invalid value, or a content part has an unknown type.
        """
        if isinstance(message, own.Message):
            return message
        fields = message.model_dump(warnings=False)
        if isinstance(fields.get("content"), str):  # which agentstore's class accepts, and the runtime's does not
            raise InvalidContent("content must be a list of parts, got a string")
        return parse_message(fields)  # as_message would refuse messages that the runtime's services accept

    def _convert(self, source: BaseModel) -> Any:
        kind = self._class_of[type(source)]
        values = source.__dict__
        fields = {name: values[name] for name in self._fields[kind] if name in values}
        if fields.get("error") is not None:
            fields["error"] = self._convert(fields["error"])
        if type(content := fields.get("content")) is list:
            fields["content"] = [self._convert(part) for part in content]
        converted = kind.__new__(kind)
        set_ = object.__setattr__
        set_(converted, "__dict__", fields)
        set_(converted, "__pydantic_fields_set__", source.__pydantic_fields_set__ & fields.keys())
        set_(converted, "__pydantic_extra__", None)
        set_(converted, "__pydantic_private__", None)
        return converted
