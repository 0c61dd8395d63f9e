"""The checkpoint service without a database, for tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from agentstore.errors import AlreadyExists, Closed, InvalidContent
from agentstore.inmemory.users import InMemoryUserService
from agentstore.interfaces import CheckpointService
from agentstore.schemas import Deleted, Page
from agentstore.schemas.checkpoint import (
    LAST_ID,
    ChannelHistory,
    Checkpoint,
    CheckpointInfo,
    CheckpointWrite,
    Serialized,
    check_checkpoint,
    check_writes,
    last_of_each,
    values_deleted,
    write_order,
)
from agentstore.schemas.page import Advice, check_count, check_limit, read_cursor, reply_too_large, write_cursor
from agentstore.schemas.payload import check_id, check_ids
from agentstore.settings import Settings, settings_from_environment

_Key = tuple[str, str]  # user id, session id
_MAX_OWNERS = 10_000


@dataclass
class StoredCheckpoints:
    """The checkpoints of a session."""

    # By namespace and id, without values and writes.
    checkpoints: dict[tuple[str, str], tuple[Checkpoint, datetime]] = field(default_factory=dict)
    # By namespace, channel and version.
    values: dict[tuple[str, str, str], Serialized] = field(default_factory=dict)
    # By namespace and id of the checkpoint, then by task and number.
    writes: dict[tuple[str, str], dict[tuple[str, int], CheckpointWrite]] = field(default_factory=dict)
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def value_of(self, checkpoint: Checkpoint, channel: str) -> Serialized | None:
        """Return the stored value of a channel at a checkpoint."""
        version = checkpoint.versions.get(channel)
        return None if version is None else self.values.get((checkpoint.namespace, channel, version))

    def size(self) -> int:
        """Return the size of what is stored, in bytes."""
        bodies = sum(len(each.body.data) + len(each.metadata.data) for each, _ in self.checkpoints.values())
        writes = sum(len(write.value.data) for each in self.writes.values() for write in each.values())
        return bodies + writes + sum(len(value.data) for value in self.values.values())

    def delete_unused_values(self) -> None:
        """Delete the values that no checkpoint has."""
        used = {
            (checkpoint.namespace, *each)
            for checkpoint, _ in self.checkpoints.values()
            for each in checkpoint.versions.items()
        }
        for key in self.values.keys() - used:
            del self.values[key]


class InMemoryCheckpointService(CheckpointService):
    """Checkpoints in memory, for tests. They are lost when the process ends.

    See :class:`agentstore.CheckpointService` for what each method does and raises.
    """

    def __init__(self, *, users: InMemoryUserService | None = None, settings: Settings | None = None) -> None:
        """Create an empty service. `users` has the owners of checkpoints."""
        self._settings = settings or settings_from_environment()
        self._owners = users or InMemoryUserService(settings=self._settings)
        self._sessions: dict[_Key, StoredCheckpoints] = {}
        self._started = self._stopped = False

    async def start(self) -> None:  # noqa: D102 - documented by the interface
        self._started, self._stopped = True, False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:  # noqa: D102
        return self._started

    async def put(  # noqa: D102
        self, user_id: str, session_id: str, checkpoint: Checkpoint, *, is_complete: bool = False
    ) -> None:
        key = self._key(user_id, session_id)
        check_checkpoint(checkpoint, self._settings)
        self._check_open()
        if not is_complete and checkpoint.relies_on_stored and checkpoint.parent_id is not None:
            known = self._sessions.get(key, StoredCheckpoints()).checkpoints
            if (checkpoint.namespace, checkpoint.parent_id) not in known:
                raise values_deleted(checkpoint, user_id, session_id)
        stored = self._create(key)
        for channel, value in checkpoint.values.items():
            stored.values.setdefault((checkpoint.namespace, channel, checkpoint.versions[channel]), value)
        place = checkpoint.namespace, checkpoint.id
        saved_at = stored.checkpoints[place][1] if place in stored.checkpoints else datetime.now(UTC)
        stored.checkpoints[place] = replace(checkpoint, values={}, writes=()), saved_at
        stored.updated_at = datetime.now(UTC)

    async def put_writes(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        namespace: str,
        checkpoint_id: str,
        writes: Sequence[CheckpointWrite],
    ) -> None:
        key = self._key(user_id, session_id)
        check_ids([namespace, checkpoint_id], "an id of the checkpoint", self._settings)
        check_writes(writes, self._settings)
        self._check_open()
        if not writes:
            return
        existing = self._create(key).writes.setdefault((namespace, checkpoint_id), {})
        for write in last_of_each(writes):
            if write.number < 0 or (write.task_id, write.number) not in existing:
                existing[write.task_id, write.number] = write

    async def get(  # noqa: D102
        self, user_id: str, session_id: str, namespace: str = "", id: str | None = None, *, stale_ok: bool = False
    ) -> Checkpoint | None:
        key = self._key(user_id, session_id)
        check_id(namespace, "namespace", self._settings)
        self._check_open()
        stored = self._sessions.get(key, StoredCheckpoints())
        if id is None:
            id = max((id for space, id in stored.checkpoints if space == namespace), key=str.encode, default=None)
            return None if id is None else self._load(stored, [(namespace, id)])[0]
        found = await self.get_many(user_id, session_id, namespace, [id])
        return found[0] if found else None

    async def get_many(  # noqa: D102
        self, user_id: str, session_id: str, namespace: str, ids: Sequence[str], *, stale_ok: bool = False
    ) -> list[Checkpoint]:
        key = self._key(user_id, session_id)
        check_count(len(ids), "the number of ids", maximum=self._settings.max_page)
        check_ids([namespace, *ids], "id", self._settings)
        self._check_open()
        stored = self._sessions.get(key, StoredCheckpoints())
        places = [(namespace, id) for id in sorted(set(ids), key=str.encode, reverse=True)]
        return self._load(stored, [place for place in places if place in stored.checkpoints])

    def _load(self, stored: StoredCheckpoints, places: Sequence[tuple[str, str]]) -> list[Checkpoint]:
        found = []
        size = 0
        for place in places:
            checkpoint = stored.checkpoints[place][0]
            values = {
                channel: value
                for channel in checkpoint.versions
                if (value := stored.value_of(checkpoint, channel)) is not None
            }
            writes = sorted(stored.writes.get(place, {}).values(), key=write_order)
            size += sum(len(each.data) for each in values.values()) + sum(len(each.value.data) for each in writes)
            found.append(replace(checkpoint, values=values, writes=writes))
        if size > self._settings.max_reply_bytes:
            raise reply_too_large(self._settings.max_reply_bytes, Advice.SMALLER_LIMIT)
        return found

    async def list(  # noqa: D102
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
        key = self._key(user_id, session_id)
        check_limit(limit, self._settings.max_page)
        last = LAST_ID if before is None else check_id(before, "before", self._settings), ""
        if cursor is not None:
            read = read_cursor(cursor, str, str)
            last = str(read[0]), str(read[1])
        if namespace is not None:
            check_id(namespace, "namespace", self._settings)
            last = last[0], ""
        self._check_open()
        stored = self._sessions.get(key, StoredCheckpoints())
        order = {(id.encode(), space.encode()): (space, id) for space, id in stored.checkpoints}
        end = last[0].encode(), last[1].encode()
        places = [
            order[each] for each in sorted(order, reverse=True) if each < end and namespace in (None, order[each][0])
        ][:limit]
        found = [_info(key, *stored.checkpoints[place]) for place in places]
        if sum(len(each.metadata.data) for each in found) > self._settings.max_reply_bytes:
            raise reply_too_large(self._settings.max_reply_bytes, Advice.SMALLER_LIMIT)
        return Page(found, write_cursor(found[-1].id, found[-1].namespace) if found and len(found) == limit else None)

    async def list_sessions(  # noqa: D102
        self,
        user_id: str | None = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[tuple[str, str]]:
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        check_count(limit, "limit", maximum=self._settings.max_page)
        first = ("", "") if cursor is None else tuple(map(str, read_cursor(cursor, str, str)))
        self._check_open()
        start = [part.encode() for part in first]
        found = sorted(self._sessions, key=lambda key: [part.encode() for part in key])
        of_user = [key for key in found if user_id is None or (key[0] == user_id and key[1].encode() >= start[1])]
        found = [key for key in of_user if user_id is not None or [part.encode() for part in key] >= start][:limit]
        return Page(found, write_cursor(found[-1][0], found[-1][1] + "\x01") if found and len(found) == limit else None)

    async def list_owners(self, session_id: str, *, stale_ok: bool = False) -> Sequence[str]:  # noqa: D102
        check_id(session_id, "session_id", self._settings)
        self._check_open()
        return sorted((owner for owner, id in self._sessions if id == session_id), key=str.encode)[:_MAX_OWNERS]

    async def history(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        namespace: str,
        id: str | None,
        channels: Sequence[str],
        *,
        stale_ok: bool = False,
    ) -> dict[str, ChannelHistory]:
        check_id(namespace, "namespace", self._settings)
        check_ids([*channels, *([] if id is None else [id])], "channel", self._settings)
        checkpoint = await self.get(user_id, session_id, namespace, id)
        stored = self._sessions.get((user_id, session_id), StoredCheckpoints())
        found: dict[str, ChannelHistory] = {}
        for channel in channels:
            value: Serialized | None = None
            writes: list[CheckpointWrite] = []
            parent = None if checkpoint is None else checkpoint.parent_id
            seen: set[str] = set()
            while parent is not None and value is None and parent not in seen:
                seen.add(parent)
                place = namespace, parent
                if place not in stored.checkpoints:
                    break
                ancestor = stored.checkpoints[place][0]
                of_channel = [each for each in stored.writes.get(place, {}).values() if each.channel == channel]
                writes = sorted(of_channel, key=write_order) + writes
                value, parent = stored.value_of(ancestor, channel), ancestor.parent_id
            found[channel] = ChannelHistory(value, writes)
        return found

    async def copy(  # noqa: D102
        self, user_id: str, session_id: str, target_user_id: str, target_session_id: str
    ) -> None:
        source, target = self._key(user_id, session_id), self._key(target_user_id, target_session_id)
        if source == target:
            raise InvalidContent(f"session {session_id!r} cannot be copied into itself: pass another target")
        self._check_open()
        if source not in self._sessions:
            return
        stored, copied = self._sessions[source], self._create(target)
        if any(copied.values.get(key, value) != value for key, value in stored.values.items()):
            raise AlreadyExists(
                f"session {target_session_id!r} of user {target_user_id!r} has other values of the same versions: "
                "delete it first, or pass another target"
            )
        copied.values = stored.values | copied.values
        copied.checkpoints = stored.checkpoints | copied.checkpoints
        for place, writes in stored.writes.items():
            copied.writes[place] = writes | copied.writes.get(place, {})
        copied.updated_at = datetime.now(UTC)

    async def prune(self, user_id: str, session_id: str) -> Deleted:  # noqa: D102
        key = self._key(user_id, session_id)
        self._check_open()
        stored = self._sessions.get(key, StoredCheckpoints())
        last: dict[str, str] = {}
        for namespace, id in stored.checkpoints:
            last[namespace] = max(last.get(namespace, ""), id, key=str.encode)
        needed: set[tuple[str, str]] = set()
        for namespace, id in last.items():
            parent: str | None = id
            missing = list(stored.checkpoints[namespace, id][0].deltas)
            while parent is not None and (namespace, parent) in stored.checkpoints:
                if (namespace, parent) in needed:
                    break
                needed.add((namespace, parent))
                checkpoint = stored.checkpoints[namespace, parent][0]
                missing = [each for each in missing if stored.value_of(checkpoint, each) is None]
                parent = checkpoint.parent_id if missing else None
        return self._delete_places(stored, stored.checkpoints.keys() - needed)

    async def delete(self, user_id: str, session_id: str) -> Deleted:  # noqa: D102
        key = self._key(user_id, session_id)
        self._check_open()
        stored = self._sessions.pop(key, None)
        return Deleted(checkpoints=0 if stored is None else len(stored.checkpoints))

    async def delete_runs(self, run_ids: Sequence[str], *, user_id: str | None = None) -> Deleted:  # noqa: D102
        check_count(len(run_ids), "the number of run_ids", maximum=self._settings.max_batch)
        check_ids(list(run_ids), "run_id", self._settings)
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        self._check_open()
        runs = set(run_ids)
        deleted = 0
        for (owner, _), stored in self._sessions.items():
            if user_id in (None, owner):
                places = {place for place, (each, _) in stored.checkpoints.items() if each.run_id in runs}
                deleted += self._delete_places(stored, places).checkpoints
        return Deleted(checkpoints=deleted)

    def _delete_places(self, stored: StoredCheckpoints, places: set[tuple[str, str]]) -> Deleted:
        for place in places:
            del stored.checkpoints[place]
            stored.writes.pop(place, None)
        if places:
            stored.delete_unused_values()
        return Deleted(checkpoints=len(places))

    def _delete_user(self, user_id: str) -> int:
        """Delete all checkpoints of a user, and return how many there were."""
        keys = [key for key in self._sessions if key[0] == user_id]
        return sum(len(self._sessions.pop(key).checkpoints) for key in keys)

    def _create(self, key: _Key) -> StoredCheckpoints:
        self._owners._add(key[0])
        return self._sessions.setdefault(key, StoredCheckpoints())

    def _key(self, user_id: str, session_id: str) -> _Key:
        return check_id(user_id, "user_id", self._settings), check_id(session_id, "session_id", self._settings)

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True


def _info(key: _Key, checkpoint: Checkpoint, saved_at: datetime) -> CheckpointInfo:
    return CheckpointInfo(
        *key,
        namespace=checkpoint.namespace,
        id=checkpoint.id,
        parent_id=checkpoint.parent_id,
        metadata=checkpoint.metadata,
        saved_at=saved_at,
    )
