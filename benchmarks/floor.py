"""The floor: hand-written asyncpg on the same tables, with the same guarantees and the same objects in the end.

One statement and one round trip a call, no transaction commands, no layer between. Its pool asks nothing of the
server when a connection is returned, which is the least that a pool can do.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg
from pydantic import TypeAdapter

from agentstore import Message, Session

_MESSAGES = TypeAdapter(list[Message])

_APPEND = """
WITH claimed AS (
    UPDATE agentstore.sessions
    SET next_seq = next_seq + $3, updated_at = now(), listed_at = date_trunc('minute', now())
    WHERE user_id = $1 AND id = $2
    RETURNING next_seq - $3 AS base
)
INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload)
SELECT $1, $2, base + o - 1, i, p::json FROM claimed, unnest($4::text[], $5::text[]) WITH ORDINALITY AS t(i, p, o)
RETURNING 1
"""
_GET = """
SELECT created_at, updated_at, title, metadata::text, NULL AS payload FROM agentstore.sessions
WHERE user_id = $1 AND id = $2
UNION ALL (
    SELECT NULL, NULL, NULL, NULL, payload::text FROM agentstore.messages
    WHERE user_id = $1 AND session_id = $2 ORDER BY seq
)
"""
_LIST = """
SELECT id, created_at, updated_at, title, metadata::text FROM agentstore.sessions
WHERE user_id = $1 ORDER BY listed_at DESC, id DESC
"""


class BareConnection(asyncpg.Connection):
    """A connection that is returned to the pool as it is."""

    def get_reset_query(self) -> str:
        """Return no statement to say."""
        return ""


class Floor:
    """The calls that agentstore is measured against."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def append(self, session: Session, messages: Sequence[Message]) -> None:
        """Append messages that are known to be valid."""
        rows = await self._pool.fetch(
            _APPEND,
            session.user_id,
            session.id,
            len(messages),
            [message.id for message in messages],
            [message.model_dump_json(exclude_none=True) for message in messages],
        )
        if len(rows) != len(messages):
            raise LookupError(session.id)
        session.messages.extend(messages)

    async def get(self, user_id: str, session_id: str) -> Session:
        """Read a session with its messages."""
        rows = await self._pool.fetch(_GET, user_id, session_id)
        head = next(row for row in rows if row[0] is not None)
        payloads = [row[4] for row in rows if row[0] is None]
        return Session(
            id=session_id,
            user_id=user_id,
            created_at=head[0],
            updated_at=head[1],
            title=head[2],
            messages=_MESSAGES.validate_json(f"[{','.join(payloads)}]"),
        )

    async def list(self, user_id: str) -> list[Session]:
        """Read a user's sessions without their messages."""
        rows = await self._pool.fetch(_LIST, user_id)
        return [Session(id=row[0], user_id=user_id, created_at=row[1], updated_at=row[2], title=row[3]) for row in rows]
