"""Exports from outside, whose checksums are valid and whose rows are not: refused by name of the line."""

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentstore import (
    AgentStore,
    DataContent,
    InvalidContent,
    LimitExceeded,
    MemoryItem,
    Message,
    ScopedValues,
    Settings,
    migrate,
)
from agentstore.schemas.payload import dump_message, load_messages
from agentstore.testing import text
from agentstore.transfer import checks, lines
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.exports import SESSION, USER, message, signed, signed_again
from tests.support.values import PLACES, message_with

pytestmark = pytest.mark.slow

_SIZES = Settings(max_message_bytes=100_000, max_state_bytes=200_000)


async def _fill(store: AgentStore, *, with_app: bool = True) -> bytes:
    """Store an object of each kind, and return the export."""
    session = await store.sessions.create_session("alice", "s", title="a title", metadata={"x": [1]})
    await store.sessions.append_message(
        session,
        [
            text("one", id="m1"),
            text("two\n", id="m2", metadata={"n": 1.5, "x": "\u20ac"}),
            Message(id="m3", role="tool", content=[{"type": "data", "data": {"deep": [{"x": 1}]}}], usage={"x": []}),
        ],
    )
    await store.memory.add_memory("alice", session.messages, "s")
    await store.memory.save_items("alice", MemoryItem(id="i1", text="a fact"), "s")
    await store.states.save_state("alice", {"x": 1}, "s", metadata={"y": 2})
    await store.states.save_state("alice", {"x": "large " * 20_000}, "s")
    await store.blobs.put("alice", "f", b"x" * 500_000 + b"yy", "s", filename="f.txt")
    for number in (1, 2):
        value = bytes(range(256)) * 20 + b"end" * number
        await store.checkpoints.put("alice", "s", checkpoint_of(f"{number}", value))
    await store.checkpoints.put_writes("alice", "s", "", "1", [write_of(value=b"y" * 500)])
    values = ScopedValues({"a": 1}, {"u": "one"}, {"s": {"x": 1}})
    await store.states.merge_values("alice", "s", values=values if with_app else replace(values, app={}))
    file = io.BytesIO()
    await store.export(file)
    return file.getvalue()


async def _count(url: str) -> int:
    connection = await asyncpg.connect(url)
    count: int = await connection.fetchval("SELECT count(*) FROM agentstore.users")
    await connection.close()
    return count


def _change(table: str, change: Callable[[dict[str, Any]], object], number: int = 0) -> Callable[[bytes], bytes]:
    """Return a function that changes a row of a table in an export."""

    def apply(data: bytes) -> bytes:
        changed = data.splitlines(keepends=True)
        places = [place for place, line in enumerate(changed) if line.startswith(f'{{"{table}":'.encode())]
        row = json.loads(changed[places[number]])
        change(row[table])
        changed[places[number]] = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        return b"".join(changed)

    return apply


