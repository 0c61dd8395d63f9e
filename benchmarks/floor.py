"""The floor: hand-written asyncpg on the same tables, with the same guarantees and the same objects in the end.

One statement and one round trip a call, no transaction commands, no layer between. Its pool asks nothing of the
server when a connection is returned, which is the least that a pool can do.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
from pydantic import TypeAdapter

from agentstore import Message, Session
from agentstore.schemas.memory import text_of
from agentstore.search import analysis, ranking

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


_ADD_MEMORY = """
WITH owner AS (INSERT INTO agentstore.users (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING 1),
claimed AS (
    INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens)
    SELECT $1, $2, $3, $4 FROM (SELECT count(*) FROM owner) AS first
    ON CONFLICT (user_id, session_id) DO UPDATE
    SET count = memory_buckets.count + excluded.count, tokens = memory_buckets.tokens + excluded.tokens
    RETURNING count - $3 AS base
)
INSERT INTO agentstore.memories
    (user_id, session_id, seq, id, payload, role, is_question, tokens, lexemes, analysis)
SELECT $1, $2, base + o, i, p::json, 'user', false, t, l::tsvector, $9
FROM claimed, unnest($5::text[], $6::text[], $7::bigint[], $8::text[]) WITH ORDINALITY AS t(i, p, t, l, o)
RETURNING 1
"""

_SAVE_STATE = """
WITH owner AS (INSERT INTO agentstore.users (id) SELECT $1 WHERE NOT EXISTS (
    SELECT FROM agentstore.users WHERE id = $1) ON CONFLICT DO NOTHING RETURNING 1),
saved AS (
    INSERT INTO agentstore.state_heads (user_id, session_id, next_round, last_round)
    SELECT $1, $2, 2, 1 FROM (SELECT count(*) FROM owner) AS first
    ON CONFLICT (user_id, session_id) DO UPDATE
    SET next_round = state_heads.next_round + 1, last_round = state_heads.next_round, updated_at = now()
    RETURNING last_round
)
INSERT INTO agentstore.state_rounds (user_id, session_id, round, payload, size)
SELECT $1, $2, last_round, $3::text::json, $4 FROM saved RETURNING round
"""
_LOAD_STATE = """
SELECT payload::text FROM agentstore.state_rounds WHERE user_id = $1 AND session_id = $2 ORDER BY round DESC LIMIT 1
"""
_STATE_SIZE = """
SELECT avg(size)::bigint, avg(coalesce(pg_column_size(packed), pg_column_size(payload)))::bigint
FROM agentstore.state_rounds WHERE user_id = $1 AND session_id = $2
"""

_FILL = """
WITH given AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]) AS g(u, s, l)),
users AS (INSERT INTO agentstore.users (id) SELECT DISTINCT u FROM given ON CONFLICT DO NOTHING RETURNING 1),
buckets AS (
    INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens)
    SELECT u, 's', count(*), count(*) * 9 FROM given, (SELECT count(*) FROM users) AS first GROUP BY u
    ON CONFLICT (user_id, session_id) DO UPDATE SET count = memory_buckets.count + excluded.count RETURNING 1
)
INSERT INTO agentstore.memories (user_id, session_id, seq, id, payload, is_question, tokens, lexemes, analysis)
SELECT u, 's', s, 'm' || s, '{"role": "user"}', false, 9, l::tsvector, 'floor'
FROM given, (SELECT count(*) FROM buckets) AS second
"""
_SIZE = """
SELECT reltuples::bigint, pg_table_size(oid) / 1000000, pg_relation_size('agentstore.memories_lexemes_idx') / 1000000,
    pg_indexes_size(oid) / 1000000
FROM pg_class WHERE oid = 'agentstore.memories'::regclass
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

    async def add_memory(self, user_id: str, session_id: str, messages: Sequence[Message]) -> None:
        """Add messages that are known to be valid, new, the user's and no questions; analysed as ours are."""
        now = datetime.now(UTC)
        found = [analysis.of_memory(text_of(message), now, "english") for message in messages]
        tokens = [[*each.dates, *each.words] for each in found]
        rows = await self._pool.fetch(
            _ADD_MEMORY,
            user_id,
            session_id,
            len(messages),
            sum(map(len, tokens)),
            [message.id for message in messages],
            [message.model_dump_json(exclude_none=True) for message in messages],
            [len(each) for each in tokens],
            [ranking.lexemes(user_id, each) for each in tokens],
            "floor",
        )
        assert len(rows) == len(messages)

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

    async def save_state(self, user_id: str, session_id: str, state: dict[str, Any]) -> int:
        """Save a state that is known to be valid, as JSON."""
        payload = orjson.dumps(state)
        number: int = await self._pool.fetchval(_SAVE_STATE, user_id, session_id, payload.decode(), len(payload))
        return number

    async def load_state(self, user_id: str, session_id: str) -> Any:
        """Read the state of the highest round."""
        return orjson.loads(await self._pool.fetchval(_LOAD_STATE, user_id, session_id))

    async def size_of_states(self, user_id: str, session_id: str) -> tuple[int, int]:
        """Return the bytes of a state as JSON, and as it is stored, on average."""
        row = await self._pool.fetchrow(_STATE_SIZE, user_id, session_id)
        return row[0], row[1]

    async def fill_memories(self, already: int, count: int) -> None:
        """Bring the memories of a thousand other users to so many."""
        rng = random.Random(already)
        for start in range(already, count, 10_000):
            users, seqs, lexemes = [], [], []
            for number in range(start, min(start + 10_000, count)):
                user = f"other{number % 1_000}"
                words = {f"word{int(rng.paretovariate(0.7))}" for _ in range(10)}
                users.append(user)
                seqs.append(number)
                lexemes.append(ranking.lexemes(user, list(words)))
            await self._pool.execute(_FILL, users, seqs, lexemes)
        await self._pool.execute("VACUUM ANALYZE agentstore.memories")

    async def size_of_memories(self) -> str:
        """Say how large the table and its indexes are."""
        rows, table, lexemes, indexes = await self._pool.fetchrow(_SIZE)
        return f"{rows:,} memories: table {table:,} MB, index of lexemes {lexemes:,} MB, all indexes {indexes:,} MB"
