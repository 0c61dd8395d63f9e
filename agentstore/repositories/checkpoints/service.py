"""The service that executes the statements of checkpoints.

Values refer to earlier ones for the bytes that they have in common (:mod:`agentstore.schemas.pieces`), which are
deleted with the last value that refers to them. A put that relies on stored values names the epoch in which it knows
them; what deletes values locks the head of the session and changes the epoch first.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentstore import offload
from agentstore.database.retry import retry
from agentstore.database.statement import Row
from agentstore.database.transaction import Transaction
from agentstore.errors import AlreadyExists, InvalidContent, UnreadableRow
from agentstore.interfaces.checkpoints import CheckpointService
from agentstore.repositories.checkpoints.recent import RecentValues
from agentstore.repositories.checkpoints.rows import Key, join_row, load, unpack_row, write_of
from agentstore.repositories.checkpoints.statements import (
    CHAIN,
    CHANGE_EPOCH,
    COPY,
    COPY_TO_USER,
    DELETE,
    DELETE_RUNS,
    DELETE_UNUSED_VALUES,
    GET,
    LIST,
    LIST_ALL,
    LIST_OF_RUNS,
    LIST_OF_RUNS_OF_USER,
    LIST_OWNERS,
    LIST_SESSIONS,
    LIST_SESSIONS_OF_USER,
    LOCK_HEAD,
    LOCK_SOURCE,
    PRUNE,
    PUT,
    PUT_WRITES,
    VALUES,
    WRITES,
)
from agentstore.repositories.prune import LEAST
from agentstore.repositories.service import PostgresService
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
    short_version,
    values_deleted,
    write_order,
)
from agentstore.schemas.page import Advice, check_count, check_limit, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, check_ids
from agentstore.schemas.pieces import COMPARED_FROM, Composed, compose, own_of, pack

# How many ancestors one statement reads at most.
_CHAIN = 1_000
_MAX_OWNERS = 10_000
_PASSES = 3


class PostgresCheckpointService(PostgresService, CheckpointService, area="checkpoints"):
    """Checkpoints stored in Postgres; see :class:`CheckpointService`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Create a service that is not connected yet, with the arguments of every service."""
        super().__init__(*args, **kwargs)
        self._recent = RecentValues()

    async def put(  # noqa: D102 - documented by the interface
        self, user_id: str, session_id: str, checkpoint: Checkpoint, *, is_complete: bool = False
    ) -> None:
        session = self._session(user_id, session_id)
        check_checkpoint(checkpoint, self._settings)
        relies = not is_complete and checkpoint.relies_on_stored
        # Others may know its values in the pieces in which they were stored before: it gets none, and a new epoch.
        epoch = None if is_complete else self._recent.epoch_of(session)
        if epoch is None and not is_complete and checkpoint.parent_id is not None and (relies or _is_large(checkpoint)):
            # Nothing is known of the session here: its last values are those of the parent.
            await self.get(user_id, session_id, checkpoint.namespace, checkpoint.parent_id)
            epoch = self._recent.epoch_of(session)

        async def put(_: int) -> bool:
            nonlocal epoch
            composed, values = await offload.run(self._put_values, session, checkpoint, epoch)
            # Without a value that is stored in pieces, and that relies on others, any epoch will do.
            named = epoch if relies or any(value is not None for value in values["value_sources"]) else None
            values |= {"changed_epoch": values["new_epoch"] if is_complete else None}
            values |= {"needed_parent": checkpoint.parent_id if relies else None}
            rows = await self._database.fetch(PUT, **values, epoch=named)
            if not rows:
                self._recent.forget(session)
                if relies:
                    raise values_deleted(checkpoint, user_id, session_id)
                epoch = None
                return await put(0)
            ((stored_in, stored),) = rows
            self._remember(session, stored_in, checkpoint, composed, stored or ())
            return True

        await retry(put, f"could not store checkpoint {checkpoint.id!r} of user {user_id!r}")

    def _put_values(
        self, session: tuple[str, str], checkpoint: Checkpoint, epoch: int | None
    ) -> tuple[dict[str, Composed], dict[str, Any]]:
        """Return the new values of a checkpoint, and the parameters of PUT."""
        versions = {channel: short_version(version) for channel, version in checkpoint.versions.items()}
        composed = {}
        rows = []
        for channel, (type_, data) in checkpoint.values.items():
            # An encrypted value shares no bytes with an earlier one.
            is_comparable = epoch is not None and "+" not in type_
            key = checkpoint.namespace, channel
            previous = self._recent.get(session, epoch, key) if is_comparable else None
            composed[channel] = value = compose(versions[channel], data, previous)
            own = own_of(value)
            sources = None if own.sources is None else "\n".join(own.sources)
            rows.append((channel, value.version, type_, len(own.data), pack(own.data), sources, own.pieces))
        names = ("channels", "versions", "types", "sizes", "data", "sources", "pieces")
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        values: dict[str, Any] = {f"value_{name}": list(column) for name, column in zip(names, columns, strict=True)}
        values |= {"user_id": session[0], "session_id": session[1], "new_epoch": _new_epoch()}
        values |= {name: getattr(checkpoint, name) for name in ("namespace", "id", "parent_id", "run_id")}
        values |= {"type": checkpoint.body.type, "size": len(checkpoint.body.data), "data": pack(checkpoint.body.data)}
        values |= {"metadata_type": checkpoint.metadata.type, "metadata": checkpoint.metadata.data}
        values |= {"channels": list(versions), "versions": list(versions.values())}
        return composed, {**values, "deltas": list(checkpoint.deltas) or None}

    def _remember(
        self,
        session: tuple[str, str],
        epoch: int,
        checkpoint: Checkpoint,
        composed: Mapping[str, Composed],
        stored: Sequence[str],
    ) -> None:
        # A version that existed may be stored in other pieces.
        values = {
            (checkpoint.namespace, channel): composed[channel]
            for channel in stored
            if "+" not in checkpoint.values[channel].type
        }
        self._recent.add(session, epoch, values)

    async def put_writes(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        namespace: str,
        checkpoint_id: str,
        writes: Sequence[CheckpointWrite],
    ) -> None:
        session = self._session(user_id, session_id)
        check_ids([namespace, checkpoint_id], "an id of the checkpoint", self._settings)
        check_writes(writes, self._settings)
        if not writes:
            return
        values = await offload.run(_write_values, last_of_each(writes))
        values |= {"user_id": session[0], "session_id": session[1], "new_epoch": _new_epoch()}
        values |= {"namespace": namespace, "checkpoint_id": checkpoint_id}

        async def put(_: int) -> list[Row]:
            return await self._database.fetch(PUT_WRITES, **values)

        await retry(put, f"could not store writes of user {user_id!r}")

    async def get(  # noqa: D102
        self, user_id: str, session_id: str, namespace: str = "", id: str | None = None, *, stale_ok: bool = False
    ) -> Checkpoint | None:
        if id is not None:
            found = await self.get_many(user_id, session_id, namespace, [id], stale_ok=stale_ok)
        else:
            found = await self._get(user_id, session_id, namespace, None, stale_ok=stale_ok)
        return found[0] if found else None

    async def get_many(  # noqa: D102
        self, user_id: str, session_id: str, namespace: str, ids: Sequence[str], *, stale_ok: bool = False
    ) -> list[Checkpoint]:
        check_count(len(ids), "the number of ids", maximum=self._settings.max_page)
        check_ids(list(ids), "id", self._settings)
        return await self._get(user_id, session_id, namespace, list(ids), stale_ok=stale_ok)

    async def _get(
        self, user_id: str, session_id: str, namespace: str, ids: list[str] | None, *, stale_ok: bool
    ) -> list[Checkpoint]:
        session = self._session(user_id, session_id)
        key = Key(*session, check_id(namespace, "namespace", self._settings))
        rows = await self._database.read(
            lambda database: database.fetch_page(GET, Advice.SMALLER_LIMIT, **key._asdict(), ids=ids), stale_ok=stale_ok
        )
        loaded = await offload.run(load, rows, key)
        if loaded.epoch is not None and not stale_ok:
            self._recent.add(session, loaded.epoch, loaded.values)
        return loaded.checkpoints

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
        session = self._session(user_id, session_id)
        check_limit(limit, self._settings.max_page)
        values: dict[str, Any] = {"user_id": session[0], "session_id": session[1], "limit": limit}
        values["before"] = LAST_ID if before is None else check_id(before, "before", self._settings)
        key = None if cursor is None else read_cursor(cursor, str, str)
        if key is not None:
            values["before"] = key[0]
        if namespace is None:
            values["before_namespace"] = key[1] if key is not None else ""
        else:
            values["namespace"] = check_id(namespace, "namespace", self._settings)
        statement = LIST_ALL if namespace is None else LIST
        rows = await self._database.read(
            lambda database: database.fetch_page(statement, Advice.SMALLER_LIMIT, **values), stale_ok=stale_ok
        )
        found = [_info(row, session) for row in rows]
        return Page(found, write_cursor(found[-1].id, found[-1].namespace) if found and len(found) == limit else None)

    async def list_sessions(  # noqa: D102
        self,
        user_id: str | None = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[tuple[str, str]]:
        check_count(limit, "limit", maximum=self._settings.max_page)
        key = ("", "") if cursor is None else read_cursor(cursor, str, str)
        values: dict[str, Any] = {"from_user": key[0], "from_session": key[1], "limit": limit}
        statement = LIST_SESSIONS
        if user_id is not None:
            statement = LIST_SESSIONS_OF_USER
            values["user_id"] = check_id(user_id, "user_id", self._settings)
        rows = await self._database.read(
            lambda database: database.fetch_page(statement, Advice.SMALLER_LIMIT, **values), stale_ok=stale_ok
        )
        found = [(row[0], row[1]) for row in rows]
        return Page(found, write_cursor(found[-1][0], found[-1][1] + LEAST) if found and len(found) == limit else None)

    async def list_owners(self, session_id: str, *, stale_ok: bool = False) -> Sequence[str]:  # noqa: D102
        check_id(session_id, "session_id", self._settings)
        rows = await self._database.read(
            lambda database: database.fetch_page(
                LIST_OWNERS, Advice.SMALLER_LIMIT, session_id=session_id, limit=_MAX_OWNERS
            ),
            stale_ok=stale_ok,
        )
        return [row[0] for row in rows]

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
        session = self._session(user_id, session_id)
        key = Key(*session, check_id(namespace, "namespace", self._settings))
        check_ids(list(channels), "channel", self._settings)
        if id is not None:
            check_id(id, "id", self._settings)
        return await self._database.read(
            lambda database: _History(database, key).read(id, list(dict.fromkeys(channels))), stale_ok=stale_ok
        )

    async def copy(  # noqa: D102
        self, user_id: str, session_id: str, target_user_id: str, target_session_id: str
    ) -> None:
        source, target = self._session(user_id, session_id), self._session(target_user_id, target_session_id)
        if source == target:
            raise InvalidContent(f"session {session_id!r} cannot be copied into itself: pass another target")
        values = {"session_id": session_id, "target_session": target_session_id}
        if user_id == target_user_id:
            statement, values["user_id"] = COPY, user_id
        else:
            statement = COPY_TO_USER
            values |= {"source_user": user_id, "target_user": target_user_id}

        async def copy(_: int) -> bool:
            async with self._database.transaction() as transaction:
                if not await transaction.fetch(LOCK_SOURCE, user_id=user_id, session_id=session_id):
                    return True
                await transaction.fetch(
                    LOCK_HEAD, user_id=target_user_id, session_id=target_session_id, new_epoch=_new_epoch()
                )
                (row,) = await transaction.fetch(statement, **values)
            if row["has_others"]:
                raise AlreadyExists(
                    f"session {target_session_id!r} of user {target_user_id!r} has other values of the same versions: "
                    "delete it first, or pass another target"
                )
            return True

        await retry(copy, f"could not copy session {session_id!r} of user {user_id!r}")

    async def prune(self, user_id: str, session_id: str) -> Deleted:  # noqa: D102
        session = self._session(user_id, session_id)
        return await self._delete_some(session, lambda transaction, key: transaction.fetch(PRUNE, **key))

    async def delete_runs(self, run_ids: Sequence[str], *, user_id: str | None = None) -> Deleted:  # noqa: D102
        check_count(len(run_ids), "the number of run_ids", maximum=self._settings.max_batch)
        values: dict[str, Any] = {"run_ids": list(run_ids)}
        check_ids(values["run_ids"], "run_id", self._settings)
        if user_id is not None:
            values["user_id"] = check_id(user_id, "user_id", self._settings)
        if not run_ids:
            return Deleted()
        statement = LIST_OF_RUNS if user_id is None else LIST_OF_RUNS_OF_USER
        deleted = 0
        # Again for what was copied or put meanwhile, but not for as long as a run continues.
        for _ in range(_PASSES):
            if not (found := await self._database.fetch(statement, **values)):
                break
            for owner, session_id in found:
                of_session = await self._delete_some(
                    (owner, session_id),
                    lambda transaction, key: transaction.fetch(DELETE_RUNS, **key, run_ids=values["run_ids"]),
                )
                deleted += of_session.checkpoints
        return Deleted(checkpoints=deleted)

    async def _delete_some(
        self, session: tuple[str, str], delete: Callable[[Transaction, dict[str, str]], Any]
    ) -> Deleted:
        """Delete checkpoints of a session, and then the values that no checkpoint needs any more."""
        key = {"user_id": session[0], "session_id": session[1]}

        async def work(_: int) -> Deleted:
            async with self._database.transaction() as transaction:
                if not await transaction.fetch(CHANGE_EPOCH, **key, new_epoch=_new_epoch()):
                    return Deleted()
                (row,) = await delete(transaction, key)
                if row["checkpoints"]:
                    await transaction.fetch(DELETE_UNUSED_VALUES, **key)
            return Deleted(checkpoints=row["checkpoints"])

        deleted = await retry(work, f"could not delete checkpoints of user {session[0]!r}")
        self._recent.forget(session)
        return deleted

    async def delete(self, user_id: str, session_id: str) -> Deleted:  # noqa: D102
        session = self._session(user_id, session_id)
        return await self._delete_some(session, lambda transaction, key: transaction.fetch(DELETE, **key))

    def _session(self, user_id: str, session_id: str) -> tuple[str, str]:
        """Validate the ids of a user and a session.

        Raises:
            InvalidContent: one of them is not a valid id.
        """
        return check_id(user_id, "user_id", self._settings), check_id(session_id, "session_id", self._settings)


class _History:
    """Reads the writes to channels along the parents of a checkpoint."""

    def __init__(self, database: Any, key: Key) -> None:
        self._database = database
        self._key = key
        self._values = key._asdict()

    async def read(self, id: str | None, channels: list[str]) -> dict[str, ChannelHistory]:
        if id is None and channels:
            rows = await self._database.fetch(LIST, **self._values, before=LAST_ID, limit=1)
            id = rows[0]["id"] if rows else None
        ancestors: dict[str, list[str]] = {channel: [] for channel in channels}
        values: dict[str, str] = {}
        missing = channels
        seen: set[str] = set()
        while id is not None and missing and id not in seen:
            seen.add(id)
            rows = await self._database.fetch(CHAIN, **self._values, id=id, channels=missing, limit=_CHAIN)
            for row in rows:
                for channel in missing:
                    ancestors[channel].append(row["id"])
                found = dict(zip(row["found"], row["versions"], strict=True))
                values |= found
                missing = [channel for channel in missing if channel not in found]
            id = rows[-1]["id"] if len(rows) == _CHAIN else None
        writes = await self._writes(ancestors)
        return {
            channel: ChannelHistory(
                await self._value(channel, values[channel]) if channel in values else None, writes[channel]
            )
            for channel in channels
        }

    async def _writes(self, ancestors: Mapping[str, list[str]]) -> dict[str, list[CheckpointWrite]]:
        ids = sorted({id for each in ancestors.values() for id in each})
        found: dict[tuple[str, str], list[CheckpointWrite]] = {}
        for first in range(0, len(ids), _CHAIN):
            rows = await self._database.fetch_page(
                WRITES,
                Advice.RAISE_LIMIT,
                **self._values,
                ids=ids[first : first + _CHAIN],
                channels=list(ancestors),
            )
            for row in rows:
                write = await offload.run(write_of, row, self._key)
                found.setdefault((row["checkpoint_id"], write.channel), []).append(write)
        return {
            channel: [
                write for id in reversed(of_channel) for write in sorted(found.get((id, channel), ()), key=write_order)
            ]
            for channel, of_channel in ancestors.items()
        }

    async def _value(self, channel: str, version: str) -> Serialized:
        """Return the value of a version.

        Raises:
            UnreadableRow: it was deleted meanwhile, or is not valid.
        """
        wanted: list[str] = [version]
        rows: dict[str, Row] = {}
        while wanted:
            for row in await self._database.fetch_page(
                VALUES, Advice.RAISE_LIMIT, **self._values, channel=channel, versions=wanted
            ):
                rows[row["version"]] = row
            if version not in rows:
                raise UnreadableRow("it was deleted meanwhile", "checkpoint_values", *self._key[:2])
            wanted = [each for each in rows[version]["sources"] or () if each not in rows] if len(rows) == 1 else []

        def join() -> bytes:
            own = {each: unpack_row(row, self._key) for each, row in rows.items()}
            return join_row(rows[version], own, self._key).value

        return Serialized(rows[version]["type"], await offload.run(join))


def _is_large(checkpoint: Checkpoint) -> bool:
    return any(len(value.data) >= COMPARED_FROM for value in checkpoint.values.values())


def _new_epoch() -> int:
    return random.getrandbits(62)


def _write_values(writes: Sequence[CheckpointWrite]) -> dict[str, Any]:
    return {
        "task_ids": [write.task_id for write in writes],
        "numbers": [write.number for write in writes],
        "task_paths": [write.task_path for write in writes],
        "channels": [write.channel for write in writes],
        "types": [write.value.type for write in writes],
        "sizes": [len(write.value.data) for write in writes],
        "data": [pack(write.value.data) for write in writes],
    }


def _info(row: Row, session: tuple[str, str]) -> CheckpointInfo:
    return CheckpointInfo(
        *session,
        namespace=row["namespace"],
        id=row["id"],
        parent_id=row["parent_id"],
        metadata=Serialized(row["metadata_type"], row["metadata"]),
        saved_at=row["saved_at"],
    )