def _set(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda row: row.update(values)


def _payload(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda row: row["payload"].update(values)


_LONG_AGO = "0044-03-15T00:00:00+00:00 BC"
_INVALID: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a payload that is a number": (_change("messages", _set(payload=5)), "not a valid message"),
    "an unknown role": (_change("messages", _payload(role="alien"), 1), "role"),
    "an unknown kind of content": (_change("messages", _payload(content=[{"type": "x"}])), "not a valid message"),
    "another id in the payload": (_change("messages", _payload(id="other")), "'other'"),
    "an id in the payload that is a number": (_change("messages", _payload(id=5)), "id"),
    "a deep payload": (_change("messages", _payload(metadata=json.loads("[" * 205 + "]" * 205))), "metadata|deep"),
    "deep metadata of a message": (
        _change("messages", _payload(metadata={"x": json.loads("[" * 205 + "]" * 205)})),
        "nested deeper",
    ),
    "an infinite number": (lambda data: data.replace(b'"usage":{"x":[]}', b'"usage":{"x":[1e999]}'), "inf"),
    "a long integer": (
        lambda data: data.replace(b'"usage":{"x":[]}', b'"usage":{"x":[' + b"9" * 4_301 + b"]}"),
        "not a valid message",
    ),
    "a memory that is not a message": (_change("memories", _payload(content=7)), "not a valid message"),
    "an item that is none": (_change("memories", lambda row: row["payload"].pop("metadata"), 3), "memory item"),
    "an item of a message's kind": (_change("memories", _set(kind="fact")), "memory item"),
    "a state that is a list": (_change("state_rounds", _set(payload=[], size=2)), "dict"),
    "a state of another size": (_change("state_rounds", _set(size=10**12)), "size"),
    "a state that is damaged": (_change("state_rounds", _set(packed="\\x00"), 1), "Zstandard"),
    "neither state": (_change("state_rounds", _set(payload=None)), "either"),
    "state metadata that is a number": (_change("state_rounds", _set(metadata="5")), "JSON object"),
    "session metadata that is a list": (_change("sessions", _set(metadata=[])), "JSON object"),
    "user metadata that is text": (_change("users", _set(metadata="x")), "JSON object"),
    "a session id with NUL": (_change("sessions", _set(id="a\0")), "NUL"),
    "a session id that is too long": (_change("sessions", _set(id="x" * 513)), "513 bytes"),
    "a message id that is too long": (_change("messages", _set(id="x" * 513)), "513 bytes"),
    "an id that is a number": (_change("sessions", _set(id=99)), "string"),
    "an id that is a list": (_change("sessions", _set(id=["x"])), "string"),
    "a title that is too long": (_change("sessions", _set(title="x" * 10_001)), "10001 characters"),
    "a title with NUL": (_change("sessions", _set(title="\0")), "NUL"),
    "an unknown role of a memory": (_change("memories", _set(role="alien")), "role"),
    "an importance that is text": (_change("memories", _set(importance="NaN"), 3), "importance"),
    "an importance over 1": (_change("memories", _set(importance=1e300), 3), "importance"),
    "a counter that is too high": (_change("sessions", _set(next_seq=2**62)), "next_seq"),
    "a counter that is too low": (_change("sessions", _set(next_seq=2)), "seq"),
    "a negative counter": (_change("sessions", _set(next_seq=-5)), "next_seq"),
    "a counter of zero": (_change("sessions", _set(next_seq=0)), "next_seq"),
    "a counter that is text": (_change("sessions", _set(next_seq="4")), "next_seq"),
    "a counter beyond 64 bits": (_change("sessions", _set(next_seq=2**64)), "next_seq"),
    "a count of memories": (_change("memory_buckets", _set(count=10**15)), "count"),
    "a number that is used twice": (_change("messages", _set(seq=2), 0), "seq is 2, expected one from 3"),
    "a number of zero": (_change("messages", _set(seq=0), 0), "seq is 0, expected one from 1"),
    "more removed messages than there were": (_change("sessions", _set(removed=4)), "next_seq"),
    "a removed message that exists": (_change("sessions", _set(removed=1)), "expected 2"),
    "a memory with a gap": (_change("memories", _set(seq=9), 3), "seq is 9, expected one from 4 to 4"),
    "a removed message that is not counted": (
        lambda data: re.sub(rb'\{"messages".*"id":"m2".*\n', b"", data, count=1),
        "2 rows",
    ),
    "a ttl of zero": (_change("sessions", _set(ttl=0)), "ttl"),
    "a ttl that is too long": (_change("sessions", _set(ttl=2**40)), "ttl"),
    "a time before Christ": (_change("sessions", _set(updated_at=_LONG_AGO)), "updated_at"),
    "an infinite time": (_change("messages", _set(created_at="infinity")), "created_at"),
    "a time that is a number": (_change("messages", _set(created_at=5)), "created_at"),
    "a day that does not exist": (_change("messages", _set(created_at="2026-02-31T00:00:00+00:00")), "stored"),
    "a row of another user": (_change("messages", _set(user_id="bob"), 2), "'bob'"),
    "a session of another user": (_change("sessions", _set(user_id="bob")), "'bob'"),
    "a memory of another user": (_change("memories", _set(user_id="bob")), "'bob'"),
    "a value that is null": (_change("user_values", _set(value=None)), "null"),
    "a value of a session that is null": (_change("session_values", _set(value=None)), "null"),
    "a value that is too deep": (_change("app_values", _set(value=json.loads("[" * 205 + "]" * 205))), "nested|deep"),
    "an infinite value": (lambda data: data.replace(b'"value":"one"', b'"value":1e999'), "inf"),
    "a value that is not JSON": (lambda data: data.replace(b'"value":"one"', b'"value":one'), "JSON"),
    "a key that is too long": (_change("user_values", _set(key="x" * 513)), "513 bytes"),
    "a key that is a number": (_change("app_values", _set(key=5)), "string"),
    "an application with NUL": (_change("app_values", _set(app="\0")), "NUL"),
    "a content with another hash": (_change("blob_chunks", _set(data="\\x7878"), 1), "hash"),
    "a content of another blob": (_change("blob_chunks", _set(hash="\\x" + "00" * 32)), "hash|order|number"),
    "a content without a blob": (
        lambda data: re.sub(rb'\{"blobs".*\n', b"", data, count=1),
        "belongs to no blob",
    ),
    "a blob without its content": (_change("blobs", _set(hash="\\x" + "00" * 32)), "not in the file"),
    "a chunk that is missing": (_change("blob_chunks", _set(number=3), 1), "expected 2"),
    "a chunk that is too large": (_change("blob_chunks", _set(data="\\x" + "00" * 500_001)), "500000"),
    "a chunk that is not hexadecimal": (_change("blob_chunks", _set(data="\\xzz")), "hexadecimal"),
    "pieces of a missing version": (_change("checkpoint_values", _set(version="=9")), "lacks a part"),
    "pieces that are cut": (_change("checkpoint_values", _set(pieces="\\x00"), 1), "lacks a part"),
    "pieces without sources": (_change("checkpoint_values", _set(sources=None), 1), "sources"),
    "a value of another size": (_change("checkpoint_values", _set(size=6)), "data is not valid"),
    "a write that is not compressed": (_change("checkpoint_writes", _set(data="\\x00")), "data is not valid"),
    "a checkpoint that is too large": (_change("checkpoints", _set(size=10**9)), "MAX_STATE_BYTES"),
    "channels that are a text": (_change("checkpoints", _set(channels="c")), "list of strings"),
    "a channel that is a number": (_change("checkpoints", _set(channels=[1])), "channels must be a string"),
    "a blob of another size": (_change("blobs", _set(size=1)), "size"),
    "a file name with NUL": (_change("blobs", _set(filename="\0")), "NUL"),
    "a name that is too long": (_change("blobs", _set(name="x" * 513)), "513 bytes"),
    "metadata of a blob that is a list": (_change("blobs", _set(metadata=[])), "JSON object"),
    "a value of another user": (_change("user_values", _set(user_id="bob")), "'bob'"),
    "invalid UTF-8": (lambda data: data.replace(b"a title", b"a\xfftitle"), "UTF-8|UTF8"),
    "a raw tab in an id": (lambda data: data.replace(b'"id":"m1","created', b'"id":"m\t1","created'), "not a row"),
    "two values in a payload": (
        lambda data: data.replace(b'"metadata":null}}', b'"metadata":null},{"id":"m3"}}'),
        "JSON",
    ),
}  # fmt: skip


# They are in a block of their own, after that of the user, which is restored.
_OF_APPLICATIONS = {"a value that is too deep", "a key that is a number", "an application with NUL"}


@pytest.mark.parametrize("kind_of_store", ["postgres", "in memory"])
async def test_what_a_write_would_refuse_is_refused_with_its_line(
    store: AgentStore, other_url: str, kind_of_store: str
) -> None:
    data = await _fill(store)
    wrong: list[str] = []
    files: dict[str, bytes] = {}
    for kind, (damage, _) in _INVALID.items():
        damaged = damage(data)
        assert damaged != data, kind
        files[kind] = signed_again(damaged).getvalue()
    async with AgentStore(other_url) if kind_of_store == "postgres" else AgentStore.in_memory() as other:

        async def is_refused(kind: str, **options: Any) -> None:
            _, reason = _INVALID[kind]
            try:
                await other.restore(io.BytesIO(files[kind]), **options)
            except (InvalidContent, LimitExceeded) as error:
                if re.search(rf"line \d+: .*(?:{reason})", str(error)) is None:
                    wrong.append(f"{kind}: {error}")
            else:
                wrong.append(f"{kind}: accepted")

        for kind, (_, reason) in _INVALID.items():
            if "stored" not in reason:  # what only Postgres refuses, a dry run accepts
                await is_refused(kind, dry_run=True)
            if kind not in _OF_APPLICATIONS:
                await is_refused(kind)
        assert wrong == []
        assert await other.users.list_users() == []
        for kind in _OF_APPLICATIONS:
            await is_refused(kind)
        assert wrong == []
        await other.users.delete_user("alice")
        await other.users.set_metadata("alice", {})
        for kind in _INVALID.keys() - _OF_APPLICATIONS:  # with this user, the rows are merged
            await is_refused(kind)
        assert wrong == []
        assert await other.sessions.list_sessions("alice") == []


async def test_an_undamaged_file_is_restored(store: AgentStore, other_url: str) -> None:
    data = await _fill(store, with_app=False)
    async with AgentStore(other_url) as other:
        assert (await other.restore(io.BytesIO(data), only_users=["alice", "bob"])).rows["messages"] == 3
        restored = await other.sessions.get_session("alice", "s")
        assert restored == await store.sessions.get_session("alice", "s")
        assert (await other.restore(signed_again(data))).left == []


async def test_values_of_applications_are_refused_where_users_are_named(store: AgentStore, other_url: str) -> None:
    data = await _fill(store)
    async with AgentStore(other_url) as other:
        with pytest.raises(InvalidContent, match=r"line \d+: values of an application"):
            await other.restore(io.BytesIO(data), only_users=["alice"])
        assert await _count(other_url) == 0
        named = signed_again(data.replace(b'"users":null', b'"users":["alice"]', 1))
        with pytest.raises(InvalidContent, match=r"line \d+: values of an application"):
            await other.restore(named)
        assert await other.states.get_values(None) == ScopedValues()


async def test_a_session_with_removed_messages_is_restored(store: AgentStore, other_url: str) -> None:
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(session, [text(str(each), id=f"m{each}") for each in range(9)])
    await store.sessions.delete_messages("alice", "s", ["m0", "m3", "m4"])
    await store.sessions.pop_messages("alice", "s", 1)
    file = io.BytesIO()
    await store.export(file)
    async with AgentStore(other_url) as other:
        for options in ({"dry_run": True}, {"only_users": ["alice"]}, {}):
            await other.restore(file, **options)
        assert await other.sessions.get_session("alice", "s") == await store.sessions.get_session("alice", "s")


async def test_the_line_of_a_refused_row_is_that_in_the_file(other_url: str) -> None:
    rows = [USER, SESSION.replace(b'"next_seq":2', b'"next_seq":4')]
    for number in (1, 2, 3):
        row = message(number, f'{{"id": "m{number}", "role": "user"}}').replace(b'"id":"m"', b'"id":"m%d"' % number)
        rows.append(row)
    rows[3] = rows[3].replace(b"user", b"robot").replace(b"robot_id", b"user_id")
    async with AgentStore(other_url) as other:
        with pytest.raises(InvalidContent, match="line 5: "):
            await other.restore(signed(rows))
        rows[3] = rows[3].replace(b'"role": "robot"', b'"metadata": {"x": {}}').replace(b"2026-01-01", b"2026-02-31")
        with pytest.raises(InvalidContent, match="line 5: "):
            await other.restore(signed(rows))


async def test_rows_of_other_users_are_refused_before_anything_is_written(
    store: AgentStore, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.transfer.exporter._BLOCK_USERS", 1)
    for user in ("alice", "bob"):
        await store.sessions.create_session(user, "s")
    file = io.BytesIO()
    await store.export(file)
    async with AgentStore(other_url) as other:
        for only_users in (["alice"], [], ["bob"]):
            with pytest.raises(InvalidContent, match=r"line .* user '(alice|bob)'"):
                await other.restore(file, only_users=only_users)
            assert await _count(other_url) == 0
        for wrong in ("alice", [5], ["a\0"]):
            with pytest.raises(InvalidContent):
                await other.restore(file, only_users=wrong)  # type: ignore[arg-type]
        # A header that does not name the user of a row.
        named = signed_again(file.getvalue().replace(b'"users":null', b'"users":["alice"]', 1))
        with pytest.raises(InvalidContent, match=r"line .* user 'bob'"):
            await other.restore(named, only_users=["alice", "bob"])
        assert await _count(other_url) == 0
        assert (await other.restore(file, only_users=["alice", "bob", "carol"])).rows["sessions"] == 2


async def test_rows_of_a_user_that_exists_are_not_added_to_by_the_block_of_another(
    store: AgentStore, other_url: str
) -> None:
    await store.sessions.create_session("mallory", "s")
    file = io.BytesIO()
    await store.export(file)
    async with AgentStore(other_url) as other:
        await other.sessions.create_session("victim", "mine")
        planted = _change("sessions", _set(user_id="victim"))(file.getvalue())
        with pytest.raises(InvalidContent, match=r"line 3: .*'victim'"):
            await other.restore(signed_again(planted))
        assert [each.id for each in await other.sessions.list_sessions("victim")] == ["mine"]


async def test_sizes_are_limited_by_the_settings(store: AgentStore, other_url: str) -> None:
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(session, text("x" * 100_000))
    await store.states.save_state("bob", {"x": "y" * 200_000}, "s")
    async with AgentStore(other_url, settings=_SIZES) as other:
        for user, what in (("alice", "the message has"), ("bob", "the packed state has")):
            file = io.BytesIO()
            await store.export(file, [user])
            with pytest.raises(LimitExceeded, match=rf"line \d+: {what} .* bytes"):
                await other.restore(file)
        assert await _count(other_url) == 0


class _LongLine(io.RawIOBase):
    """An export with a row of many gigabytes, which is not stored anywhere."""

    _PART = b"a" * 1_000_000

    def __init__(self, size: int) -> None:
        self._head = lines.header(revision=migrate.head(), users=None, tables=["users"]) + b'{"users":{"id":"'
        self._size = size
        self._at = 0
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = 0) -> int:
        self._at = position if whence == 0 else self._size
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at, len(self._PART))
        whole = self._head + self._PART if self._at < len(self._head) else self._PART
        start = self._at if self._at < len(self._head) else 0
        length = min(length, len(whole) - start)
        buffer[:length] = whole[start : start + length]
        self._at += length
        self.read_bytes += length
        return length


