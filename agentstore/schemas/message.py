"""Messages and their contents: the fields of AgentScope Runtime 1.0, validated by pydantic.

Fields that these classes do not define are accepted and stored, so that what a newer release of the runtime adds to a
message round-trips too. Types, states and kinds of content are plain strings; :class:`Role`, :class:`MessageType`,
:class:`ContentType` and :class:`RunStatus` name the known values, and a field that is set to one stores its string.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from struct import Struct
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, get_args
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from agentstore.offload import spend

if TYPE_CHECKING:
    from typing import Self


class Role(StrEnum):
    """The values of ``Message.role``: who wrote the message."""

    ASSISTANT = "assistant"
    USER = "user"
    SYSTEM = "system"
    TOOL = "tool"


class MessageType(StrEnum):
    """The known values of ``Message.type``, which accepts other strings too."""

    MESSAGE = "message"
    FUNCTION_CALL = "function_call"
    FUNCTION_CALL_OUTPUT = "function_call_output"
    PLUGIN_CALL = "plugin_call"
    PLUGIN_CALL_OUTPUT = "plugin_call_output"
    COMPONENT_CALL = "component_call"
    COMPONENT_CALL_OUTPUT = "component_call_output"
    MCP_LIST_TOOLS = "mcp_list_tools"
    MCP_APPROVAL_REQUEST = "mcp_approval_request"
    MCP_APPROVAL_RESPONSE = "mcp_approval_response"
    MCP_TOOL_CALL = "mcp_call"
    MCP_TOOL_CALL_OUTPUT = "mcp_call_output"
    REASONING = "reasoning"
    HEARTBEAT = "heartbeat"
    ERROR = "error"


class ContentType(StrEnum):
    """The values of ``type`` in a part of a message's content."""

    TEXT = "text"
    IMAGE = "image"
    DATA = "data"
    AUDIO = "audio"
    FILE = "file"
    REFUSAL = "refusal"


class RunStatus(StrEnum):
    """The known values of ``status`` of a message or a part of it; the attributes are named as in the runtime."""

    Created = "created"
    InProgress = "in_progress"
    Completed = "completed"
    Canceled = "canceled"
    Failed = "failed"
    Rejected = "rejected"
    Unknown = "unknown"
    Queued = "queued"
    Incomplete = "incomplete"


class _PlainStrings:
    """Validates a ``Literal`` of strings and members of a StrEnum to plain strings.

    The members are there for type checkers, to which a member is not one of the literal strings.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(dict.fromkeys(map(str, get_args(source)))))


class Error(BaseModel):
    """An error, as the ``error`` field of a message or of a part of its content."""

    model_config = ConfigDict(extra="allow", validate_assignment=True, defer_build=True)

    code: str
    """A code for programs."""
    message: str
    """A description for people."""


class _Content(BaseModel):
    """The fields that all parts of a content share."""

    model_config = ConfigDict(extra="allow", validate_assignment=True, defer_build=True)

    sequence_number: int | None = None
    """The number of the event in the runtime's stream."""
    object: str = "content"
    status: str | None = None
    """See :class:`RunStatus`."""
    error: Error | None = None
    index: int | None = None
    """The position of the part in the content of its message, from 0."""
    delta: bool | None = False
    """Whether this is an increment of a streamed part rather than the whole part."""
    msg_id: str | None = None
    """The id of the message that the part belongs to."""


class TextContent(_Content):
    """A part of a content that is text."""

    type: Annotated[Literal["text", ContentType.TEXT], _PlainStrings()] = "text"
    text: str | None = None


class ImageContent(_Content):
    """A part of a content that is an image."""

    type: Annotated[Literal["image", ContentType.IMAGE], _PlainStrings()] = "image"
    image_url: str | None = None
    """Its URL; ``data:`` URLs hold the image itself."""


class DataContent(_Content):
    """A part of a content that is a JSON object, such as a tool call, its output or a form."""

    type: Annotated[Literal["data", ContentType.DATA], _PlainStrings()] = "data"
    data: dict[Any, Any] | None = None


