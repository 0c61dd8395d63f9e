"""The interface of checkpoints: the steps of graphs."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import Deleted, Page
from agentstore.schemas.checkpoint import ChannelHistory, Checkpoint, CheckpointInfo, CheckpointWrite


class CheckpointService(ServiceWithLifecycleManager):
    """Checkpoints of graphs: the state after each step, in sessions of users, by namespace (subgraph) and id.

    The ids of a namespace grow with time. A value is stored with each version of its channel, and takes the space of
    what is new in it; a session need not exist as a conversation.
    """

    @abstractmethod
    async def put(self, user_id: str, session_id: str, checkpoint: Checkpoint, *, is_complete: bool = False) -> None:
        """Store a checkpoint, and the values of those versions that are not stored yet. Idempotent.

        Args:
            user_id: the owner, created if missing.
            session_id: the session.
            checkpoint: the checkpoint; its writes are ignored. One with the same id is replaced, without its writes.
            is_complete: whether it has the values of all of its versions that have one, and not of new ones only. They
                are stored as a whole.

        Raises:
            InvalidContent, LimitExceeded: an id is not valid, or a value is larger than `max_state_bytes`; nothing was
                written.
            Conflict: stored values that the checkpoint relies on may have been deleted meanwhile, or its parent is not
                stored; nothing was written.
                Repeat the call with a complete checkpoint.
        """

    @abstractmethod
    async def put_writes(
        self,
        user_id: str,
        session_id: str,
        namespace: str,
        checkpoint_id: str,
        writes: Sequence[CheckpointWrite],
    ) -> None:
        """Store writes that are pending at a checkpoint, which may be stored later. Idempotent.

        Those that exist, with the same task and number, remain as they are, unless their number is under 0.

        Raises:
            InvalidContent, LimitExceeded: an id is not valid, or a value is too large; nothing was written.
        """

    @abstractmethod
    async def get(
        self, user_id: str, session_id: str, namespace: str = "", id: str | None = None, *, stale_ok: bool = False
    ) -> Checkpoint | None:
        """Return a checkpoint with its values and writes, by default the last one of a namespace; None if missing.

        Raises:
            UnreadableRow: another program has changed a value or deleted what it consists of.
        """

    @abstractmethod
    async def get_many(
        self, user_id: str, session_id: str, namespace: str, ids: Sequence[str], *, stale_ok: bool = False
    ) -> Sequence[Checkpoint]:
        """Return those checkpoints of a namespace that exist, the newest first.

        Raises:
            LimitExceeded: there are more than `max_page` ids, or the checkpoints have too many bytes together.
            UnreadableRow: as :meth:`get`.
        """

    @abstractmethod
    async def list(
        self,
        user_id: str,
        session_id: str,
        namespace: str | None = None,
        *,
        before: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[CheckpointInfo]:
        """Return checkpoints of a session without their values and writes, the newest first.

        Args:
            user_id: the owner.
            session_id: the session.
            namespace: the namespace; None lists all.
            before: an id: only checkpoints with lower ones.
            limit: the largest number to return; None returns all.
            cursor: the `next_cursor` of a page.

        Raises:
            InvalidContent, LimitExceeded: an id, `limit` or `cursor` is not valid.
        """

    @abstractmethod
    async def list_sessions(
        self,
        user_id: str | None = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[tuple[str, str]]:
        """Return the sessions that have checkpoints, as pairs of the user's and the session's id.

        Args:
            user_id: the owner; None: all users.
            limit: the size of the page.
            cursor: the `next_cursor` of a page.
            stale_ok: whether they may be read from a replica.

        Raises:
            InvalidContent, LimitExceeded: `user_id`, `limit` or `cursor` is not valid.
            NotConfigured: without `user_id`, where row-level security restricts each call to one user.
        """

    @abstractmethod
    async def list_owners(self, session_id: str, *, stale_ok: bool = False) -> Sequence[str]:
        """Return the users that have checkpoints in sessions of this id.

        Raises:
            NotConfigured: row-level security restricts each call to one user.
        """

    @abstractmethod
    async def history(
        self,
        user_id: str,
        session_id: str,
        namespace: str,
        id: str | None,
        channels: Sequence[str],
        *,
        stale_ok: bool = False,
    ) -> Mapping[str, ChannelHistory]:
        """Return the writes to channels before a checkpoint, along its parents, and the value that precedes them.

        The value of a channel is that of the nearest ancestor that has one stored; the writes are those pending at this
        ancestor and at the later ones.

        Args:
            user_id: the owner.
            session_id: the session.
            namespace: the namespace.
            id: the checkpoint; None: the last one.
            channels: the channels.
        """

    @abstractmethod
    async def copy(self, user_id: str, session_id: str, target_user_id: str, target_session_id: str) -> None:
        """Copy all checkpoints and writes of a session into another one, whose existing ones remain as they are.

        Raises:
            InvalidContent: an id is not valid, or source and target are the same.
            NotConfigured: they belong to different users, and row-level security restricts each call to one user.
        """

    @abstractmethod
    async def prune(self, user_id: str, session_id: str) -> Deleted:
        """Delete all checkpoints of a session but the last one of each namespace; return how many were deleted.

        Earlier checkpoints that the values of the last one are computed from remain, see ``Checkpoint.deltas``.
        """

    @abstractmethod
    async def delete(self, user_id: str, session_id: str) -> Deleted:
        """Delete all checkpoints and writes of a session; return how many checkpoints there were. Idempotent."""

    @abstractmethod
    async def delete_runs(self, run_ids: Sequence[str], *, user_id: str | None = None) -> Deleted:
        """Delete the checkpoints of runs, with their writes; return how many there were. Idempotent.

        Args:
            run_ids: the ids of the runs.
            user_id: the owner; None: all users.

        Raises:
            InvalidContent, LimitExceeded: an id is not valid, or there are more than `max_batch`.
            NotConfigured: without `user_id`, where row-level security restricts each call to one user.
        """