async def test_a_line_of_any_length_is_refused_after_a_bounded_part_of_it(other_url: str) -> None:
    small = Settings(max_message_bytes=1_000_000, max_state_bytes=1_000_000)
    raw = _LongLine(10**12)
    async with AgentStore(other_url, settings=small) as other:
        with pytest.raises(LimitExceeded, match="line 2: the line has more than"):
            await other.restore(io.BufferedReader(raw))
    assert raw.read_bytes < 4 * checks.max_line(small)


def test_a_block_that_was_not_verified_is_read_within_the_limit() -> None:
    raw = _LongLine(10**12)
    small = Settings(max_message_bytes=1_000_000, max_state_bytes=1_000_000)
    from agentstore.transfer.rows import RowReader

    with pytest.raises(LimitExceeded, match="line 2: the line has more than"):
        RowReader(io.BufferedReader(raw), lines.Block(len(raw._head) - 16, 10**12, "alice", {}), small)


_VALUES: list[Any] = [None, True, 0, 1.0, 1.5, "", "user", "text", "data", {}, {"x": [1]}, [], [{}], [{"type": "text"}]]
_text = st.text(max_size=10) | st.sampled_from(["\0", "\\", '"', "\u2028", "\ud800", "密"])
_scalar = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(0, 1) | _text
_flat = st.dictionaries(_text, _scalar, max_size=3)
_messages = st.builds(
    lambda parts, **fields: Message(content=[{"type": "text", **part} for part in parts], **fields),
    st.lists(
        st.fixed_dictionaries(
            {}, optional={"text": st.text(), "index": st.integers(0, 9), "msg_id": st.text(), "delta": st.booleans()}
        ),
        max_size=2,
    ),
    id=st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cc", "Cs"]), max_size=9),
    role=st.sampled_from(["user", "assistant", "system", "tool", None]),
    metadata=st.none() | _flat,
    usage=st.none() | _flat,
)  # fmt: skip


