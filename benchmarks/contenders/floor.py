"""The floor: hand-written asyncpg on the same tables, with the same guarantees and the same resulting objects.

One statement and one round trip per call, no transaction commands, no layers in between. The pool sends no reset query
when a connection is returned, which is the least that a pool can do. Input is not validated.
"""

import importlib.metadata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
from pydantic import TypeAdapter

from agentstore import AgentStore, Message, Session, Settings, TextContent
from agentstore.schemas.message import text_of
from agentstore.search import analysis, ranking
from benchmarks.contender import USER, PlainMessage

_MESSAGES = TypeAdapter(list[Message])
_SESSIONS = TypeAdapter(list[Session])

_APPEND = """
WITH claimed AS (
    UPDATE agentstore.sessions
    SET
        next_seq = next_seq + $3,
        updated_at = greatest(updated_at, now()),
        listed_at = greatest(listed_at, date_trunc('minute', now()))
    WHERE user_id = $1 AND id = $2 AND (now() - updated_at < ttl * interval '1 second') IS NOT FALSE
    RETURNING next_seq - $3 AS first_seq, updated_at, next_seq - 1 - removed AS message_count
),
inserted AS (
    INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT $1, $2, first_seq + o - 1, i, p::json, updated_at
    FROM claimed, unnest($4::text[], $5::text[]) WITH ORDINALITY AS t(i, p, o)
)
SELECT first_seq, updated_at, message_count FROM claimed
"""
_GET = """
SELECT
    created_at, updated_at, title, metadata::text, forked_from, forked_at, ttl, app, next_seq - 1 - removed,
    NULL AS payload, NULL AS place
FROM agentstore.sessions
WHERE user_id = $1 AND id = $2 AND (now() - updated_at < ttl * interval '1 second') IS NOT FALSE
UNION ALL (
    SELECT
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        json_send(payload), int8send(seq) || timestamptz_send(created_at)
    FROM agentstore.messages
    WHERE user_id = $1 AND session_id = $2 ORDER BY seq
)
"""
_LIST = """
SELECT
    id, created_at, updated_at, title, metadata::text, forked_from, forked_at, ttl, app, next_seq - 1 - removed
FROM agentstore.sessions
WHERE user_id = $1 AND (now() - updated_at < ttl * interval '1 second') IS NOT FALSE
ORDER BY listed_at DESC, updated_at DESC, id DESC
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


def _sessions(rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the fields of sessions: their ids, and the other columns of _LIST."""
    return [
        {
            "id": row[0],
            "user_id": USER,
            "created_at": row[1],
            "updated_at": row[2],
            "title": row[3],
            "metadata": {} if row[4] == "{}" else orjson.loads(row[4]),
            "forked_from": row[5],
            "forked_at": row[6],
            "ttl": row[7],
            "app": row[8],
            "message_count": row[9],
        }
        for row in rows
    ]


class BareConnection(asyncpg.Connection):
    """A connection that is returned to the pool without a reset."""

    def get_reset_query(self) -> str:
        """Return no statement."""
        return ""


class Contender:
    """The calls, written by hand."""

    name = "floor (asyncpg)"
    version = importlib.metadata.version("asyncpg")
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._url = url
        self._pool: Any = None
        self._sessions: dict[str, Session] = {}

    async def start(self) -> None:
        """Create the tables with agentstore's migrations, and a pool of ten connections."""
        async with AgentStore(self._url, settings=Settings(auto_migrate="upgrade")):
            pass
        self._pool = await asyncpg.create_pool(self._url, min_size=10, max_size=10, connection_class=BareConnection)
        await self._pool.execute("INSERT INTO agentstore.users (id) VALUES ($1) ON CONFLICT DO NOTHING", USER)

    async def stop(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._pool.close()

    async def create(self, session: str) -> None:  # noqa: D102
        await self._pool.execute("INSERT INTO agentstore.sessions (user_id, id) VALUES ($1, $2)", USER, session)
        self._sessions[session] = Session(id=session, user_id=USER)

    def convert(self, messages: Sequence[PlainMessage]) -> list[Message]:  # noqa: D102
        return [Message(id=each.id, role=each.role, content=[TextContent(text=each.text)]) for each in messages]

    async def append(self, session: str, messages: list[Message]) -> None:  # noqa: D102
        row = await self._pool.fetchrow(
            _APPEND,
            USER,
            session,
            len(messages),
            [message.id for message in messages],
            [message.model_dump_json(exclude_none=True) for message in messages],
        )
        if row is None:
            raise LookupError(session)
        first_seq, updated_at, message_count = row
        for seq, message in enumerate(messages, first_seq):
            message.__dict__["_place"] = seq, updated_at
        found = self._sessions[session]
        found.messages.extend(messages)
        found.updated_at, found.message_count = updated_at, message_count

    async def read(self, session: str) -> Session:  # noqa: D102
        rows = await self._pool.fetch(_GET, USER, session)
        head = next(row for row in rows if row[9] is None)
        stored = [row for row in rows if row[9] is not None]
        messages = _MESSAGES.validate_json(b"[%b]" % b",".join([row[9] for row in stored]))
        for message, row in zip(messages, stored, strict=True):
            message.__dict__["_place"] = row[10]
        (fields,) = _sessions([(session, *head)])
        return Session(**fields, messages=messages)

    def texts(self, found: Session) -> list[str]:  # noqa: D102
        return [message.content[0].text for message in found.messages]  # type: ignore[index, union-attr, misc]

    async def list_sessions(self) -> int:  # noqa: D102
        rows = await self._pool.fetch(_LIST, USER)
        return len(_SESSIONS.validate_python(_sessions(rows)))

    async def save_state(self, session: str, state: dict[str, Any]) -> None:  # noqa: D102
        payload = orjson.dumps(state)
        await self._pool.fetchval(_SAVE_STATE, USER, session, payload.decode(), len(payload))

    async def load_state(self, session: str) -> dict[str, Any]:  # noqa: D102
        found: dict[str, Any] = orjson.loads(await self._pool.fetchval(_LOAD_STATE, USER, session))
        return found

    async def add_memory(self, session: str, messages: list[Message]) -> None:
        """Analyze texts as agentstore does. The messages are known to be new, from the user, and not questions."""
        now = datetime.now(UTC)
        found = [analysis.memory_tokens(text_of(message), now, "english") for message in messages]
        tokens = [[*each.dates, *each.words] for each in found]
        rows = await self._pool.fetch(
            _ADD_MEMORY,
            USER,
            session,
            len(messages),
            sum(map(len, tokens)),
            [message.id for message in messages],
            [message.model_dump_json(exclude_none=True) for message in messages],
            [len(each) for each in tokens],
            [ranking.lexemes(USER, each) for each in tokens],
            "floor",
        )
        assert len(rows) == len(messages)
