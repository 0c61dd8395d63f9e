"""The rows of checkpoints of a store without a database: written, read and compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentstore.inmemory.checkpoints import InMemoryCheckpointService, StoredCheckpoints
from agentstore.schemas.checkpoint import Checkpoint, CheckpointWrite, Serialized, long_version, short_version
from agentstore.schemas.pieces import Own, join, pack, unpack

Row = dict[str, Any]


def read_heads(service: InMemoryCheckpointService, user: str) -> Iterator[Row]:
    """Yield the rows of the sessions of a user."""
    for session_id, stored in _sessions(service, user):
        yield {"user_id": user, "session_id": session_id, "updated_at": stored.updated_at}


def read_checkpoints(service: InMemoryCheckpointService, user: str) -> Iterator[Row]:
    """Yield the rows of the checkpoints of a user."""
    for session_id, stored in _sessions(service, user):
        for (namespace, id), (checkpoint, saved_at) in sorted(stored.checkpoints.items(), key=_bytes_of_key):
            yield {
                "user_id": user,
                "session_id": session_id,
                "namespace": namespace,
                "id": id,
                "parent_id": checkpoint.parent_id,
                "run_id": checkpoint.run_id,
                **_packed(checkpoint.body),
                "metadata_type": checkpoint.metadata.type,
                "metadata": _hex(checkpoint.metadata.data),
                "channels": list(checkpoint.versions),
                "versions": [short_version(version) for version in checkpoint.versions.values()],
                "deltas": list(checkpoint.deltas) or None,
                "saved_at": saved_at,
            }


def read_values(service: InMemoryCheckpointService, user: str) -> Iterator[Row]:
    """Yield the rows of the values of a user."""
    for session_id, stored in _sessions(service, user):
        rows = {(namespace, channel, short_version(v)): each for (namespace, channel, v), each in stored.values.items()}
        for (namespace, channel, version), value in sorted(rows.items(), key=_bytes_of_key):
            key = {"namespace": namespace, "channel": channel, "version": version}
            yield {
                "user_id": user,
                "session_id": session_id,
                **key,
                **_packed(value),
                "sources": None,
                "pieces": None,
            }


def read_writes(service: InMemoryCheckpointService, user: str) -> Iterator[Row]:
    """Yield the rows of the writes of a user."""
    for session_id, stored in _sessions(service, user):
        for (namespace, checkpoint_id), writes in sorted(stored.writes.items(), key=_bytes_of_key):
            for write in sorted(writes.values(), key=lambda write: (write.task_id.encode(), write.number)):
                yield {
                    "user_id": user,
                    "session_id": session_id,
                    "namespace": namespace,
                    "checkpoint_id": checkpoint_id,
                    "task_id": write.task_id,
                    "number": write.number,
                    "task_path": write.task_path,
                    "channel": write.channel,
                    **_packed(write.value),
                }


def stored_checkpoints(row: Row, rows: Mapping[str, Sequence[Row]]) -> StoredCheckpoints:
    """Return the checkpoints of a session, from its row and those of its parts."""
    stored = StoredCheckpoints(updated_at=row["updated_at"])
    for each in comparable_rows("checkpoints", rows["checkpoints"]):
        versions = map(long_version, each["versions"])
        checkpoint = Checkpoint(
            namespace=each["namespace"],
            id=each["id"],
            body=Serialized(each["type"], each["data"]),
            metadata=Serialized(each["metadata_type"], each["metadata"]),
            parent_id=each["parent_id"],
            run_id=each["run_id"],
            versions=dict(zip(each["channels"], versions, strict=True)),
            deltas=tuple(each["deltas"] or ()),
        )
        stored.checkpoints[each["namespace"], each["id"]] = checkpoint, each["saved_at"]
    for each in comparable_rows("checkpoint_values", rows["checkpoint_values"]):
        key = each["namespace"], each["channel"], long_version(each["version"])
        stored.values[key] = Serialized(each["type"], each["data"])
    for each in comparable_rows("checkpoint_writes", rows["checkpoint_writes"]):
        write = CheckpointWrite(
            each["task_id"],
            each["number"],
            each["channel"],
            Serialized(each["type"], each["data"]),
            each["task_path"],
        )
        of_checkpoint = stored.writes.setdefault((each["namespace"], each["checkpoint_id"]), {})
        of_checkpoint[each["task_id"], each["number"]] = write
    return stored


def comparable_rows(table: str, rows: Sequence[Row]) -> list[Row]:
    """Return rows with their data as bytes without compression, and values as a whole, however they are stored."""
    unpacked = [{**row, "data": unpack(_bytes(row["data"]), row["size"])} for row in rows]
    if table == "checkpoints":
        return [{**row, "metadata": _bytes(row["metadata"])} for row in unpacked]
    if table == "checkpoint_writes":
        return unpacked
    own: dict[tuple[str, ...], dict[str, bytes]] = {}
    for row in unpacked:
        own.setdefault(_channel(row), {})[row["version"]] = row["data"]
    whole = []
    for row in unpacked:
        pieces = None if row["pieces"] is None else _bytes(row["pieces"])
        stored = Own(row["data"], row["sources"], pieces)
        value = join(row["version"], stored, own[_channel(row)]).value
        whole.append({**row, "data": value, "size": len(value), "sources": None, "pieces": None})
    return whole


def _channel(row: Row) -> tuple[str, ...]:
    return row["user_id"], row["session_id"], row["namespace"], row["channel"]


def _sessions(service: InMemoryCheckpointService, user: str) -> list[tuple[str, StoredCheckpoints]]:
    found = [(id, stored) for (owner, id), stored in service._sessions.items() if owner == user]
    return sorted(found, key=lambda entry: entry[0].encode())


def _packed(value: Serialized) -> Row:
    return {"type": value.type, "size": len(value.data), "data": _hex(pack(value.data))}


def _hex(data: bytes) -> str:
    return f"\\x{data.hex()}"


def _bytes(value: str | bytes) -> bytes:
    return bytes.fromhex(value[2:]) if isinstance(value, str) else value


def _bytes_of_key(entry: tuple[tuple[str, ...], Any]) -> list[bytes]:
    return [part.encode() for part in entry[0]]
