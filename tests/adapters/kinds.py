"""The application's classes: the runtime's if it is installed (`make runtime`), else agentstore's."""

from typing import Any

from agentstore.adapters.agentscope_runtime.upstream import message_classes

_classes = message_classes()
Session: Any = _classes.session
Message: Any = _classes.message
_parts: Any = {own.__name__: kind for own, kind in _classes._class_of.items()}
TextContent, DataContent, ImageContent = _parts["TextContent"], _parts["DataContent"], _parts["ImageContent"]
Error = _parts["Error"]


def text_message(text: str, role: str = "user", **fields: Any) -> Any:
    return Message(role=role, content=[TextContent(text=text)], **fields)


def texts(messages: list[Any]) -> list[str]:
    return [message.content[0].text for message in messages]
