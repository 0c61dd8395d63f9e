"""Checks of the rows of an export, whose file may come from anyone: what a write would refuse, a restore refuses.

Most rows are plain: a regular expression accepts them, which takes a fraction of the time of parsing. All others are
parsed and checked as on a write.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import pydantic_core
from sqlalchemy import ARRAY, JSON, BigInteger, Boolean, Column, DateTime, Double, LargeBinary, SmallInteger, Text

from agentstore.errors import AgentStoreError, InvalidContent, LimitExceeded, UnreadableRow
from agentstore.exact_json import dumps, loads
from agentstore.repositories import transfer
from agentstore.repositories.transfer import TABLES
from agentstore.schemas.memory_item import MESSAGE, parse_memories
from agentstore.schemas.message import Message, Role
from agentstore.schemas.payload import (
    MAX_TTL,
    RowKey,
    aware,
    check_id,
    check_title,
    describe_invalid,
    dump_message,
    dump_metadata,
    dump_state,
    load_messages,
    load_object,
    shortened,
)
from agentstore.settings import Settings

# The largest number in a column, so that none overflows when it is increased; and of the attempts at a job.
_MAX_NUMBER = 2**62
_MAX_ATTEMPTS = 1_000_000
_MAX_ROUND = 2**63 - 1
_LIMITS = {"attempts": _MAX_ATTEMPTS, "outages": _MAX_ATTEMPTS, "next_round": _MAX_ROUND, "last_round": _MAX_ROUND}
_SCOPED_VALUES = {"app_values", "user_values", "session_values"}
_LIMITS |= {"round": _MAX_ROUND, "ttl": MAX_TTL}
# The numbers of writes that replace earlier ones are negative.
_LEAST = {("checkpoint_writes", "number"): -1_000}
_MAX_PERCENT = 100
_ROLES = {Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.TOOL}
# Characters of a payload from which it is parsed in a thread, so that the event loop is not blocked.
_LARGE = 1_000_000

# Brackets from which a payload may be nested too deeply.
_MANY_BRACKETS = 190

# The parts of a plain payload, as agentstore writes them. Possessive, so that no input takes quadratic time.
_CHARACTERS = rb'[^"\\\x00-\x1f]*+'
_STRING = rb'"' + _CHARACTERS + rb'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})' + _CHARACTERS + rb')*+"'
_NUMBER = b"[0-9]{1,18}+"


def _object(value: bytes) -> bytes:
    return rb"\{(?:" + _STRING + b":" + value + rb'(?:,(?=")|(?=\})))*+\}'


def _array(value: bytes) -> bytes:
    return rb"\[(?:" + value + rb"(?:,(?!\])|(?=\])))*+\]"


def _plain_object(depth: int) -> bytes:
    """Return the pattern of an object that is nested at most this deep, and whose numbers are not too large."""
    value = b"(?>" + _STRING + rb"|-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,17}+)?+|true|false|null)"
    for _ in range(depth):
        value = b"(?>" + value + b"|" + _object(value) + b"|" + _array(value) + b")"
    return _object(value)


def _field(name: bytes, value: bytes) -> bytes:
    """Return the pattern of a field that may be missing or null."""
    return b'(?:,"' + name + b'":(?:' + value + b"|null))?+"


def _fields_of_part() -> bytes:
    return (
        rb'\{(?:"sequence_number":(?:' + _NUMBER + rb'|null),)?+"object":' + _STRING + _field(b"status", _STRING)
        + _field(b"error", b"null") + _field(b"index", _NUMBER) + _field(b"delta", b"true|false")
        + _field(b"msg_id", _STRING) + b',"type":(?>"text"' + _field(b"text", _STRING) + b'|"data"'
        + _field(b"data", _plain_object(3)) + b'|"image"' + _field(b"image_url", _STRING) + rb")\}"
    )  # fmt: skip


# A number that may be read as infinity, which no write accepts.
_MAY_OVERFLOW = re.compile(rb"[0-9](?:[eE]\+?[0-9]{3}|[0-9]{300})")


# Compiled when first used, which takes 0.1 s.
@cache
def _plain_metadata() -> re.Pattern[bytes]:
    return re.compile(_plain_object(3))


@cache
def plain_message() -> re.Pattern[bytes]:
    """Return the pattern of a plain message, whose group 1 is its id."""
    return re.compile(
        rb'\{(?:"sequence_number":(?:' + _NUMBER + rb'|null),)?+"object":' + _STRING + _field(b"status", _STRING)
        + _field(b"error", b"null") + rb',"id":"(' + _CHARACTERS + rb')","type":' + _STRING
        + _field(b"role", b'"(?:user|assistant|system|tool)"') + _field(b"content", _array(_fields_of_part()))
        + _field(b"code", _STRING) + _field(b"message", _STRING) + _field(b"usage", _plain_object(3))
        + _field(b"metadata", _plain_object(3)) + rb"\}"
    )  # fmt: skip


def max_line(settings: Settings) -> int:
    """Return the size from which a line is too long to be a row: payload and metadata may be escaped or hexadecimal."""
    return 2 * (settings.max_message_bytes + settings.max_state_bytes) + 10_000_000


def check_users(users: Sequence[str], name: str, settings: Settings) -> list[str]:
    """Validate the argument called `name`, ids of users, and return them without duplicates, in order.

    Raises:
        InvalidContent: it is a string, or one of them is not a valid id.
    """
    if isinstance(users, str):
        raise InvalidContent(f"{name} must be a list of ids, got the string {shortened(users)}")
    return sorted({check_id(user, "user_id", settings) for user in users}, key=str.encode)


@cache
def usual_row(table: str, columns: tuple[str, ...], max_id_bytes: int) -> re.Pattern[bytes]:
    """Return a pattern of a row whose values, before the payload, have no escapes and are valid; groups match them."""
    parts = []
    for name in columns[:-1]:
        column = TABLES[table].c[name]
        value = _pattern(column, max_id_bytes)
        parts.append(b'"%b":%b' % (name.encode(), b"(?:%b|null)" % value if column.nullable else value))
    payload = transfer.payload_of(TABLES[table])
    if payload is None or payload != columns[-1]:
        return re.compile(b"(?!)")
    return re.compile(rb"\{" + b",".join(parts) + b',"%b":' % payload.encode())


def _pattern(column: Column[Any], max_id_bytes: int) -> bytes:
    kind = column.type
    if column.name == "role":
        return rb'"(user|assistant|system|tool)"'
    if column.name in _LIMITS:
        return rb"([1-9][0-9]{0,5}+|0)(?![0-9])" if column.name != "ttl" else rb"([1-9][0-9]{0,5}+)(?![0-9])"
    if isinstance(kind, DateTime):
        return (
            rb'"((?!0000|0001|9999)[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?[+-]'
            rb'[0-9]{2}:[0-9]{2})"'
        )
    if isinstance(kind, BigInteger):
        return rb"([0-9]{1,18}+)(?![0-9])"
    if isinstance(kind, SmallInteger):
        return rb"(100|[1-9]?[0-9])(?![0-9])"
    if isinstance(kind, Boolean):
        return rb"(true|false)"
    if isinstance(kind, Double):
        return rb"(0(?:\.[0-9]{1,17})?|1)"
    if isinstance(kind, (ARRAY, JSON, LargeBinary)):
        return rb'"((?!))"'  # always checked
    most = max_id_bytes if isinstance(kind, Text) else 1_000_000
    return rb'"([^"\\\x00-\x1f]{0,%d})"' % most


def check_values(table: str, values: dict[str, Any], settings: Settings) -> None:
    """Check the parsed values of a row, besides its payload.

    Raises:
        InvalidContent, LimitExceeded: a value has another type than its column, or a write would refuse it.
    """
    for name, value in values.items():
        column = TABLES[table].c[name]
        if value is None:
            if not column.nullable:
                raise InvalidContent(f"{name} is null")
            continue
        kind = column.type
        if isinstance(kind, (BigInteger, SmallInteger)):
            most = _LIMITS.get(name, _MAX_NUMBER) if isinstance(kind, BigInteger) else _MAX_PERCENT
            least = _LEAST.get((table, name), 0)
            if type(value) is not int or not least <= value <= most:
                raise InvalidContent(f"{name} must be an integer from {least} to {most}, got {shortened(value)}")
        elif isinstance(kind, Boolean):
            if type(value) is not bool:
                raise InvalidContent(f"{name} must be true or false, got {shortened(value)}")
        elif isinstance(kind, Double):
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise InvalidContent(f"{name} must be a number from 0 to 1, got {shortened(value)}")
        elif isinstance(kind, ARRAY):
            if not isinstance(value, list):
                raise InvalidContent(f"{name} must be a list of strings, got {shortened(value)}")
            for each in value:
                check_id(each, name, settings)
        elif not isinstance(value, str):
            raise InvalidContent(f"{name} must be a string, got {shortened(value)}")
        elif isinstance(kind, LargeBinary):
            read_bytes(name, value)
        elif isinstance(kind, DateTime):
            _check_time(name, value)
        elif isinstance(kind, JSON):
            _check_object(value, settings)
        elif name in ("title", "content_type", "filename"):
            check_title(value, name)
        elif name == "role":
            if value not in _ROLES:
                raise InvalidContent(f"role must be one of {', '.join(sorted(_ROLES))}, got {shortened(value)}")
        elif name not in ("error", "lexemes", "embedding"):
            check_id(value, name, settings)
        elif "\0" in value:
            raise InvalidContent(f"{name} contains a NUL character")
    if table == "sessions" and values.get("ttl") == 0:
        raise InvalidContent("ttl must be at least 1")


def read_bytes(name: str, value: object) -> bytes:
    """Return the bytes that a row has in hexadecimal.

    Raises:
        InvalidContent: the value of the column `name` is not of this form.
    """
    try:
        if isinstance(value, str) and value.startswith("\\x"):
            return bytes.fromhex(value[2:])
    except ValueError:
        pass
    raise InvalidContent(f"{name} must be bytes in hexadecimal after \\x")


def _check_time(name: str, value: str) -> None:
    try:
        aware(datetime.fromisoformat(value), name)
    except ValueError as error:
        raise InvalidContent(f"{name} must be a timestamp with a time zone, got {shortened(value)}") from error


async def check_payload(table: str, values: dict[str, Any], payload: bytes, settings: Settings) -> None:
    """Check the JSON value of a row of another table than messages and memories. `values` are its plain values.

    It is an object, except for scoped values.

    Raises:
        InvalidContent, LimitExceeded: a write would refuse it.
    """
    if table in _SCOPED_VALUES:
        if len(payload) > _LARGE:
            await asyncio.to_thread(_check_value, payload, settings)
        else:
            _check_value(payload, settings)
        return
    if table != "state_rounds":
        if _plain_metadata().fullmatch(payload) is None or len(payload) > settings.max_message_bytes:
            _check_object(payload, settings)
        return
    size, packed = values.get("size"), values.get("packed")
    if (packed is None) == (payload == b"null"):
        raise InvalidContent("expected either a payload or a packed state")
    if len(payload if packed is None else packed) > _LARGE:
        await asyncio.to_thread(_check_state, payload, packed, size, settings)
    else:
        _check_state(payload, packed, size, settings)


def _check_value(payload: bytes, settings: Settings) -> None:
    try:
        value = loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidContent(f"a value is not JSON that can be read: {describe_invalid(error)}") from error
    if value is None:
        raise InvalidContent("a value is null")
    dumps(value)
    if len(payload) > settings.max_message_bytes:
        raise LimitExceeded(f"a value has {len(payload)} bytes, the maximum is {settings.max_message_bytes}")


def _check_object(text: str | bytes, settings: Settings) -> None:
    dump_metadata(_load_object(text), settings)


def _load_object(text: str | bytes) -> dict[str, Any]:
    try:
        return load_object(text, ("", None, None, None))
    except UnreadableRow as error:
        raise InvalidContent(f"a value is not a JSON object that can be read: {error.reason}") from error


def _check_state(payload: bytes, packed: str | None, size: Any, settings: Settings) -> None:
    if packed is not None:
        payload = _unpack(packed, settings)
    if size != len(payload):
        raise InvalidContent(f"size is {shortened(size)}, expected {len(payload)}, the size of the state")
    if len(payload) > settings.max_state_bytes:
        raise LimitExceeded(
            f"the state has {len(payload)} bytes, the maximum is {settings.max_state_bytes}: see the setting "
            "MAX_STATE_BYTES"
        )
    try:
        value = pydantic_core.from_json(payload, cache_strings="keys")
        is_usual = _MAY_OVERFLOW.search(payload) is None
    except ValueError:
        value, is_usual = _load_object(payload), False
    if not is_usual or not isinstance(value, dict):
        dump_state(value, settings)


def _unpack(packed: str, settings: Settings) -> bytes:
    import zstandard

    try:
        frame = bytes.fromhex(packed.removeprefix("\\x"))
        size = zstandard.frame_content_size(frame)
        # Checked before it is decompressed: a small frame may contain any number of bytes.
        if not 0 <= size <= settings.max_state_bytes:
            raise LimitExceeded(f"the packed state has {size} bytes, the maximum is {settings.max_state_bytes}")
        return zstandard.ZstdDecompressor().decompress(frame)
    except (ValueError, zstandard.ZstdError) as error:
        if isinstance(error, AgentStoreError):
            raise
        raise InvalidContent(f"packed is not a Zstandard frame in hexadecimal: {error}") from error


def is_plain_message(payload: bytes, id: bytes, settings: Settings) -> bool:
    """Return whether a payload is certainly a valid message with this id. `id` has no escapes."""
    found = plain_message().fullmatch(payload)
    if found is None or found[1] != id or len(payload) > settings.max_message_bytes:
        return False
    try:
        return payload.isascii() or bool(payload.decode())
    except UnicodeDecodeError:
        return False


class Messages:
    """Payloads that are not plain, collected to be parsed together."""

    def __init__(self, table: str, settings: Settings, fail: Callable[[int, AgentStoreError], AgentStoreError]) -> None:
        """`fail` returns the error to raise for the row at a position in the file."""
        self._table = table
        self._settings = settings
        self._fail = fail
        self._rows: list[tuple[int, bytes, str, str]] = []
        self._size = 0

    def add(self, position: int, payload: bytes, id: str, kind: str) -> None:
        """Collect the payload of the row at a position in the file, with the id and kind of the row."""
        self._rows.append((position, payload, id, kind))
        self._size += len(payload)

    async def check(self) -> None:
        """Check the collected payloads.

        Raises:
            InvalidContent, LimitExceeded: a write would refuse one of them, or it has another id than its row.
        """
        rows, size = self._rows, self._size
        self._rows, self._size = [], 0
        if size > _LARGE:
            await asyncio.to_thread(self._check, rows)
        elif rows:
            self._check(rows)

    def _check(self, rows: list[tuple[int, bytes, str, str]]) -> None:
        failed = 0

        def key(index: int) -> RowKey:
            nonlocal failed
            failed = index
            return self._table, None, None, None

        try:
            messages = load_messages([payload for _, payload, _, _ in rows], key)
        except UnreadableRow as error:
            raise self._fail(rows[failed][0], InvalidContent(error.reason)) from error
        if len(messages) != len(rows):
            raise self._fail(rows[0][0], InvalidContent("a payload is not one JSON value"))
        for message, (position, payload, id, kind) in zip(messages, rows, strict=True):
            try:
                self._check_one(message, payload, id, kind)
            except AgentStoreError as error:
                raise self._fail(position, error) from error

    def _check_one(self, message: Message, payload: bytes, id: str, kind: str) -> None:
        if message.id != id:
            raise InvalidContent(f"the message has the id {shortened(message.id)}, and its row {shortened(id)}")
        if len(payload) > self._settings.max_message_bytes:
            raise LimitExceeded(
                f"the message has {len(payload)} bytes, the maximum is {self._settings.max_message_bytes}: see the "
                "setting MAX_MESSAGE_BYTES"
            )
        if kind != MESSAGE:
            try:
                parse_memories([(payload.decode(), kind, None, None)], lambda _: (self._table, None, None, id))
            except UnreadableRow as error:
                raise InvalidContent(error.reason) from error
        if _MAY_OVERFLOW.search(payload) is not None or payload.count(b"[") + payload.count(b"{") > _MANY_BRACKETS:
            dump_message(message, self._settings)
