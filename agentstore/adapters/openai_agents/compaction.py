"""What the SDK's OpenAIResponsesCompactionSession needs to replace the end of a conversation by a summary."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentstore.errors import Conflict, NotFound, UnreadableRow
from agentstore.interfaces import SessionHistoryService
from agentstore.schemas import Message
from agentstore.schemas.openai.convert import from_item

# Of delete_messages.
_LARGEST_BATCH = 10_000


@dataclass(frozen=True)
class CompactionSnapshot:
    """The latest items of a conversation, which can be replaced if no item was added or removed since."""

    items: list[Any]
    """The items in chronological order."""
    complete: bool
    """Whether these are all items of the conversation."""
    replace_suffix: Callable[[int, Sequence[Any]], Awaitable[bool]]
    """Replaces the items from a position in `items` on by others; returns False if the conversation was changed."""


async def read_snapshot(
    sessions: SessionHistoryService,
    user_id: str,
    session_id: str,
    limit: int,
    prune_prefix: Callable[[Any], bool] | None = None,
) -> CompactionSnapshot | None:
    """Return a snapshot of the last `limit` items, or None if the session does not exist, or cannot be read.

    `prune_prefix` tells which of the first items of the conversation are deleted when items are replaced: the SDK's
    EncryptedSession passes it for items that have expired.
    """
    try:
        session = await sessions.get_session(user_id, session_id, limit=limit)
    except UnreadableRow:
        return None
    if session is None:
        return None
    count = session.message_count or 0
    written = [(message.id, Message.to_openai_all([message], "responses")) for message in session.messages]
    ids = [id for id, items in written for _ in items]

    async def replace_suffix(start: int, output: Sequence[Any]) -> bool:
        replaced = ids[start:]
        messages = [from_item(item) for item in output]
        if not replaced or not messages:
            return False
        # Two statements, in this order: if the second one is not executed, the conversation has both the items and
        # their summary. Nothing that another process adds is removed.
        try:
            await sessions.append(user_id, session_id, messages, create=False, expected_seq=count)
        except (Conflict, NotFound):
            return False
        if prune_prefix is not None:
            replaced += await _first_ids(sessions, user_id, session_id, set(replaced), prune_prefix)
        for first in range(0, len(replaced), _LARGEST_BATCH):
            await sessions.delete_messages(user_id, session_id, replaced[first : first + _LARGEST_BATCH])
        return True

    return CompactionSnapshot([item for _, items in written for item in items], count <= limit, replace_suffix)


async def _first_ids(
    sessions: SessionHistoryService, user_id: str, session_id: str, end: set[str], is_pruned: Callable[[Any], bool]
) -> list[str]:
    """Return the ids of the first messages whose items are pruned, up to one that is not, or that is in `end`."""
    found = []
    messages = sessions.iter_messages(user_id, session_id)
    try:
        async for message in messages:
            if message.id in end or not all(map(is_pruned, Message.to_openai_all([message], "responses"))):
                break
            found.append(message.id)
    finally:
        if isinstance(messages, AsyncGenerator):
            await messages.aclose()
    return found
