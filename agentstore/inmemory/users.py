"""The user service without a database, for tests."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agentstore.errors import Closed
from agentstore.exact_json import loads
from agentstore.interfaces.users import UserService
from agentstore.schemas import Deleted, Page, User
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, dump_metadata
from agentstore.settings import Settings, settings_from_environment


@dataclass
class StoredUser:
    """A user."""

    metadata: str = "{}"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class InMemoryUserService(UserService):
    """Users in memory, for tests. They are lost when the process ends.

    See :class:`agentstore.UserService` for what each method does and raises.
    """

    def __init__(
        self, *, delete_data: Callable[[str], Awaitable[Deleted]] | None = None, settings: Settings | None = None
    ) -> None:
        """Create an empty service. `delete_data` deletes the data of a user in other services, and counts it."""
        self._settings = settings or settings_from_environment()
        self._delete_data = delete_data
        self._users: dict[str, StoredUser] = {}
        self._started = self._stopped = False

    async def start(self) -> None:  # noqa: D102 - documented in the interface
        self._started, self._stopped = True, False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:  # noqa: D102
        return self._started

    def _add(self, user_id: str) -> None:
        """Create a user, unless it exists."""
        self._users.setdefault(user_id, StoredUser())

    def _ids(self) -> list[str]:
        """Return the ids of all users in order."""
        return sorted(self._users, key=str.encode)

    async def get_user(self, user_id: str, *, stale_ok: bool = False) -> User | None:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        self._check_open()
        return self._user(user_id) if user_id in self._users else None

    async def list_users(  # noqa: D102
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[User]:
        check_id(prefix, "prefix", self._settings)
        check_count(limit, "limit", maximum=self._settings.max_page)
        after = None if cursor is None else str(read_cursor(cursor, str)[0]).encode()
        self._check_open()
        matching = (id for id in self._ids() if id.startswith(prefix))
        ids = [id for id in matching if after is None or id.encode() > after][:limit]
        return Page(map(self._user, ids), write_cursor(ids[-1]) if ids and len(ids) == limit else None)

    async def set_metadata(self, user_id: str, metadata: Mapping[str, Any]) -> User:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        text = dump_metadata(metadata, self._settings)
        self._check_open()
        self._add(user_id)
        self._users[user_id].metadata = text
        return self._user(user_id)

    async def delete_user(self, user_id: str) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        self._check_open()
        self._users.pop(user_id, None)
        return Deleted() if self._delete_data is None else await self._delete_data(user_id)

    def _user(self, user_id: str) -> User:
        stored = self._users[user_id]
        return User(id=user_id, metadata=loads(stored.metadata), created_at=stored.created_at)

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True
