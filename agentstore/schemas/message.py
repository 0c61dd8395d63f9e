"""Messages and their contents: the fields of AgentScope Runtime 1.0, validated by pydantic.

Fields that these classes do not define are accepted and stored, so that what a newer release of the runtime adds to a
message round-trips too. Types, states and kinds of content are plain strings; :class:`Role`, :class:`MessageType`,
:class:`ContentType` and :class:`RunStatus` name the known values.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field


class Role:
    """The values of ``Message.role``: who wrote the message."""

    ASSISTANT: Final = "assistant"
    USER: Final = "user"
    SYSTEM: Final = "system"
    TOOL: Final = "tool"


class MessageType:
    """The known values of ``Message.type``, which accepts other strings too."""

    MESSAGE: Final = "message"
    FUNCTION_CALL: Final = "function_call"
    FUNCTION_CALL_OUTPUT: Final = "function_call_output"
    PLUGIN_CALL: Final = "plugin_call"
    PLUGIN_CALL_OUTPUT: Final = "plugin_call_output"
    COMPONENT_CALL: Final = "component_call"
    COMPONENT_CALL_OUTPUT: Final = "component_call_output"
    MCP_LIST_TOOLS: Final = "mcp_list_tools"
    MCP_APPROVAL_REQUEST: Final = "mcp_approval_request"
    MCP_APPROVAL_RESPONSE: Final = "mcp_approval_response"
    MCP_TOOL_CALL: Final = "mcp_call"
    MCP_TOOL_CALL_OUTPUT: Final = "mcp_call_output"
    REASONING: Final = "reasoning"
    HEARTBEAT: Final = "heartbeat"
    ERROR: Final = "error"


class ContentType:
    """The values of ``type`` in a part of a message's content."""

    TEXT: Final = "text"
    IMAGE: Final = "image"
    DATA: Final = "data"
    AUDIO: Final = "audio"
    FILE: Final = "file"
    REFUSAL: Final = "refusal"


class RunStatus:
    """The known values of ``status`` of a message or a part of it; the attributes are named as in the runtime."""

    Created: Final = "created"
    InProgress: Final = "in_progress"
    Completed: Final = "completed"
    Canceled: Final = "canceled"
    Failed: Final = "failed"
    Rejected: Final = "rejected"
    Unknown: Final = "unknown"
    Queued: Final = "queued"
    Incomplete: Final = "incomplete"


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

    type: Literal["text"] = "text"
    text: str | None = None


class ImageContent(_Content):
    """A part of a content that is an image."""

    type: Literal["image"] = "image"
    image_url: str | None = None
    """Its URL; ``data:`` URLs hold the image itself."""


class DataContent(_Content):
    """A part of a content that is a JSON object, such as a tool call, its output or a form."""

    type: Literal["data"] = "data"
    data: dict[Any, Any] | None = None


class AudioContent(_Content):
    """A part of a content that is audio."""

    type: Literal["audio"] = "audio"
    data: str | None = None
    """The audio, usually in base64."""
    format: str | None = None
    """The encoding, such as "wav" or "mp3"."""


class FileContent(_Content):
    """A part of a content that is a file, by URL, by id or by value."""

    type: Literal["file"] = "file"
    file_url: str | None = None
    file_id: str | None = None
    """The id that the file has with its provider."""
    filename: str | None = None
    file_data: str | None = None
    """The file itself, in base64."""


class RefusalContent(_Content):
    """A part of a content in which the model refuses to answer."""

    type: Literal["refusal"] = "refusal"
    refusal: str | None = None
    """The text of the refusal."""


Content: TypeAlias = Annotated[
    TextContent | ImageContent | DataContent | AudioContent | FileContent | RefusalContent,
    Field(discriminator="type"),
]
"""A part of a message's content, discriminated by ``type``."""


class Message(BaseModel):
    """One message of a conversation. Assignments to its fields are validated."""

    model_config = ConfigDict(extra="allow", validate_assignment=True, defer_build=True)

    sequence_number: int | None = None
    """The number of the event in the runtime's stream. Not the position in the session."""
    object: str = "message"
    status: str | None = "created"
    """See :class:`RunStatus`."""
    error: Error | None = None
    id: str = Field(default_factory=lambda: f"msg_{uuid4()}", strict=True)
    """Unique within the session: a message that is appended again with the same id is not stored twice."""
    type: str = "message"
    """See :class:`MessageType`."""
    role: Literal["assistant", "user", "system", "tool"] | None = None
    """See :class:`Role`."""
    content: list[Content] | None = None
    """The parts of the message, in order; see :class:`ContentType`."""
    code: str | None = None
    """The code of an error message."""
    message: str | None = None
    """The text of an error message."""
    usage: dict[Any, Any] | None = None
    """The model's report about the call, such as its numbers of tokens: any JSON object."""
    metadata: dict[Any, Any] | None = None
    """Any JSON object. Memory reads the time of the message from ``metadata["timestamp"]``."""


MessageLike: TypeAlias = Message | Mapping[str, Any] | None
"""What is accepted as a message: a Message, a dict of its fields, or None, which is skipped."""

MessagesLike: TypeAlias = MessageLike | Sequence[MessageLike]
"""One message or a sequence of them."""
