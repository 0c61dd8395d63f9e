"""The interface of the states of agents."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import Deleted, Page, StateRound


class StateService(ServiceWithLifecycleManager):
    """The states of agents: JSON objects in numbered rounds of a session.

    The session id None or "" is the session "default". States do not require a session with messages.
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
