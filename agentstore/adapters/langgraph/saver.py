"""The checkpoints of LangGraph."""

# pyright: reportMissingImports=false
import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from agentstore.adapters.langgraph.pages import rows_of
from agentstore.adapters.langgraph.versions import next_version
from agentstore.adapters.stores import BlockingOnStore, Store
from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.interfaces import CheckpointService
from agentstore.schemas.checkpoint import Checkpoint, CheckpointInfo, CheckpointWrite, Serialized
from agentstore.schemas.page import Page, check_count
from agentstore.schemas.payload import shortened

Config = Any
"""A RunnableConfig."""

# How many checkpoints a list reads at once, unless they are too large: without their values, and with them.
_PAGE = 100
_AT_ONCE = 10
# In bytes, and values of a container: what is serialized in a thread.
_LARGE = 50_000
_MANY = 50
_DELTAS = "counters_since_delta_snapshot"
STRATEGIES = ("keep_latest", "delete")


class AgentStoreSaver(BlockingOnStore, BaseCheckpointSaver[str]):  # type: ignore[misc]
    """A BaseCheckpointSaver of LangGraph: checkpoints in ``store.checkpoints``, which take the space of what is new.

    ::

        graph = builder.compile(checkpointer=AgentStoreSaver(store))
        config = {"configurable": {"thread_id": "trip", "user_id": "alice"}}
        await graph.ainvoke({"messages": [("user", "Any rain?")]}, config)

    A thread belongs to the user in ``configurable["user_id"]``; without one, to a user of its own, whose id is that of
    the thread. So each call of a thread has to name the same user. What is called with the ids of threads or runs alone
    applies to those of all users, or to those of the argument `user_id`.

    The synchronous methods may be called in any thread, and block it. They run on an event loop in a thread of the
    saver, which the first one starts.
    """

    def __init__(self, store: Store | None = None, *, url: str | None = None, serde: Any = None) -> None:
        """Create the saver, without connecting.

        Args:
            store: an AgentStore.
            url: the URL of a database instead of a store. All adapters in this process share one pool for it, which
                :meth:`close` releases.
            serde: the serializer of checkpoints, metadata, values and writes; None is LangGraph's JsonPlusSerializer.
                Values of an EncryptedSerializer share no bytes, and are stored as a whole.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        BaseCheckpointSaver.__init__(self, serde=serde)
        BlockingOnStore.__init__(self, store, url=url, thread="agentstore-saver", kind="saver")

    async def aget_tuple(self, config: Config) -> Any:
        """Return a checkpoint with its values and pending writes, by default the last one; None if it is missing."""
        checkpoints = await self._checkpoints()
        user_id, thread_id, namespace = _owner(config)
        id = get_checkpoint_id(config) or None
        found = await checkpoints.get(user_id, thread_id, namespace, id)
        return None if found is None else await self._load(found, config)

    async def alist(
        self,
        config: Config | None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: Config | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Any]:
        """Yield checkpoints with their values and pending writes, the newest of each thread first.

        Args:
            config: the thread, and optionally the namespace and the checkpoint; None: all threads of all users, one
                after the other.
            filter: metadata that the checkpoints have: equal values of these keys. It is compared here, after reading
                the metadata of each checkpoint.
            before: only checkpoints with an id that is lower than the one in this config.
            limit: the largest number of checkpoints.

        Raises:
            InvalidContent: `limit` is not an integer >= 0.
            NotConfigured: without `config`, where row-level security restricts each call to one user.
        """
        left = None if limit is None else check_count(limit, "limit")
        if left == 0:
            return
        checkpoints = await self._checkpoints()
        at_once = _AT_ONCE
        async for thread in self._threads(checkpoints, config):
            infos = self._infos(checkpoints, thread, config, filter, before)
            async for group in _groups(infos, left):
                if left is not None:
                    left -= len(group)
                while group:
                    ids = [info.id for info in group[:at_once]]
                    try:
                        found = await checkpoints.get_many(*thread, group[0].namespace, ids)
                    except LimitExceeded:
                        if len(ids) == 1:
                            raise
                        at_once = max(1, len(ids) // 3)
                        continue
                    for checkpoint in found:
                        yield await self._load(checkpoint, config, thread)
                    group = group[at_once:]
            if left == 0:
                return

    async def _threads(self, checkpoints: CheckpointService, config: Config | None) -> AsyncIterator[tuple[str, str]]:
        if config is not None:
            user_id, thread_id, _ = _owner(config)
            yield user_id, thread_id
            return
        async for thread in rows_of(lambda limit, cursor: checkpoints.list_sessions(limit=limit, cursor=cursor), _PAGE):
            yield thread

    async def _infos(
        self,
        checkpoints: CheckpointService,
        thread: tuple[str, str],
        config: Config | None,
        wanted: Mapping[str, Any] | None,
        before: Config | None,
    ) -> AsyncIterator[CheckpointInfo]:
        """Yield the checkpoints of a thread that match, without their values."""
        configurable = {} if config is None else config["configurable"]
        namespace, id = configurable.get("checkpoint_ns"), configurable.get("checkpoint_id") or None
        last = (get_checkpoint_id(before) or None) if before is not None else None

        def read(limit: int, cursor: str | None) -> Awaitable[Page[CheckpointInfo]]:
            return checkpoints.list(*thread, namespace, before=last, limit=limit, cursor=cursor)

        async for info in rows_of(read, _PAGE):
            if id is not None and info.id != id:
                if info.id < id:
                    return
                continue
            if not wanted or self._matches(info, wanted):
                yield info

    def _matches(self, info: CheckpointInfo, wanted: Mapping[str, Any]) -> bool:
        metadata = self.serde.loads_typed(info.metadata)
        return all(metadata.get(key) == value for key, value in wanted.items())

    async def aput(
        self, config: Config, checkpoint: Any, metadata: Any, new_versions: Mapping[str, str | int | float]
    ) -> Config:
        """Store a checkpoint, and the values of `new_versions`; return its config. Idempotent.

        Raises:
            InvalidContent, LimitExceeded: an id is not valid, or a value is too large (MAX_STATE_BYTES); nothing was
                written.
        """
        checkpoints = await self._checkpoints()
        user_id, thread_id, namespace = _owner(config)
        values = checkpoint["channel_values"]
        dump = asyncio.to_thread if _is_large(values[name] for name in new_versions if name in values) else _directly
        new = await dump(self._dump, config, checkpoint, metadata, new_versions)
        try:
            await checkpoints.put(user_id, thread_id, new)
        except Conflict:
            # Values that it shares with earlier checkpoints were deleted: it has all of them itself.
            new = await asyncio.to_thread(self._dump, config, checkpoint, metadata, checkpoint["channel_versions"])
            await checkpoints.put(user_id, thread_id, new, is_complete=True)
        return _config(config, (user_id, thread_id), namespace, checkpoint["id"])

    def _dump(self, config: Config, checkpoint: Any, metadata: Any, new_versions: Mapping[str, Any]) -> Checkpoint:
        body = dict(checkpoint)
        values = body.pop("channel_values")
        versions = {**checkpoint["channel_versions"]}
        about = get_checkpoint_metadata(config, metadata)
        run_id = about.get("run_id")
        deltas = {*(about.get(_DELTAS) or ()), *(name for name in values if isinstance(values[name], _DeltaSnapshot))}
        return Checkpoint(
            namespace=_owner(config)[2],
            id=checkpoint["id"],
            body=self._dumps(body),
            metadata=self._dumps(about),
            parent_id=get_checkpoint_id(config) or None,
            run_id=run_id if isinstance(run_id, str) else None,
            versions={name: str(version) for name, version in versions.items()},
            values={name: self._dumps(values[name]) for name in new_versions if name in values and name in versions},
            deltas=sorted(deltas),
        )

    def _dumps(self, value: Any) -> Serialized:
        return Serialized(*self.serde.dumps_typed(value))

    async def aput_writes(
        self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store writes of a task that are pending at a checkpoint. Idempotent.

        Writes that are stored already remain as they are, except for errors, interrupts and resumes.

        Raises:
            InvalidContent, LimitExceeded: an id is not valid, or a value is too large (MAX_STATE_BYTES); nothing was
                written.
        """
        checkpoints = await self._checkpoints()
        user_id, thread_id, namespace = _owner(config)
        dump = asyncio.to_thread if _is_large(value for _, value in writes) else _directly
        values = await dump(lambda: [self._dumps(value) for _, value in writes])
        await checkpoints.put_writes(
            user_id,
            thread_id,
            namespace,
            config["configurable"]["checkpoint_id"],
            [
                CheckpointWrite(task_id, WRITES_IDX_MAP.get(channel, number), channel, values[number], task_path)
                for number, (channel, _) in enumerate(writes)
            ],
        )

    async def adelete_thread(self, thread_id: str, *, user_id: str | None = None) -> None:
        """Delete all checkpoints and writes of a thread, by default those of all users. Idempotent."""
        checkpoints = await self._checkpoints()
        for owner in await _owners(checkpoints, thread_id, user_id):
            await checkpoints.delete(owner, str(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str], *, user_id: str | None = None) -> None:
        """Delete the checkpoints and writes of runs, by default those of all users. Idempotent."""
        checkpoints = await self._checkpoints()
        await checkpoints.delete_runs([str(each) for each in _several(run_ids, "run_ids")], user_id=user_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str, *, user_id: str | None = None) -> None:
        """Copy all checkpoints and writes of a thread, by default those of all users.

        The copy belongs to the same user; if the source is a thread without a user, to the one of the target.

        Raises:
            AlreadyExists: the target has other values of the same versions.
        """
        checkpoints = await self._checkpoints()
        source, target = str(source_thread_id), str(target_thread_id)
        for owner in await _owners(checkpoints, source, user_id):
            await checkpoints.copy(owner, source, target if owner == source else owner, target)

    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", user_id: str | None = None
    ) -> None:
        """Delete checkpoints of threads, by default those of all users.

        Args:
            thread_ids: the threads.
            strategy: "keep_latest" retains the last checkpoint of each namespace, with its writes, and the earlier
                ones that its delta channels are computed from; "delete" retains nothing.
            user_id: the owner; None: all users.

        Raises:
            InvalidContent: `strategy` is another one, or `thread_ids` is not a sequence of ids; nothing was deleted.
        """
        if strategy not in STRATEGIES:
            raise InvalidContent(f"strategy must be one of {', '.join(STRATEGIES)}, got {shortened(strategy)}")
        checkpoints = await self._checkpoints()
        for thread_id in _several(thread_ids, "thread_ids"):
            for owner in await _owners(checkpoints, thread_id, user_id):
                delete = checkpoints.prune if strategy == "keep_latest" else checkpoints.delete
                await delete(owner, str(thread_id))

    async def aget_delta_channel_history(self, *, config: Config, channels: Sequence[str]) -> Mapping[str, Any]:
        """Return the writes to channels before a checkpoint, and the stored value that precedes them, by channel."""
        if not channels:
            return {}
        checkpoints = await self._checkpoints()
        user_id, thread_id, namespace = _owner(config)
        id = get_checkpoint_id(config) or None
        found = await checkpoints.history(user_id, thread_id, namespace, id, channels)

        def load() -> dict[str, Any]:
            histories: dict[str, Any] = {}
            for channel in channels:
                value, writes = found[channel]
                histories[channel] = {"writes": [self._load_write(write) for write in writes]}
                if value is not None:
                    histories[channel]["seed"] = self.serde.loads_typed(value)
            return histories

        return await asyncio.to_thread(load)

    async def _load(
        self, checkpoint: Checkpoint, config: Config | None, thread: tuple[str, str] | None = None
    ) -> CheckpointTuple:
        size = sum(len(value.data) for value in checkpoint.values.values())
        size += sum(len(write.value.data) for write in checkpoint.writes)
        load = asyncio.to_thread if size >= _LARGE else _directly
        return await load(self._load_now, checkpoint, config, thread or _owner(config)[:2])

    def _load_now(self, checkpoint: Checkpoint, config: Config | None, thread: tuple[str, str]) -> CheckpointTuple:
        loads = self.serde.loads_typed
        place = thread, checkpoint.namespace
        return CheckpointTuple(
            config=_config(config, *place, checkpoint.id),
            checkpoint={
                **loads(checkpoint.body),
                "channel_values": {channel: loads(value) for channel, value in checkpoint.values.items()},
            },
            metadata=loads(checkpoint.metadata),
            parent_config=None if checkpoint.parent_id is None else _config(config, *place, checkpoint.parent_id),
            pending_writes=[self._load_write(write) for write in checkpoint.writes],
        )

    def _load_write(self, write: CheckpointWrite) -> tuple[str, str, Any]:
        return write.task_id, write.channel, self.serde.loads_typed(write.value)

    def get_next_version(self, current: str | int | None, channel: Any) -> str:
        """Return the version after `current`, in the form of LangGraph's own savers on databases."""
        return next_version(current)

    async def _checkpoints(self) -> CheckpointService:
        return (await self._started()).checkpoints

    # The synchronous methods.

    def get_tuple(self, config: Config) -> Any:
        """Return a checkpoint; see :meth:`aget_tuple`."""
        return self._runner.run(self.aget_tuple(config))

    def list(
        self,
        config: Config | None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: Config | None = None,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Yield checkpoints; see :meth:`alist`."""
        yield from self._runner.iterate(self.alist(config, filter=filter, before=before, limit=limit))

    def put(
        self, config: Config, checkpoint: Any, metadata: Any, new_versions: Mapping[str, str | int | float]
    ) -> Config:
        """Store a checkpoint; see :meth:`aput`."""
        return self._runner.run(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Store writes; see :meth:`aput_writes`."""
        self._runner.run(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str, *, user_id: str | None = None) -> None:
        """Delete a thread; see :meth:`adelete_thread`."""
        self._runner.run(self.adelete_thread(thread_id, user_id=user_id))

    def delete_for_runs(self, run_ids: Sequence[str], *, user_id: str | None = None) -> None:
        """Delete the checkpoints of runs; see :meth:`adelete_for_runs`."""
        self._runner.run(self.adelete_for_runs(run_ids, user_id=user_id))

    def copy_thread(self, source_thread_id: str, target_thread_id: str, *, user_id: str | None = None) -> None:
        """Copy a thread; see :meth:`acopy_thread`."""
        self._runner.run(self.acopy_thread(source_thread_id, target_thread_id, user_id=user_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", user_id: str | None = None) -> None:
        """Delete checkpoints of threads; see :meth:`aprune`."""
        self._runner.run(self.aprune(thread_ids, strategy=strategy, user_id=user_id))

    def get_delta_channel_history(self, *, config: Config, channels: Sequence[str]) -> Mapping[str, Any]:
        """Return the writes to channels; see :meth:`aget_delta_channel_history`."""
        return self._runner.run(self.aget_delta_channel_history(config=config, channels=channels))


async def _directly(function: Any, *args: Any) -> Any:
    return function(*args)


def _is_large(values: Any) -> bool:
    """Return whether values may take long to serialize."""
    return any(
        len(value) > (_LARGE if isinstance(value, str | bytes) else _MANY)
        for value in values
        if isinstance(value, Collection)
    )


async def _groups(infos: AsyncIterator[CheckpointInfo], limit: int | None) -> AsyncIterator[list[CheckpointInfo]]:
    """Yield consecutive checkpoints of one namespace, a few at a time, `limit` in all."""
    group: list[CheckpointInfo] = []
    seen = 0
    async for info in infos:
        if group and (group[0].namespace != info.namespace or len(group) == _AT_ONCE):
            yield group
            group = []
        group.append(info)
        seen += 1
        if seen == limit:
            break
    if group:
        yield group


async def _owners(checkpoints: CheckpointService, thread_id: str, user_id: str | None) -> Sequence[str]:
    return [user_id] if user_id is not None else await checkpoints.list_owners(str(thread_id))


def _several(ids: Sequence[str], name: str) -> Sequence[str]:
    if isinstance(ids, str):
        raise InvalidContent(f"{name} must be a sequence of ids, got the string {shortened(ids)}")
    return ids


def _owner(config: Config) -> tuple[str, str, str]:
    """Return the user, the thread and the namespace of a config.

    Raises:
        InvalidContent: it names no thread.
    """
    configurable = config.get("configurable") or {}
    thread_id = configurable.get("thread_id")
    if thread_id is None:
        raise InvalidContent('the config names no thread: pass {"configurable": {"thread_id": ...}}')
    user_id = configurable.get("user_id")
    thread = str(thread_id)
    return thread if user_id is None else user_id, thread, configurable.get("checkpoint_ns") or ""


def _config(config: Config | None, thread: tuple[str, str], namespace: str, id: str) -> Config:
    """Return the config of a checkpoint; it names the user unless that is the thread's own."""
    user_id, thread_id = thread
    if config is not None:
        thread_id = config["configurable"]["thread_id"]
    configurable = {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": id}
    if user_id != str(thread_id):
        configurable["user_id"] = user_id
    return {"configurable": configurable}
