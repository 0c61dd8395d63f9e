"""The interface of the states of agents, and of scoped values."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import Deleted, Page, ScopedValues, Session, StateRound, ValueScope


class StateService(ServiceWithLifecycleManager):
    """The states of agents: JSON objects in numbered rounds of a session; and scoped values.

    The session id None or "" is the session "default". States do not require a session with messages.

    Scoped values are JSON values by key, changed one by one and without history. Those of an application are shared by
    all of its users, those of a user by the user's sessions in that application; those of a session belong to an
    existing session, and are deleted with it.
    """

    @abstractmethod
    async def save_state(
        self,
        user_id: str,
        state: Mapping[str, Any],
        session_id: str | None = None,
        round_id: int | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_round: int | None = None,
    ) -> int:
        """Save a state and return its round number.

        Concurrent saves get different numbers, and the number of a deleted round is not used again.

        Args:
            user_id: the owner, created if missing.
            state: any JSON object.
            session_id: the session.
            round_id: the round to write, from 1; an existing one is overwritten. None adds the next round, from 1.
            metadata: any JSON object about the round.
            expected_round: save only if this is the highest existing round (0: there is none). This is optimistic
                locking: of two saves based on the same state, the second one raises Conflict.

        Raises:
            Conflict: `expected_round` is not the highest round; nothing was written.
            InvalidContent: the state or the metadata is not a JSON object, a round is not an integer from 1 (from 0
                for `expected_round`), or both `round_id` and `expected_round` are given.
            LimitExceeded: the state is over 64 MB, or nested over 200 levels.
        """

    @abstractmethod
    async def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None, *, stale_ok: bool = False
    ) -> dict[str, Any] | None:
        """Return a copy of the state of a round, by default of the highest one; None if it does not exist.

        With `stale_ok` it may be read from a replica, see :mod:`agentstore.interfaces`.

        Raises:
            InvalidContent: `round_id` is not an integer >= 1.
        """

    @abstractmethod
    async def list_states(
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[StateRound]:
        """Return the rounds of a session without their states, highest first.

        Args:
            user_id: the owner.
            session_id: the session.
            limit: the size of the page; None returns all.
            cursor: ``next_cursor`` of the previous page.
            stale_ok: whether the rounds may be read from a replica.

        Raises:
            InvalidContent: `limit` or `cursor` is invalid.
            LimitExceeded: `limit` is over 10,000, or the page has more than 256 MB.
        """

    @abstractmethod
    async def delete_state(self, user_id: str, session_id: str | None = None, round_id: int | None = None) -> Deleted:
        """Delete one round, or with None all rounds of a session; return their number. Idempotent.

        After all rounds of a session were deleted, numbers start at 1 again.

        Raises:
            InvalidContent: `round_id` is not an integer >= 1.
        """

    @abstractmethod
    async def diff_states(
        self, user_id: str, a: int, b: int, session_id: str | None = None, *, stale_ok: bool = False
    ) -> list[dict[str, Any]]:
        """Return the JSON Patch (RFC 6902) that turns the state of round `a` into that of round `b`.

        In states of more than about 1 MB a list that differs is replaced as a whole.

        With `stale_ok` the states may be read from a replica, see :mod:`agentstore.interfaces`.

        Raises:
            NotFound: a round does not exist.
            InvalidContent: `a` or `b` is not an integer >= 1.
        """

    @abstractmethod
    async def get_values(
        self,
        user_id: str | None,
        session_id: str | None = None,
        *,
        app: str = "",
        scope: ValueScope | None = None,
        stale_ok: bool = False,
    ) -> ScopedValues:
        """Return the values of an application, of a user in it, and of a session; ``merged()`` joins them.

        A session that does not exist has no values.

        Args:
            user_id: the user; None reads the values of the application only.
            session_id: the session; None reads none.
            app: the application. By default the one without a name, "".
            scope: read only "app", "user" or "session".
            stale_ok: whether the values may be read from a replica, see :mod:`agentstore.interfaces`.

        Raises:
            InvalidContent: an id or the scope is invalid, or the ids do not name it.
            LimitExceeded: the values have more than 256 MB.
        """

    @abstractmethod
    async def get_values_of(
        self, sessions: Sequence[Session], *, app: str = "", stale_ok: bool = False
    ) -> list[ScopedValues]:
        """Return the values of each of several sessions, such as a page of ``list_sessions``, in their order.

        One statement reads them all. Each result is what :meth:`get_values` returns for the session; those of one user
        may share the values of the user, and all may share those of the application. Those of a scope are parsed when
        they are first accessed, which raises UnreadableRow if another program has stored what cannot be parsed.

        Args:
            sessions: the sessions, of which only ``user_id`` and ``id`` matter.
            app: the application. By default the one without a name, "".
            stale_ok: whether the values may be read from a replica, see :mod:`agentstore.interfaces`.

        Raises:
            InvalidContent: something is not a session, or an id is invalid.
            LimitExceeded: there are over 10,000 sessions, or the values have more than 256 MB.
            NotConfigured: the sessions have several users, and row-level security hides values from the role.
        """

    @abstractmethod
    async def merge_values(
        self, user_id: str | None, session_id: str | None = None, *, values: ScopedValues, app: str = ""
    ) -> None:
        """Set and delete values by key, of all three scopes, in one transaction.

        A value replaces that of its key, and None deletes the key. Of concurrent changes of a key the last one wins;
        changes of different keys do not wait for each other. ``sessions.append`` makes such changes together with an
        append.

        Args:
            user_id: the user, created if there are values of the user; None for values of the application only.
            session_id: the session; needed for its values.
            values: the changes. A key is an id, a value any JSON value other than null.
            app: the application.

        Raises:
            NotFound: there are values of a session that does not exist; nothing was written.
            InvalidContent: an id or a key is invalid, a value cannot be represented as JSON, or there are values of a
                user or of a session that the ids do not name; nothing was written.
            LimitExceeded: there are more than 10,000 keys, or a value is over 32 MB or nested over 200 levels.
        """

    @abstractmethod
    async def delete_values(self, user_id: str | None, session_id: str | None = None, *, app: str = "") -> Deleted:
        """Delete all values of the narrowest scope that the ids name; return their number. Idempotent.

        With a session these are the values of the session, with a user alone those of the user in the application, and
        without both those of the application. To delete some keys, merge None.

        Raises:
            InvalidContent: an id is invalid, or a session is named without its user.
        """
