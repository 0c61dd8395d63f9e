"""Exports with valid checksums and arbitrary rows, as anyone can write them."""

import hashlib
import io
from collections.abc import Sequence
from typing import Any

from agentstore import migrate
from agentstore.repositories import transfer
from agentstore.transfer import lines

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
    digest, out = hashlib.sha256(), b""
    for each in data.splitlines(keepends=True):
        if each.startswith((b'{"end":', b'{"finished":')):
            each = each[: each.rindex(b'"sha256":"')] + b'"sha256":"%b"}}\n' % digest.hexdigest().encode()
        digest.update(each)
        out += each
    return io.BytesIO(out)
