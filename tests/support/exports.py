"""Exports of rows in every table, and with valid checksums and arbitrary rows, as anyone can write them."""

import hashlib
import io
import random
from collections.abc import Sequence
from typing import Any

import asyncpg

from agentstore import MemoryItem, ScopedValues, Store, migrate
from agentstore.repositories import transfer
from agentstore.testing import HOSTILE_IDS, text
from agentstore.transfer import lines
from tests.support.checkpoints import checkpoint_of, write_of

_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'agentstore' AND table_name NOT LIKE 'agentstore_version%' AND table_name <> 'sandboxes'
ORDER BY 1, 2
"""
NOT_EXPORTED = {
    ("memory_extractions", "lease"),
    ("memory_extractions", "leased_until"),
    # A process that knows the values of a database knows none of those that were restored in their place.
    ("checkpoint_heads", "epoch"),
}
LARGE_STATE = {"messages": [{"content": f"密 the text of message number {number}"} for number in range(2_000)]}
_TIME = "2026-01-01T00:00:00+00:00"
USER = b'{"users":{"id":"alice","created_at":"%b","metadata":{}}}\n' % _TIME.encode()
SESSION = (
    b'{"sessions":{"user_id":"alice","id":"s","next_seq":2,"title":null,"created_at":"%b","updated_at":"%b",'
    b'"listed_at":"%b","metadata":{}}}\n' % ((_TIME.encode(),) * 3)
)


def message(seq: object, payload: str) -> bytes:
    """Return the row of the message "m" of the session."""
    return (
        f'{{"messages":{{"user_id":"alice","session_id":"s","seq":{seq},"id":"m","created_at":"{_TIME}",'
        f'"payload":{payload}}}}}\n'
    ).encode()


def signed(rows: Sequence[bytes], **header: Any) -> io.BytesIO:
    """Return a complete file with these rows in one block."""
    tables = [name for name in transfer.TABLES if name != transfer.VECTORS]
    data = lines.header(**{"revision": migrate.head(), "users": None, "tables": tables, **header}) + b"".join(rows)
    for kind, fields in (("end", {"user": "alice", "rows": {"users": 1}}), ("finished", {"rows": {}})):
        data += lines.line(kind, {**fields, "sha256": hashlib.sha256(data).hexdigest()})
    return io.BytesIO(data)


def signed_again(data: bytes) -> io.BytesIO:
    """Return a modified export with valid checksums."""
    digest = hashlib.sha256()
    out: list[bytes] = []
    for each in data.splitlines(keepends=True):
        if each.startswith((b'{"end":', b'{"finished":')):
            each = each[: each.rindex(b'"sha256":"')] + b'"sha256":"%b"}}\n' % digest.hexdigest().encode()
        digest.update(each)
        out.append(each)
    return io.BytesIO(b"".join(out))


async def all_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table as text, except for what is not exported, such as sandboxes and leases."""
    connection = await asyncpg.connect(url)
    columns: dict[str, list[str]] = {}
    for table, column in await connection.fetch(_COLUMNS):
        if (table, column) not in NOT_EXPORTED:
            columns.setdefault(table, []).append(column)
    found = {}
    for table, names in columns.items():
        listed = ", ".join(f'"{name}"::text' for name in names)
        rows = await connection.fetch(f"SELECT {listed} FROM agentstore.{table}")
        found[table] = sorted((tuple(row) for row in rows), key=repr)
    await connection.close()
    return found


async def fill(store: Store, user: str) -> None:
    """Store an object of each kind, except for workspaces. Those of alice are large: of several chunks."""
    await store.users.set_metadata(user, {"z": "\0\ud800", "a": 2**70})
    session = await store.sessions.create_session(
        user, user or "s", title="T\tx\n\\", metadata={"x": "\ud800"}, ttl=9_999
    )
    hostile = [
        text(f'a\\b\n\t"q" ,"payload":{id}', id=f'{id},"payload":\\', metadata={"n": None}) for id in HOSTILE_IDS[:20]
    ]
    await store.sessions.append_message(session, [*hostile, text("", id="")])
    await store.memory.add_memory(user, session.messages, session.id)
    await store.memory.save_items(
        user, MemoryItem(text="likes apples", importance=0.1, valid_until="2031-01-01T00:00:00Z")
    )
    await store.states.save_state(user, {"a": "\0"}, session.id, metadata={"k": 'v\n,"payload":1'})
    await store.states.save_state(user, LARGE_STATE, session.id)
    await store.states.delete_state(user, session.id, 1)
    for size in (0, 5, 1_200_000 if user == "alice" else 7_000):
        content = random.Random(size).randbytes(size)
        about: dict[str, Any] = {"content_type": "x", "filename": "a\tb", "metadata": {"x": "\0"}}
        await store.blobs.put(user, f"{size}", content, session.id, **about)
        await store.blobs.put(user, "again", content)
        await store.checkpoints.put(user, session.id, checkpoint_of(f"{size}", content))
        await store.checkpoints.put_writes(user, session.id, "", f"{size}", [write_of(-1, content), write_of(0, b"\0")])
    values = ScopedValues(
        {user: "\0\n", "x": 1}, {"k": '","value":1\t\\'}, {"k": "\ud800", "": [2**70, {"value": None}]}
    )
    await store.states.merge_values(user, session.id, values=values, app=f"{user} app")
    await store.sessions.fork_session(user, session.id, at=2)


async def export_of(store: Store, *users: str) -> bytes:
    """Return an export of all users, or of these."""
    file = io.BytesIO()
    assert await store.export(file, users or None) is not None
    return file.getvalue()
