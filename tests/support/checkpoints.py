"""Checkpoints for tests."""

from typing import Any

from agentstore.schemas.checkpoint import Checkpoint, CheckpointWrite, Serialized


def checkpoint_of(id: str = "1", value: bytes = b"x", **fields: Any) -> Checkpoint:
    """Return a checkpoint with a value of the channel "c", whose version is the id."""
    values = {"c": Serialized("bytes", value)}
    about: dict[str, Any] = {"versions": {"c": id}, "values": values, "run_id": "r", "namespace": ""}
    return Checkpoint(id=id, body=Serialized("json", b"{}"), metadata=Serialized("json", b"{}"), **(about | fields))


def write_of(number: int = 0, value: bytes = b"w", **fields: Any) -> CheckpointWrite:
    """Return a write to the channel "c"."""
    about: dict[str, Any] = {"task_id": "t", "channel": "c"}
    return CheckpointWrite(number=number, value=Serialized("bytes", value), **(about | fields))
