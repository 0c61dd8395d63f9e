"""Add the messages of imported sessions to the memories of their users."""

from typing import Literal

from agentstore.importing.storing import Sessions
from agentstore.interfaces import MemoryService
from agentstore.schemas import Imported, Session
from agentstore.settings import Settings


class Remembering:
    """Stores sessions as another service does, and adds their messages to memory. Idempotent, as both are.

    Attributes:
        messages: how many messages were added, now or before.
    """

    def __init__(self, sessions: Sessions, memory: MemoryService, settings: Settings) -> None:
        self._sessions = sessions
        self._memory = memory
        self._batch = settings.max_batch
        self.messages = 0

    async def import_session(self, session: Session, *, differences: Literal["keep"]) -> Imported:
        """Store what is missing of a session, then add its messages to memory.

        Messages that the session has with other content are not added.
        """
        imported = await self._sessions.import_session(session, differences=differences)
        messages = [message for message in session.messages if message.id not in imported.differing]
        for start in range(0, len(messages), self._batch):
            await self._memory.add_memory(session.user_id, messages[start : start + self._batch], session.id)
        self.messages += len(messages)
        return imported
