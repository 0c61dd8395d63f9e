"""The runtime's SessionHistoryService."""

import logging
from typing import Any, Literal

from agentstore import repositories
from agentstore.adapters.agentscope_runtime.service import PostgresService
from agentstore.adapters.agentscope_runtime.upstream import message_classes
from agentstore.database.database import Database
from agentstore.errors import NotFound
from agentstore.schemas import Session
from agentstore.schemas.payload import check_id
from agentstore.schemas.session import extend_messages

_log = logging.getLogger(__name__)

_PAGE = 1_000


class PostgresSessionHistoryService(PostgresService):
    """The runtime's SessionHistoryService on Postgres.

    By default, as in the runtime's in-memory and Tablestore services, `get_session` creates a missing session, and
    `append_message` to a missing session logs a warning and stores nothing. With ``compat="redis"`` the former returns
    None, and the latter creates the session. `max_messages_per_session` limits how many messages are returned, not how
    many are stored.
    """

    UPSTREAM_NAME = "session_history.session_history_service.SessionHistoryService"

    def _open(self) -> None:
        get: Literal["error", "create"]
        append: Literal["error", "create"]
        get, append = ("error", "create") if self._compat == "redis" else ("create", "error")
        self._reads = _Sessions(self._shared.database, get, self._ttl)
        self._appends = _Sessions(self._shared.database, append, self._ttl)
        self.inner = repositories.PostgresSessionHistoryService(database=self._shared.database)
        """The wrapped service, with agentstore's own methods and classes."""

    async def create_session(self, user_id: str, session_id: str | None = None) -> Any:
        """Create a session, or return the existing one unchanged. The runtime's services empty an existing one."""
        await self._ensure_started()
        if self._max_messages is None:
            return await self._reads.create_session(user_id, session_id)
        created = await self.inner.create_session(user_id, session_id, ttl=self._ttl, messages=False)
        return await self._reads.get_session(created.user_id, created.id, limit=self._max_messages)

    async def get_session(self, user_id: str, session_id: str) -> Any:
        """Return a session with its messages; a missing one is created, or None with ``compat="redis"``."""
        await self._ensure_started()
        found = await self._reads.get_session(user_id, session_id, limit=self._max_messages)
        if found is not None and self._ttl is not None:
            await self.inner.touch(user_id, session_id, idle=self._touch_interval)
        return found

    async def list_sessions(self, user_id: str) -> list[Any]:
        """Return all sessions of a user, without their messages."""
        await self._ensure_started()
        classes = message_classes()
        check_id(user_id, "user_id", self._shared.database.settings)  # None would list the sessions of all users
        found = await self.inner.list_sessions(user_id)
        return list(found) if classes.is_own else [classes.session(id=each.id, user_id=each.user_id) for each in found]

    async def append_message(self, session: Any, message: Any) -> None:
        """Append a message or a list of messages, each a Message or a dict, to the stored session.

        They are added to `session.messages` after they are stored.
        """
        await self._ensure_started()
        classes = message_classes()
        many = message if isinstance(message, (list, tuple)) else [message]
        messages = [classes.validate(each) for each in many if each is not None]
        own = [classes.to_own(each) for each in messages]
        # Not validated here, so that the service refuses an invalid id with an error of agentstore.
        target = Session.model_construct(id=session.id, user_id=session.user_id, messages=[])
        try:
            await self._appends.append_message(target, own)
        except NotFound:
            if self._compat == "redis":
                raise
            _log.warning("user %r has no session %r: the appended messages are not stored", target.user_id, target.id)
        extend_messages(session, messages, target.updated_at, target.message_count)
        if self._max_messages is not None:
            del session.messages[: -self._max_messages]

    async def delete_session(self, user_id: str, session_id: str) -> None:
        """Delete a session, if it exists."""
        await self._ensure_started()
        await self.inner.delete_session(user_id, session_id)

    async def delete_user_sessions(self, user_id: str) -> None:
        """Delete all sessions of a user."""
        await self._ensure_started()
        check_id(user_id, "user_id", self._shared.database.settings)
        cursor = None
        while True:
            # By creation: sessions that are created meanwhile are not deleted.
            page = await self.inner.list_sessions(user_id, order="created", limit=_PAGE, cursor=cursor)
            for session in page:
                await self.inner.delete_session(user_id, session.id)
            cursor = page.next_cursor
            if cursor is None:
                return


class _Sessions(repositories.PostgresSessionHistoryService):
    """Sessions of the application's class, each created with a time to live."""

    def __init__(self, database: Database, missing_session: Literal["error", "create"], ttl: int | None) -> None:
        super().__init__(database=database, missing_session=missing_session)
        self._ttl = ttl

    async def _create(self, user_id: str, session_id: str, **options: Any) -> Any:
        return await super()._create(user_id, session_id, **{**options, "ttl": self._ttl})

    def _session(self, user_id: str, session_id: str, found: Any) -> Any:
        classes = message_classes()
        if classes.is_own:
            return super()._session(user_id, session_id, found)
        messages = classes.load(found.payloads, user_id, session_id)
        return classes.session.model_construct(id=session_id, user_id=user_id, messages=messages)
