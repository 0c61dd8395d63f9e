"""Messages and their contents: the fields of AgentScope Runtime 1.0, validated by pydantic.

A field that these classes do not know is kept, so what a newer runtime adds to a message comes back too.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field


class Role(StrEnum):
    """Who speaks."""

    ASSISTANT = "assistant"
    USER = "user"
    SYSTEM = "system"
    TOOL = "tool"


class MessageType(StrEnum):
    """What a message is; ``Message.type`` takes other strings too."""

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
    """What a part of a message's content is."""

    TEXT = "text"
    IMAGE = "image"
    DATA = "data"
    AUDIO = "audio"
    FILE = "file"
    REFUSAL = "refusal"


class RunStatus(StrEnum):
    """How far a message or a part of it has come; the names are the runtime's."""

    Created = "created"
    InProgress = "in_progress"
    Completed = "completed"
    Canceled = "canceled"
    Failed = "failed"
    Rejected = "rejected"
    Unknown = "unknown"
    Queued = "queued"
    Incomplete = "incomplete"


class Error(BaseModel):
    """An error that a message or a part of it carries."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str


class _Content(BaseModel):
    model_config = ConfigDict(extra="allow")

    sequence_number: int | None = None
    object: str = "content"
    status: str | None = None
    error: Error | None = None
    index: int | None = None
    delta: bool | None = False
    msg_id: str | None = None


class TextContent(_Content):
    """Text."""

    type: Literal["text"] = "text"
    text: str | None = None


class ImageContent(_Content):
    """An image, by URL or as a data URL."""

    type: Literal["image"] = "image"
    image_url: str | None = None


class DataContent(_Content):
    """A JSON object: a tool call, its output, a form."""

    type: Literal["data"] = "data"
    data: dict[Any, Any] | None = None


class AudioContent(_Content):
    """Audio, usually base64."""

    type: Literal["audio"] = "audio"
    data: str | None = None
    format: str | None = None


class FileContent(_Content):
    """A file, by URL, by id or in place."""

    type: Literal["file"] = "file"
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    file_data: str | None = None


class RefusalContent(_Content):
    """The words in which a model refused."""

    type: Literal["refusal"] = "refusal"
    refusal: str | None = None


Content: TypeAlias = Annotated[
    TextContent | ImageContent | DataContent | AudioContent | FileContent | RefusalContent,
    Field(discriminator="type"),
]


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="allow")

    sequence_number: int | None = None
    object: str = "message"
    status: str | None = "created"
    error: Error | None = None
    id: str = Field(default_factory=lambda: f"msg_{uuid4()}")
    type: str = "message"
    role: Role | None = None
    content: list[Content] | None = None
    code: str | None = None
    message: str | None = None
    usage: dict[Any, Any] | None = None
    metadata: dict[Any, Any] | None = None


MessageLike: TypeAlias = Message | Mapping[str, Any] | None
"""What is accepted where a message is: a Message, a dict that is one, or None, which is passed over."""

MessagesLike: TypeAlias = MessageLike | Sequence[MessageLike]