class AudioContent(_Content):
    """A part of a content that is audio."""

    type: Annotated[Literal["audio", ContentType.AUDIO], _PlainStrings()] = "audio"
    data: str | None = None
    """The audio, usually in base64."""
    format: str | None = None
    """The encoding, such as "wav" or "mp3"."""


class FileContent(_Content):
    """A part of a content that is a file, by URL, by id or by value."""

    type: Annotated[Literal["file", ContentType.FILE], _PlainStrings()] = "file"
    file_url: str | None = None
    file_id: str | None = None
    """The id that the file has with its provider."""
    filename: str | None = None
    file_data: str | None = None
    """The file itself, in base64."""


class RefusalContent(_Content):
    """A part of a content in which the model refuses to answer."""

    type: Annotated[Literal["refusal", ContentType.REFUSAL], _PlainStrings()] = "refusal"
    refusal: str | None = None
    """The text of the refusal."""


Content: TypeAlias = Annotated[
    TextContent | ImageContent | DataContent | AudioContent | FileContent | RefusalContent,
    Field(discriminator="type"),
]
"""A part of a message's content, discriminated by ``type``."""

ContentLike: TypeAlias = str | Sequence[Content | Mapping[str, Any]] | None
"""What is accepted as content: a text, or a list of parts, each an object or a dict of its fields."""


class _TextOrParts:
    """Validates a string as the list of one TextContent; validates and serializes a list as the list alone does.

    For JSON, where stored messages are read, this is a union in Rust whose first choice is the list, so that messages
    with parts take no longer. For Python values it is a function, whose errors are those of the list.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # A schema for each use, because pydantic 2.10 applies the discriminator of a shared one to its first use only.
        text = core_schema.no_info_after_validator_function(_as_parts, core_schema.str_schema())
        json = core_schema.union_schema([(handler(source), "parts"), (text, "text")], mode="left_to_right")
        python = core_schema.no_info_before_validator_function(_as_parts, handler(source))
        # Serializes by its second schema.
        return core_schema.lax_or_strict_schema(core_schema.json_or_python_schema(json, python), handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        if schema["type"] == "lax-or-strict" and handler.mode == "serialization":
            return handler(schema["strict_schema"])
        return handler(schema)


def _as_parts(content: Any) -> Any:
    return [TextContent(text=content)] if isinstance(content, str) else content


OpenAIAPI: TypeAlias = Literal["chat", "responses"]
"""An API of OpenAI's: chat completions, or Responses."""

OpenAILike: TypeAlias = Mapping[str, Any] | BaseModel
"""A message or an item of OpenAI's: a dict, or an object of its package."""


def new_message_id() -> str:
    """Return the id of a message that was given none."""
    return f"msg_{uuid4()}"


_RoleName: TypeAlias = Annotated[
    Literal["assistant", "user", "system", "tool", Role.ASSISTANT, Role.USER, Role.SYSTEM, Role.TOOL], _PlainStrings()
]