@given(_messages)
@settings(deadline=None, max_examples=50)
def test_what_agentstore_writes_is_mostly_plain_and_what_is_plain_can_be_read(given_message: Message) -> None:
    payload = dump_message(given_message, Settings()).encode()
    is_plain = checks.is_plain_message(payload, given_message.id.encode(), Settings())
    numbers = [each for value in (given_message.metadata, given_message.usage) for each in (value or {}).values()]
    has_surrogate = b"\\ud8" in payload.lower()
    if all(type(each) is not float or "e" not in repr(each) for each in numbers) and not has_surrogate:
        assert is_plain or any(type(each) is float for each in numbers), payload
    assert load_messages([payload]) == [given_message]


def test_a_tool_call_is_plain() -> None:
    data = {"call_id": "c", "arguments": {"a": [{"b": 1.5}]}}
    call = Message(id="m", role="assistant", type="plugin_call", content=[DataContent(data=data)])
    assert checks.is_plain_message(dump_message(call, Settings()).encode(), b"m", Settings())


@given(st.sampled_from(PLACES), st.sampled_from(_VALUES), st.sampled_from(["dict", "all fields"]))
@settings(deadline=None, max_examples=200)
def test_a_message_with_any_field_is_plain_only_if_it_is_valid(place: tuple[str, ...], value: Any, how: str) -> None:
    fields = message_with(place, value)
    if how == "all fields":  # in the order in which they are stored
        given = {"object": "message", "type": "message", **fields}
        fields = {name: given.get(name) for name in Message.model_fields}
    payload = json.dumps(fields, separators=(",", ":")).encode()
    if checks.is_plain_message(payload, b"m", Settings()):
        assert load_messages([payload])[0].id == "m"


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_a_modified_payload_is_plain_only_if_it_is_a_valid_message(data: st.DataObject) -> None:
    payload = dump_message(data.draw(_messages), Settings()).encode()
    at = data.draw(st.integers(0, len(payload)))
    stop = data.draw(st.integers(at, min(len(payload), at + 20)))
    inserted = data.draw(
        st.sampled_from([b"", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"null", b"1e999", b"9" * 20, b"\n"])
    )
    changed = payload[:at] + inserted + payload[stop:]
    found = checks.plain_message().fullmatch(changed)
    if found is not None and checks.is_plain_message(changed, found[1], Settings()):
        (message_read,) = load_messages([changed])
        assert message_read.id.encode() == found[1]
        assert json.loads(changed)  # not orjson, which rejects a lone surrogate


async def test_a_checksum_is_of_the_bytes_and_not_of_the_author(store: AgentStore, other_url: str) -> None:
    await store.sessions.create_session("alice", "s")
    file: BinaryIO = io.BytesIO()
    await store.export(file)
    data = file.getvalue()  # type: ignore[attr-defined]
    changed = data.replace(b'"id":"s"', b'"id":"t"')
    async with AgentStore(other_url) as other:
        with pytest.raises(InvalidContent, match="changed"):
            await other.restore(io.BytesIO(changed))
        await other.restore(signed_again(changed))
        assert [each.id for each in await other.sessions.list_sessions("alice")] == ["t"]
    assert hashlib.sha256(data).hexdigest() != hashlib.sha256(changed).hexdigest()
