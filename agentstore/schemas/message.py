"""Messages and their contents: the fields of AgentScope Runtime 1.0, validated by pydantic.

A field that these classes do not know is kept, so what a newer runtime adds to a message comes back too. Roles, types
and states are plain strings; the classes that name them only spare the typing.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field


class Role:
    """Who speaks."""

    ASSISTANT: Final = "assistant"
    USER: Final = "user"
    SYSTEM: Final = "system"
    TOOL: Final = "tool"


class MessageType:
    """What a message is; ``Message.type`` takes other strings too."""

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
    """What a part of a message's content is."""

    TEXT: Final = "text"
    IMAGE: Final = "image"
    DATA: Final = "data"
    AUDIO: Final = "audio"
    FILE: Final = "file"
    REFUSAL: Final = "refusal"


class RunStatus:
    """How far a message or a part of it has come; the names are the runtime's."""

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
    """An error that a message or a part of it carries."""

    model_config = ConfigDict(extra="allow", validate_assignment=True)

    code: str
    message: str


class _Content(BaseModel):
    model_config = ConfigDict(extra="allow", validate_assignment=True)

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

    model_config = ConfigDict(extra="allow", validate_assignment=True)

    sequence_number: int | None = None
    object: str = "message"
    status: str | None = "created"
    error: Error | None = None
    id: str = Field(default_factory=lambda: f"msg_{uuid4()}")
    type: str = "message"
    role: Literal["assistant", "user", "system", "tool"] | None = None
    content: list[Content] | None = None
    code: str | None = None
    message: str | None = None
    usage: dict[Any, Any] | None = None
    metadata: dict[Any, Any] | None = None


MessageLike: TypeAlias = Message | Mapping[str, Any] | None
"""What is accepted where a message is: a Message, a dict that is one, or None, which is passed over."""

MessagesLike: TypeAlias = MessageLike | Sequence[MessageLike]