class Message(BaseModel):
    """One message of a conversation. Assignments to its fields are validated.

    ``Message.user("Hello")`` and ``Message(role="user", content="Hello")`` are equal, except for their ids.
    """

    model_config = ConfigDict(extra="allow", validate_assignment=True, defer_build=True)

    sequence_number: int | None = None
    """The number of the event in the runtime's stream. Not the position in the session."""
    object: str = "message"
    status: str | None = "created"
    """See :class:`RunStatus`."""
    error: Error | None = None
    id: str = Field(default_factory=new_message_id, strict=True)
    """Unique within the session: a message that is appended again with the same id is not stored twice."""
    type: str = "message"
    """See :class:`MessageType`."""
    role: _RoleName | None = None
    """See :class:`Role`."""
    content: Annotated[list[Content], _TextOrParts()] | None = None
    """The parts of the message, in order; see :class:`ContentType`. A string becomes one TextContent."""
    code: str | None = None
    """The code of an error message."""
    message: str | None = None
    """The text of an error message."""
    usage: dict[Any, Any] | None = None
    """The model's report about the call, such as its numbers of tokens: any JSON object."""
    metadata: dict[Any, Any] | None = None
    """Any JSON object. Memory reads the time of the message from ``metadata["timestamp"]``."""

    if TYPE_CHECKING:
        # Type checkers would derive a signature from the fields, whose types are those of validated values.
        def __init__(
            self,
            *,
            sequence_number: int | None = None,
            object: str = "message",  # noqa: A002 - the name of the field
            status: str | None = "created",
            error: Error | Mapping[str, Any] | None = None,
            id: str = ...,
            type: str = "message",  # noqa: A002
            role: _RoleName | None = None,
            content: ContentLike = None,
            code: str | None = None,
            message: str | None = None,
            usage: dict[Any, Any] | None = None,
            metadata: dict[Any, Any] | None = None,
        ) -> None: ...

    @classmethod
    def user(cls, content: ContentLike, **fields: Any) -> "Self":
        """Return a user's message: a text, or a list of parts. `fields` are other fields of the message."""
        return cls.model_validate({**fields, "role": Role.USER, "content": content})

    @classmethod
    def assistant(cls, content: ContentLike, **fields: Any) -> "Self":
        """Return a message of the model: a text, or a list of parts. `fields` are other fields of the message."""
        return cls.model_validate({**fields, "role": Role.ASSISTANT, "content": content})

    @classmethod
    def system(cls, content: ContentLike, **fields: Any) -> "Self":
        """Return a system message: a text, or a list of parts. `fields` are other fields of the message."""
        return cls.model_validate({**fields, "role": Role.SYSTEM, "content": content})

    @classmethod
    def tool(cls, output: Any, call_id: str | None, *, name: str | None = None, **fields: Any) -> "Self":
        """Return the output of a tool: a message of type "function_call_output".

        Args:
            output: a string; any other JSON value is stored as its JSON text.
            call_id: the id of the call that it answers, which is ``data["call_id"]`` in the message of the call.
            name: the name of the tool.
            fields: other fields of the message.

        Raises:
            InvalidContent: JSON cannot represent the output.
        """
        if output is not None and not isinstance(output, str):
            from agentstore.exact_json import dumps

            output = dumps(output, where="output")
        data = {"call_id": call_id, "output": output, **({} if name is None else {"name": name})}
        return cls.model_validate(
            {
                "type": MessageType.FUNCTION_CALL_OUTPUT,
                **fields,
                "role": Role.TOOL,
                "content": [{"type": ContentType.DATA, "data": data}],
            }
        )

    @classmethod
    def from_openai(cls, message: OpenAILike | Sequence[OpenAILike]) -> "list[Self]":
        """Convert a message of OpenAI's chat completions or an item of its Responses API, or a list of them.

        A message of chat completions becomes one Message for its text, and one for the reasoning before it and for each
        tool call after it. Nothing is lost: fields without a counterpart become metadata, and :meth:`to_openai_all`
        returns what was given. Its ``id``, if it has one, is that of the first Message, and ``id/1``, ``id/2`` and so
        on those of the others.

        Args:
            message: a dict, an object of OpenAI's package, or a list of these.

        Raises:
            InvalidContent: it is not such a message.
        """
        from agentstore.schemas.openai.convert import from_openai

        return from_openai(cls, message)

    def to_openai(self, api: OpenAIAPI = "chat") -> dict[str, Any]:
        """Convert this message to one of OpenAI's chat completions, or to an item of its Responses API.

        Use :meth:`to_openai_all` for a conversation, in which a text and its tool calls are one message.

        Args:
            api: "chat" or "responses".

        Raises:
            InvalidContent: `api` is another value.
        """
        from agentstore.schemas.openai.convert import check_api, write

        check_api(api)
        return write([self], api)

    @staticmethod
    def to_openai_all(messages: "Iterable[Message]", api: OpenAIAPI = "chat") -> list[dict[str, Any]]:
        """Convert the messages of a conversation to those of OpenAI's chat completions, or to Responses items.

        For chat completions, reasoning, text and tool calls that follow each other become one message. Ids, times,
        usage and other metadata are not part of the result, nor are heartbeats. Data without a counterpart is JSON
        text.

        Args:
            messages: such as ``session.messages``, or what ``read_messages`` returns.
            api: "chat" or "responses".

        Raises:
            InvalidContent: `api` is another value.
        """
        from agentstore.schemas.openai.convert import to_openai

        return to_openai(messages, api)

    @property
    def text(self) -> str:
        """All text in the content: of texts, refusals and transcripts, file names, and the strings in data.

        An extra field named "text" is in ``model_extra``.
        """
        return text_of(self)

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            # A validated assignment turns what else is in __dict__ into extra fields.
            place = self.__dict__.pop(_PLACE, None)
            try:
                super().__setattr__(name, value)
            finally:
                if place is not None:
                    self.__dict__[_PLACE] = place

    @property
    def seq(self) -> int | None:
        """Its number in its session, from 1; None if it was not stored. Not a field: it is neither compared nor dumped.

        Messages are ordered by it. After ``delete_messages`` there are numbers without a message.
        """
        place: Place | None = self.__dict__.get(_PLACE)
        return None if place is None else seq_and_time(place)[0]

    @property
    def created_at(self) -> datetime | None:
        """When it was stored (UTC); None if it was not. Not a field: it is neither compared nor dumped."""
        place: Place | None = self.__dict__.get(_PLACE)
        return None if place is None else seq_and_time(place)[1]


