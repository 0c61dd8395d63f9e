"""Read the tables of the checkpoint savers of langgraph-checkpoint-postgres: PostgresSaver and AsyncPostgresSaver.

The values are moved as their serializer wrote them, and not parsed: that could execute code that somebody has written
to the database.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Text, bindparam, cast, column, func, select, table, tuple_

from agentstore.errors import InvalidContent
from agentstore.importing.databases import OtherDatabase
from agentstore.importing.notes import Note
from agentstore.importing.records import CheckpointRecord, Reader
from agentstore.schemas.checkpoint import Checkpoint, CheckpointWrite, Serialized
from agentstore.schemas.parts import parse_object

_PAGE = 100

_KEY = ("thread_id", "checkpoint_ns", "checkpoint_id")
_CHECKPOINTS = table("checkpoints", *map(column, (*_KEY, "parent_checkpoint_id", "checkpoint", "metadata")))
_BLOBS = table("checkpoint_blobs", *map(column, ("thread_id", "checkpoint_ns", "channel", "version", "type", "blob")))
_WRITES = table("checkpoint_writes", *map(column, (*_KEY, "task_id", "task_path", "idx", "channel", "type", "blob")))
_PRIMARY = [_CHECKPOINTS.c[name] for name in _KEY]
_FIRST = (
    select(
        *_PRIMARY,
        _CHECKPOINTS.c.parent_checkpoint_id,
        cast(_CHECKPOINTS.c.checkpoint, Text),
        cast(_CHECKPOINTS.c.metadata, Text),
    )
    .order_by(*_PRIMARY)
    .limit(_PAGE)
)
_AFTER = _FIRST.where(tuple_(*_PRIMARY) > tuple_(*(bindparam(f"after_{number}", type_=Text) for number in range(3))))
# The user that the configuration of a run named is in the metadata of its checkpoints.
_USER_OF = select(func.max(func.jsonb_extract_path_text(_CHECKPOINTS.c.metadata, "user_id"))).where(
    _CHECKPOINTS.c.thread_id == bindparam("thread_id", type_=Text)
)
_WRITES_OF = select(
    _WRITES.c.task_id, _WRITES.c.idx, _WRITES.c.channel, _WRITES.c.type, _WRITES.c.blob, _WRITES.c.task_path
).where(*(_WRITES.c[name] == bindparam(name, type_=Text) for name in _KEY))


@dataclass(frozen=True, slots=True)
class Conversion:
    """How checkpoints are stored: what the adapter knows, which imports langgraph-checkpoint."""

    dump: Callable[[Any], tuple[str, bytes]]
    """Serialize a JSON value, as the saver does: its type and its bytes."""


async def read(database: OtherDatabase, conversion: Conversion, user: str | None) -> Reader:
    """Yield the checkpoints of each thread in their order, with their writes.

    They belong to `user`, or else to the user that the metadata of one of the thread names, or to one with its id.

    Raises:
        InvalidContent: the database lacks the tables.
    """
    for each in (_CHECKPOINTS, _BLOBS, _WRITES):
        await database.columns(each)
    place: tuple[str, str] | None = None
    owner = user
    known: set[tuple[str, str]] = set()
    rows = await database.fetch(_FIRST)
    while rows:
        for row in rows:
            thread_id, namespace, id = row[:3]
            if user is None and (place is None or place[0] != thread_id):
                ((named,),) = await database.fetch(_USER_OF, thread_id=thread_id)
                owner = named or thread_id
            if place != (thread_id, namespace):
                place, known = (thread_id, namespace), set()
            name = f"checkpoint {id} of thread {thread_id}"
            try:
                checkpoint = await _checkpoint(database, conversion, row, known)
            except InvalidContent as error:
                yield Note(name, str(error))
                continue
            complete = partial(_checkpoint, database, conversion, row)
            yield CheckpointRecord(name, owner or thread_id, thread_id, checkpoint, complete)
        if len(rows) < _PAGE:
            return
        rows = await database.fetch(_AFTER, **{f"after_{number}": rows[-1][number] for number in range(3)})


async def _checkpoint(
    database: OtherDatabase, conversion: Conversion, row: tuple[Any, ...], known: set[tuple[str, str]] | None = None
) -> Checkpoint:
    """Return a checkpoint, with the values of the versions that are not `known`, to which it adds them; None: all."""
    thread_id, namespace, id, parent_id, body_text, metadata_text = row
    body = parse_object(body_text, "the checkpoint")
    metadata = parse_object(metadata_text, "the metadata")
    inline, versions = body.pop("channel_values", None) or {}, body.get("channel_versions") or {}
    if not isinstance(inline, dict) or not isinstance(versions, dict):
        raise InvalidContent("channel_values or channel_versions of the checkpoint is not an object")
    versions = {channel: str(version) for channel, version in versions.items()}
    known = set() if known is None else known
    new = [pair for pair in versions.items() if pair not in known]
    values = {channel: Serialized(*conversion.dump(inline[channel])) for channel, _ in new if channel in inline}
    if wanted := [pair for pair in new if pair[0] not in inline]:
        found = await database.fetch(
            select(_BLOBS.c.channel, _BLOBS.c.type, _BLOBS.c.blob).where(
                _BLOBS.c.thread_id == bindparam("thread_id", type_=Text),
                _BLOBS.c.checkpoint_ns == bindparam("namespace", type_=Text),
                tuple_(_BLOBS.c.channel, _BLOBS.c.version).in_(wanted),
            ),
            thread_id=thread_id,
            namespace=namespace,
        )
        values |= {channel: Serialized(kind, blob or b"") for channel, kind, blob in found if kind != "empty"}
    known.update(new)
    keys = {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": id}
    run_id, deltas = metadata.get("run_id"), metadata.get("counters_since_delta_snapshot")
    return Checkpoint(
        namespace=namespace,
        id=id,
        body=Serialized(*conversion.dump(body)),
        metadata=Serialized(*conversion.dump(metadata)),
        parent_id=parent_id,
        run_id=run_id if isinstance(run_id, str) else None,
        versions=versions,
        values=values,
        deltas=sorted(deltas) if isinstance(deltas, dict) else (),
        writes=[
            CheckpointWrite(task_id, number, channel, Serialized(kind or "", blob), path)
            for task_id, number, channel, kind, blob, path in await database.fetch(_WRITES_OF, **keys)
        ],
    )
