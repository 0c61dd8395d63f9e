"""The sessions in which the conversations of a user are stored, and the lines of entries in them."""

# pyright: reportMissingImports=false
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

from agentstore import offload
from agentstore.adapters.pydantic_ai.entries import EntryId, EntryNotFound, Place, parent_of
from agentstore.adapters.pydantic_ai.records import SCOPE_KEY
from agentstore.errors import LimitExceeded, NotFound
from agentstore.interfaces import StoreSessionHistoryService
from agentstore.schemas import Session

UserOf: TypeAlias = str | Callable[[], str] | None
"""The owner of the conversations: an id, a function that returns it, or None for a user for each conversation."""

_PAGE = 200
# How many entries are read at once where all of them are too large for one response.
_PART = 1_000


class Log:
    """The entries that the owner of the conversations has stored."""

    def __init__(self, sessions: StoreSessionHistoryService, user_of: UserOf, app: str) -> None:
        self.sessions = sessions
        self._user_of = user_of
        self._app = app

    def place_of(self, conversation_id: str) -> Place:
        """Return where a conversation is stored."""
        user_of = self._user_of
        user_id = conversation_id if user_of is None else user_of() if callable(user_of) else user_of
        return Place(user_id, conversation_id)

    async def read_line(self, head_id: str, limit: int | None) -> tuple[Place, list[dict[str, Any]]]:
        """Return the stored messages of the entries up to `head_id`, at most `limit` of them, and where they are.

        Raises:
            EntryNotFound: there is no such entry.
        """
        if isinstance(head_id, EntryId) and head_id.place is not None:
            try:
                return head_id.place, await self._read_line_in(head_id.place, head_id, limit)
            except EntryNotFound:  # the conversation was deleted: a fork may have the entry
                if self._user_of is None:
                    raise
        place = await self._find(head_id)
        return place, await self._read_line_in(place, head_id, limit)

    async def _read_line_in(self, place: Place, head_id: str, limit: int | None) -> list[dict[str, Any]]:
        newest_first: list[dict[str, Any]] = []
        wanted: str | None = head_id
        size = limit
        while wanted is not None and (limit is None or len(newest_first) < limit):
            try:
                page = await self.sessions.read_messages(*place, limit=size, through=wanted)
            except NotFound:
                page = None
            except LimitExceeded:
                if size == 1:
                    raise
                size = _PART if size is None else max(1, size // 2)
                continue
            if not page:
                raise EntryNotFound(f"conversation {place.conversation_id!r} has no entry {wanted!r}")
            for stored in reversed(await offload.run(page.dicts)):
                if stored["id"] == wanted:  # not an entry of another branch, or a message of another program
                    newest_first.append(stored)
                    wanted = parent_of(stored, place)
                    if wanted is None or len(newest_first) == limit:
                        break
        return newest_first[::-1]

    async def _find(self, entry_id: str) -> Place:
        """Return the place of an entry among the conversations of the user.

        Raises:
            EntryNotFound: no conversation has it.
        """
        if self._user_of is None:
            raise EntryNotFound(
                f"the conversation of entry {entry_id!r} is not known: create the store with user_id, or read the "
                "conversation"
            )
        user_id = self.place_of("").user_id
        conversation_id = await self.sessions.find_message(user_id, entry_id)
        if conversation_id is not None:
            return Place(user_id, conversation_id)
        raise EntryNotFound(f"the user has no conversation with the entry {entry_id!r}")

    async def iter_sessions(self, *, scope: str | None = None, page: int = _PAGE) -> AsyncGenerator[Session, None]:
        """Iterate over the sessions of the user, or of all users in the application, the last used first.

        They are read in pages of `page` sessions.
        """
        filters: dict[str, Any] = {}
        if scope is not None:
            filters["metadata"] = {SCOPE_KEY: scope}
        if self._user_of is None:
            filters |= {"user_id": None, "app": self._app}
        else:
            filters["user_id"] = self.place_of("").user_id
        cursor = None
        while True:
            found = await self.sessions.list_sessions(limit=min(page, _PAGE), cursor=cursor, **filters)
            for session in found:
                if self._user_of is not None or session.user_id == session.id:
                    yield session
            cursor = found.next_cursor
            if cursor is None:
                return