Place: TypeAlias = tuple[int, datetime] | bytes
"""Where and when a message is stored: its seq and its created_at, or both in the binary format of Postgres."""
# In __dict__, like a cached property, where pydantic neither compares nor dumps it.
_PLACE: Final = "_place"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # of Postgres, whose timestamps are microseconds since then


def seq_and_time(place: Place) -> tuple[int, datetime]:
    """Return the seq and the created_at."""
    if isinstance(place, tuple):
        return place
    seq, microseconds = _BINARY.unpack(place)
    return seq, _EPOCH + timedelta(microseconds=microseconds)


_BINARY = Struct("!qq")


def place_messages(messages: Iterable[Message], places: Iterable[Place]) -> None:
    """Record the ``seq`` and the ``created_at`` of stored messages."""
    for message, place in zip(messages, places, strict=True):
        vars(message)[_PLACE] = place


MessageLike: TypeAlias = Message | Mapping[str, Any] | None
"""What is accepted as a message: a Message, a dict of its fields, or None, which is skipped.

In both, ``content`` may be a string instead of a list of parts.
"""

MessagesLike: TypeAlias = MessageLike | Sequence[MessageLike]
"""One message or a sequence of them."""


def text_of(message: Message) -> str:
    """Return all text in a message's content."""
    return " ".join(filter(None, map(_text, message.content or ())))


def _text(part: Content) -> str:
    if isinstance(part, TextContent):
        return part.text or ""
    if isinstance(part, RefusalContent):
        return part.refusal or ""
    if isinstance(part, DataContent):
        return " ".join(_strings(part.data))
    if isinstance(part, FileContent):
        return part.filename or ""
    if isinstance(part, AudioContent):
        transcript = (part.model_extra or {}).get("transcript")
        return transcript if isinstance(transcript, str) else ""
    return ""


_WITHOUT_TEXT = (int, float, bool, type(None))


def _strings(value: Any) -> list[str]:
    found, stack = [], [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, (Mapping, list, tuple)):
            spend(len(each))
            values = each.values() if isinstance(each, Mapping) else each
            stack.extend(reversed([inner for inner in values if type(inner) not in _WITHOUT_TEXT]))
    return found
