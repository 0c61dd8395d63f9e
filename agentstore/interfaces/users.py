"""The interface of users."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import Deleted, Page, User


class UserService(ServiceWithLifecycleManager):
    """Users: created when first needed, and deleted with all their data."""

    @abstractmethod
    async def get_user(self, user_id: str, *, stale_ok: bool = False) -> User | None:
        """Return a user, or None. A user exists once data of the user was stored.

        With `stale_ok` it may be read from a replica, see :mod:`agentstore.interfaces`.
        """

    @abstractmethod
    async def list_users(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[User]:
        """Return a page of users, ordered by id.

        Args:
            prefix: only users whose id begins with this text, compared byte by byte.
            limit: the size of the page.
            cursor: ``next_cursor`` of the previous page.
            stale_ok: whether the users may be read from a replica.

        Raises:
            InvalidContent: `prefix`, `limit` or `cursor` is invalid.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def set_metadata(self, user_id: str, metadata: Mapping[str, Any]) -> User:
        """Replace the metadata of a user, any JSON object, and return the user, created if missing.

        Raises:
            InvalidContent, LimitExceeded: the metadata cannot be represented as JSON, or is too large.
        """

    @abstractmethod
    async def delete_user(self, user_id: str) -> Deleted:
        """Delete a user and all of the user's data; return the number of rows by kind, without the user. Idempotent.

        Safe during concurrent writes for the user: they are deleted too, or create the user again afterwards. No row
        is left without its owner. A user with more than 50,000 rows is deleted in several transactions, the user last:
        if the call fails, part of the data is deleted, and the call is safe to repeat.
        """
