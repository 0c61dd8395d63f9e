"""Validation for the calls that change stored messages, and JSON Merge Patch."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.exact_json import loads
from agentstore.schemas.message import Message
from agentstore.schemas.payload import check_ids, dump_metadata, prepare_messages

if TYPE_CHECKING:
    from agentstore.settings import Settings

MetadataPatch: TypeAlias = Mapping[str, Any] | Callable[[dict[str, Any], list[str]], Mapping[str, Any]]
"""A JSON Merge Patch (RFC 7396) of the metadata of a session, or a function that returns it.

The function receives a copy of the metadata, and the ids of the messages that the append has added.
"""


def check_message_ids(ids: Sequence[str], settings: "Settings") -> list[str]:
    """Validate the ids of messages, and return each once.

    Raises:
        InvalidContent: it is not a sequence of ids.
        LimitExceeded: there are more than `max_batch`.
    """
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Sequence):
        raise InvalidContent(f"ids must be a list of message ids, got {type(ids).__name__}")
    if len(ids) > settings.max_batch:
        raise LimitExceeded(f"got {len(ids)} ids in one call, the maximum is {settings.max_batch}")
    check_ids(list(ids), "a message's id", settings)
    return list(dict.fromkeys(ids))


def prepare_replacement(
    message: Message | Mapping[str, Any], expected: Message | Mapping[str, Any] | None, settings: "Settings"
) -> tuple[Message, str, str | None]:
    """Validate a message that replaces another; return it, its stored JSON text, and that of `expected`.

    Raises:
        InvalidContent: `message` has no id, one of them is not a valid message, or their ids differ.
        LimitExceeded: a message is too large.
    """
    given = {"message": message} if expected is None else {"message": message, "expected": expected}
    for name, value in given.items():
        if not isinstance(value, (Message, Mapping)):
            raise InvalidContent(f"{name} must be a Message or a dict, got {type(value).__name__}")
    if isinstance(message, Mapping) and message.get("id") is None:
        raise InvalidContent("message has no id: it replaces the message with its id")
    ((new, payload),) = prepare_messages(message, settings).values()
    if expected is None:
        return new, payload, None
    ((old, before),) = prepare_messages(expected, settings).values()
    if old.id != new.id:
        raise InvalidContent(f"message has the id {new.id!r}, and expected the id {old.id!r}: they must be equal")
    return new, payload, before


def check_patch(patch: MetadataPatch, settings: "Settings") -> None:
    """Validate a JSON Merge Patch of the metadata of a session; one that a function returns is validated later.

    Raises:
        InvalidContent: it is not a mapping, or contains a value that JSON cannot represent exactly.
        LimitExceeded: it is larger than `max_message_bytes`, or nested deeper than 200 levels.
    """
    if callable(patch):
        return
    if not isinstance(patch, Mapping):
        raise InvalidContent(f"metadata_patch must be a dict or a function, got {type(patch).__name__}")
    dump_metadata(patch, settings)


def patched_metadata(metadata: str, patch: MetadataPatch, added: list[str], settings: "Settings") -> str:
    """Return the stored text of metadata, changed by a patch; `added` are the ids of new messages, for a function.

    Raises:
        InvalidContent, LimitExceeded: as :func:`check_patch`, for the patch of a function; or the result is too large.
    """
    if callable(patch):
        patch = patch(loads(metadata), added)
        if not isinstance(patch, Mapping):
            raise InvalidContent(f"the function metadata_patch must return a dict, got {type(patch).__name__}")
        dump_metadata(patch, settings)
    return dump_metadata(merge_patch(loads(metadata), patch), settings)


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` changed by a JSON Merge Patch (RFC 7396): objects are merged, and None removes a key."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
