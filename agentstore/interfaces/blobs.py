"""The interface of blobs: versioned files of users."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Any

from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import Blob, BlobData, Deleted, Page


class BlobService(ServiceWithLifecycleManager):
    """Files of users, by name, in numbered versions. Equal contents of a user are stored once.

    A name is any id, such as "images/plan.png". Files belong to a user, to a session (None or "" is the session
    "default", which need not exist) and to an application (by default the one without a name, ""). They remain when the
    session is deleted, and forks do not copy them.
    """

    @abstractmethod
    async def put(
        self,
        user_id: str,
        name: str,
        data: BlobData,
        session_id: str | None = None,
        *,
        app: str = "",
        content_type: str | None = None,
        filename: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Blob:
        """Store a new version of a blob, and return it: version 0, or the one after the highest existing one.

        The content is read as a whole before anything is written, with bounded memory. Concurrent calls get different
        versions.

        Args:
            user_id: the owner, created if missing.
            name: the name.
            data: bytes, a file open for reading in binary mode, or an async iterator of bytes.
            session_id: the session.
            app: the application.
            content_type: the media type, at most 10,000 characters.
            filename: a file name to show to users, at most 10,000 characters.
            metadata: any JSON object.

        Raises:
            InvalidContent: an argument is invalid; nothing was written.
            LimitExceeded: the content is over 100 MB, or the metadata too large; nothing was written.
            UnknownOutcome: the response was lost: the version may have been stored.
        """

    @abstractmethod
    async def get(
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
        stale_ok: bool = False,
    ) -> Blob | None:
        """Return a version of a blob without its content, by default the highest one; None if it does not exist.

        With `stale_ok` it may be read from a replica, see :mod:`agentstore.interfaces`.

        Raises:
            InvalidContent: `version` is not an integer >= 0.
        """

    @abstractmethod
    def read(
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
        stale_ok: bool = False,
    ) -> AsyncIterator[bytes]:
        """Iterate over the content of a version in parts of at most 500 KB; an empty content has none.

        No connection is held between two parts. With `stale_ok` they may be read from a replica.

        Raises:
            NotFound: it does not exist, or was deleted while it was read.
            InvalidContent: `version` is not an integer >= 0.
        """

    @abstractmethod
    async def list(
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        app: str = "",
        prefix: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Blob]:
        """Return the highest version of each blob of a session whose name begins with `prefix`, ordered by name.

        Args:
            user_id: the owner.
            session_id: the session.
            app: the application.
            prefix: the beginning of the names, compared byte by byte.
            limit: the size of the page; None returns all.
            cursor: ``next_cursor`` of the previous page.
            stale_ok: whether they may be read from a replica.

        Raises:
            InvalidContent: `limit`, `cursor` or `prefix` is invalid.
            LimitExceeded: `limit` is over 10,000, or the page has more than 256 MB.
        """

    @abstractmethod
    async def list_of_user(
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[Blob]:
        """Return the highest version of each blob of a user, of all sessions and applications.

        They are ordered by session, application and name. Arguments and errors are those of :meth:`list`.
        """

    @abstractmethod
    async def list_versions(
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Blob]:
        """Return the versions of a blob, highest first. Arguments and errors are those of :meth:`list`."""

    @abstractmethod
    async def delete(
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
    ) -> Deleted:
        """Delete a version of a blob, or with None all of its versions; return how many. Idempotent.

        The content is deleted with the last version of the user that has it.

        Raises:
            InvalidContent: an argument is invalid.
        """

    @abstractmethod
    async def delete_all(self, user_id: str, session_id: str | None = None, *, app: str = "") -> Deleted:
        """Delete all blobs of a session in an application; return how many versions there were. Idempotent."""
