"""The application's classes: the runtime's where it is installed (`make runtime`), ours everywhere else."""

from typing import Any

from agentstore.adapters import _upstream

_classes = _upstream.classes()
Session: Any = _classes.session
Message: Any = _classes.message
_parts: Any = {ours.__name__: kind for ours, kind in _classes._made_of.items()}
TextContent, DataContent, ImageContent = _parts["TextContent"], _parts["DataContent"], _parts["ImageContent"]
Error = _parts["Error"]


def said(text: str, role: str = "user", **fields: Any) -> Any:
    return Message(role=role, content=[TextContent(text=text)], **fields)


def texts(messages: list[Any]) -> list[str]:
    return [message.content[0].text for message in messages]
