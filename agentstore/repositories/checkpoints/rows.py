"""Checkpoints from the rows of the statements that read them."""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from agentstore.database.statement import Row
from agentstore.errors import UnreadableRow
from agentstore.schemas.checkpoint import Checkpoint, CheckpointWrite, Serialized, long_version, write_order
from agentstore.schemas.pieces import Composed, Own, join, unpack

_CHECKPOINT, _VALUE, _WRITE = range(3)


class Key(NamedTuple):
    """What checkpoints are read of."""

    user_id: str
    session_id: str
    namespace: str


class Loaded(NamedTuple):
    """Checkpoints, the newest first, and the values of the newest one as they are stored."""

    checkpoints: list[Checkpoint]
    epoch: int | None
    values: dict[tuple[str, str], Composed]


def load(rows: Iterable[Row], key: Key) -> Loaded:
    """Return the checkpoints in the rows of GET.

    Raises:
        UnreadableRow: a value is not valid, or a part of it is missing.
    """
    values: dict[str, dict[str, Row]] = {}
    writes: dict[str, list[CheckpointWrite]] = {}
    found = []
    for row in rows:
        kind = row["kind"]
        if kind == _VALUE:
            values.setdefault(row["channel"], {})[row["version"]] = row
        elif kind == _WRITE:
            writes.setdefault(row["id"], []).append(write_of(row, key))
        else:
            found.append(row)
    found.sort(key=itemgetter("id"), reverse=True)
    stored = _Values(values, key)
    return Loaded(
        [_checkpoint(row, stored, sorted(writes.get(row["id"], ()), key=write_order), key) for row in found],
        found[0]["number"] if found else None,
        {(key.namespace, channel): value for channel, value in stored.of(found[0]).items()} if found else {},
    )


def write_of(row: Row, key: Key) -> CheckpointWrite:
    """Return a write."""
    data = _unpacked(row, "checkpoint_writes", key)
    return CheckpointWrite(
        row["task_id"], row["number"], row["channel"], Serialized(row["type"], data), row["task_path"]
    )


def join_row(row: Row, sources: Mapping[str, bytes], key: Key) -> Composed:
    """Return a value, given the own bytes of its sources.

    Raises:
        UnreadableRow: it is not valid, or a source is missing.
    """
    own = Own(_unpacked(row, "checkpoint_values", key), row["sources"], row["pieces"])
    try:
        return join(row["version"], own, sources)
    except ValueError as error:
        raise UnreadableRow(str(error), "checkpoint_values", *key[:2]) from error


def unpack_row(row: Row, key: Key) -> bytes:
    """Return the own bytes of a value.

    Raises:
        UnreadableRow: they are not valid.
    """
    return _unpacked(row, "checkpoint_values", key)


class _Values:
    """The values that were read, each unpacked and put together once."""

    def __init__(self, rows: Mapping[str, Mapping[str, Row]], key: Key) -> None:
        self._rows = rows
        self._key = key
        self._own: dict[str, dict[str, bytes]] = {}
        self._joined: dict[tuple[str, str], Composed] = {}

    def of(self, checkpoint: Row) -> dict[str, Composed]:
        """Return the values of a checkpoint by channel."""
        named = zip(checkpoint["channels"], checkpoint["versions"], strict=True)
        return {
            channel: self._value(channel, version)
            for channel, version in named
            if version in self._rows.get(channel, {})
        }

    def type_of(self, channel: str, version: str) -> str:
        name: str = self._rows[channel][version]["type"]
        return name

    def _value(self, channel: str, version: str) -> Composed:
        joined = self._joined.get((channel, version))
        if joined is None:
            rows = self._rows[channel]
            row = rows[version]
            own = self._own.setdefault(channel, {})
            for source in row["sources"] or ():
                if source not in own and source in rows:
                    own[source] = unpack_row(rows[source], self._key)
            joined = self._joined[channel, version] = join_row(row, own, self._key)
        return joined


def _checkpoint(row: Row, values: _Values, writes: list[CheckpointWrite], key: Key) -> Checkpoint:
    found = values.of(row)
    return Checkpoint(
        namespace=key.namespace,
        id=row["id"],
        body=Serialized(row["type"], _unpacked(row, "checkpoints", key)),
        metadata=Serialized(row["metadata_type"], row["metadata"]),
        parent_id=row["parent_id"],
        run_id=row["run_id"],
        versions=dict(zip(row["channels"], map(long_version, row["versions"]), strict=True)),
        values={
            channel: Serialized(values.type_of(channel, each.version), each.value) for channel, each in found.items()
        },
        deltas=tuple(row["deltas"] or ()),
        writes=writes,
    )


def _unpacked(row: Any, table: str, key: Key) -> bytes:
    try:
        return unpack(row["data"], row["size"])
    except ValueError as error:
        raise UnreadableRow(str(error), table, *key[:2]) from error
