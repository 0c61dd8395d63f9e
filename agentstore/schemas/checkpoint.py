"""The checkpoints of a graph, as a serializer has written them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.schemas.payload import check_id, check_ids, shortened

if TYPE_CHECKING:
    from agentstore.settings import Settings

# Longer than any id, and greater than any: ids are compared by bytes.
LAST_ID = "\U0010ffff" * 200
# The usual form of a version: a number of 32 digits and a random part.
_VERSION = re.compile(r"(?=\d{32}\.)0*(\d+\.\d[\d.e-]*)", re.ASCII)


class Serialized(NamedTuple):
    """A value as a serializer has written it: the name of a format, and bytes."""

    type: str
    data: bytes


class CheckpointWrite(NamedTuple):
    """What a task has written to a channel."""

    task_id: str
    number: int
    """The number of the write within its task; under 0 for one that replaces an earlier one."""
    channel: str
    value: Serialized
    task_path: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint without its values and writes."""

    user_id: str
    session_id: str
    namespace: str
    id: str
    parent_id: str | None
    metadata: Serialized
    saved_at: datetime
    """When it was first stored (UTC)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of a graph: its values by channel, and the writes that are pending at it."""

    namespace: str
    id: str
    body: Serialized
    """The checkpoint without the values."""
    metadata: Serialized
    parent_id: str | None = None
    run_id: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """The version of each channel. A version without a value has none in `values`."""
    values: Mapping[str, Serialized] = field(default_factory=dict)
    """In a put, those of new versions."""
    deltas: Sequence[str] = ()
    """The channels whose value is computed from the writes of earlier checkpoints, unless it is stored."""
    writes: Sequence[CheckpointWrite] = ()
    """In the order in which a step applies them."""

    @property
    def relies_on_stored(self) -> bool:
        """Whether it has versions without a value, which may be stored with earlier checkpoints."""
        return not self.versions.keys() <= self.values.keys()


class ChannelHistory(NamedTuple):
    """The writes to a channel before a checkpoint, the oldest first, from the last stored value on."""

    value: Serialized | None
    writes: list[CheckpointWrite]


def short_version(version: str) -> str:
    """Return a version as it is stored: without the zeros of the usual form, and without line breaks."""
    if (match := _VERSION.fullmatch(version)) is not None:
        return match[1]
    return "=" + version.replace("\\", "\\\\").replace("\n", "\\n")


def long_version(stored: str) -> str:
    """Return the version that :func:`short_version` has shortened."""
    if stored.startswith("="):
        return re.sub(r"\\(.)", lambda escaped: "\n" if escaped[1] == "n" else escaped[1], stored[1:])
    number, _, rest = stored.partition(".")
    return f"{number:0>32}.{rest}"


def check_checkpoint(checkpoint: Checkpoint, settings: "Settings") -> None:
    """Validate a checkpoint to be stored.

    Raises:
        InvalidContent: an id, a name or a version is not valid text.
        LimitExceeded: one of its values is too large.
    """
    ids = [checkpoint.namespace, checkpoint.id, *checkpoint.versions, *checkpoint.versions.values()]
    ids += [each for each in (checkpoint.parent_id, checkpoint.run_id) if each is not None]
    check_ids([*ids, *checkpoint.values, *checkpoint.deltas], "an id of the checkpoint", settings)
    if missing := checkpoint.values.keys() - checkpoint.versions.keys():
        raise InvalidContent(f"channel {shortened(min(missing))} has a value, and no version")
    for channel, value in checkpoint.values.items():
        check_serialized(value, f"the value of channel {channel!r}", settings)
    check_serialized(checkpoint.body, "the checkpoint", settings)
    check_serialized(checkpoint.metadata, "the metadata", settings)


def values_deleted(checkpoint: Checkpoint, user_id: str, session_id: str) -> Conflict:
    """Return the error for a checkpoint that relies on values of a parent that is not stored any more."""
    return Conflict(
        f"values of user {user_id!r}, session {session_id!r} were deleted before checkpoint {checkpoint.id!r} was "
        "stored: put it again, complete"
    )


def check_writes(writes: Sequence[CheckpointWrite], settings: "Settings") -> None:
    """Validate writes to be stored.

    Raises:
        InvalidContent: an id is not valid text.
        LimitExceeded: a value is too large, or there are too many writes.
    """
    if len(writes) > settings.max_batch:
        raise LimitExceeded(f"there are {len(writes)} writes, the maximum is {settings.max_batch}")
    for write in writes:
        for name in ("task_id", "channel", "task_path"):
            check_id(getattr(write, name), name, settings)
        if type(write.number) is not int or not -1_000 <= write.number < 2**62:
            raise InvalidContent(f"number must be an integer from -1000 to 2**62 - 1, got {shortened(write.number)}")
        check_serialized(write.value, f"a write to channel {write.channel!r}", settings)


def check_serialized(value: Serialized, name: str, settings: "Settings") -> None:
    """Validate a value, called `name`.

    Raises:
        InvalidContent: its type is not valid text.
        LimitExceeded: it is larger than `max_state_bytes`.
    """
    check_id(value.type, "the type of a value", settings)
    if len(value.data) > settings.max_state_bytes:
        raise LimitExceeded(
            f"{name} has {len(value.data)} bytes, the maximum is {settings.max_state_bytes}: see the setting "
            "MAX_STATE_BYTES"
        )


def write_order(write: CheckpointWrite) -> tuple[str, str, int]:
    """Return the key by which the writes of a step are ordered."""
    return write.task_path, write.task_id, write.number


def last_of_each(writes: Sequence[CheckpointWrite]) -> list[CheckpointWrite]:
    """Return the writes without those that a later one of the same task and number replaces."""
    found: dict[tuple[str, int], CheckpointWrite] = {}
    for write in writes:
        key = write.task_id, write.number
        if write.number < 0 or key not in found:
            found[key] = write
    return list(found.values())
