"""An agent's long-term memory of a user, across sessions."""

# pyright: reportMissingImports=false
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from agentscope.memory import LongTermMemoryBase
from agentscope.message import Msg, TextBlock
from agentscope.tool import ToolResponse

from agentstore.adapters.agentscope.messages import list_of_msgs, to_message
from agentstore.errors import AgentStoreError
from agentstore.interfaces import MemoryService
from agentstore.schemas import Message, TextContent
from agentstore.schemas.message import text_of


class AgentScopeLongTermMemory(LongTermMemoryBase):  # type: ignore[misc]
    """An agent's memory of a user: recorded under one session, searched across all of the user's sessions."""

    def __init__(self, service: Any, user_id: str, session_id: str) -> None:
        """Create the memory. `service` is a MemoryService."""
        super().__init__()
        self._memory: MemoryService = getattr(service, "inner", service)
        self.user_id = user_id
        self.session_id = session_id

    async def record(self, msgs: Any, **_: Any) -> None:
        """Record messages, each once. Messages that were retrieved from this memory are not recorded again.

        Raises:
            TypeError: an item is neither a Msg nor None.
        """
        messages = [
            to_message(msg, msg.id)
            for msg in list_of_msgs(
                msgs if isinstance(msgs, Msg) else [each for each in msgs or () if each is not None]
            )
            if msg.name != "long_term_memory"
        ]
        await self._memory.add_memory(self.user_id, messages, self.session_id)

    async def retrieve(self, msg: Any, limit: int = 5, **_: Any) -> str:
        """Return the memories that match a Msg, or each Msg of a list, one per line; `limit` applies to each Msg.

        Raises:
            TypeError: an item is not a Msg.
        """
        queries = [each.get_text_content() or "" for each in list_of_msgs(msg)]
        return "\n".join(await self._search(queries, limit))

    async def record_to_memory(self, thinking: str, content: list[str], **_: Any) -> ToolResponse:
        """Use this function to record important information that you may need later.

        The content should be specific and concise: who, when, where, what, why, how.

        Args:
            thinking (`str`):
                Your reasoning about what to record.
            content (`list[str]`):
                The facts to remember, one string for each.
        """
        timestamp = datetime.now().astimezone().isoformat()
        messages = [
            Message(
                role="assistant",
                content=[TextContent(text=each)],
                metadata={"timestamp": timestamp, "thinking": thinking},
            )
            for each in content
        ]
        try:
            await self._memory.add_memory(self.user_id, messages, self.session_id)
        except AgentStoreError as error:
            return _response(f"Nothing was recorded: {error}")
        return _response(f"Recorded: {len(messages)}.")

    async def retrieve_from_memory(self, keywords: list[str], limit: int = 5, **_: Any) -> ToolResponse:
        """Retrieve what was recorded about keywords.

        Args:
            keywords (`list[str]`):
                What to search for, specific and concise: a name, a date, a place. Each keyword is a separate search.
            limit (`int`, optional):
                The maximum number of memories to retrieve for each keyword.
        """
        try:
            lines = await self._search(keywords, limit)
        except AgentStoreError as error:
            return _response(f"Nothing could be retrieved: {error}")
        return _response("\n".join(lines) or "Nothing is known about that.")

    async def _search(self, queries: Iterable[str], limit: int) -> list[str]:
        lines: dict[str, None] = {}
        for query in queries:
            message = Message(role="user", content=[TextContent(text=query)])
            found = await self._memory.search_memory(self.user_id, message, {"top_k": limit})
            lines |= dict.fromkeys(map(_line, found))
        return list(lines)


def _line(message: Message) -> str:
    """Return a memory as the model reads it: date, speaker and text."""
    metadata = message.metadata or {}
    timestamp = metadata.get("timestamp")
    day = f"[{timestamp[:10]}] " if isinstance(timestamp, str) else ""
    return f"{day}{metadata.get('name') or message.role}: {text_of(message)}"


def _response(text: str) -> ToolResponse:
    return ToolResponse(content=[TextBlock(type="text", text=text)])
