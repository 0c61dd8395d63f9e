"""Write the dumps of revisions into ``dumps``: ``python -m tests.migrations.dump [REVISION]...``, the head by default.

A dump is the output of `pg_dump` for a database at the revision, with every kind of row. It is written once, when its
revision is released, and not again: it records what databases contained, regardless of later changes to the migrations.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg

from agentstore import EmbeddedPostgres, migrate
from agentstore.embedded.postgres import bundled_binaries

FOLDER = Path(__file__).parent / "dumps"

_HOSTILE = "('', 'alice', '密:%', 'a\\b''c ')"
_LARGE = "repeat('密 \\\\\\u0000\\ud800 said ', 200)"
# By revision, the statements that fill the tables and columns that it adds. Every column that a migration adds must get
# a value other than its default in some row: test_revisions.py checks the dumps for that.
_ROWS = {
    "0001": f"""
        INSERT INTO users (id, metadata, created_at) SELECT id, '{{"z":1, "a":"\\u0000"}}', '2025-01-02T03:04:05Z'
        FROM unnest(ARRAY{_HOSTILE.replace("(", "[", 1)[:-1]}]) id;
        INSERT INTO sessions (user_id, id, next_seq, title, metadata, created_at, updated_at, listed_at)
        SELECT u.id, s, 21, 'Reise nach 杭州', '{{"tags":["x"]}}', '2025-01-02T03:04:05.678901Z',
            '2025-02-03T04:05:06Z', '2025-02-03T04:05:00Z' FROM users u, unnest(ARRAY['', 's', '会:%']) s;
        INSERT INTO messages (user_id, session_id, seq, id, created_at, payload)
        SELECT user_id, id, n, 'm' || n, '2025-01-02T03:04:05Z'::timestamptz + n * interval '1 second',
            json_build_object('role', CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, 'content', json_build_array(
                json_build_object('type', 'text', 'text', 'number ' || n || ' 红色的苹果 "q" \\ é😀')))
        FROM sessions, generate_series(1, 19) n;
        INSERT INTO messages (user_id, session_id, seq, id, payload)
        SELECT user_id, id, 20, 'large',
            ('{{"role": "user", "content": [{{"type": "text", "text": "' || {_LARGE} || '"}}]}}')::json
        FROM sessions WHERE id = 's' AND user_id IN ('alice', '密:%');
        UPDATE sessions SET next_seq = 20 WHERE NOT (id = 's' AND user_id IN ('alice', '密:%'));
    """,
    "0002": """
        INSERT INTO memory_buckets (user_id, session_id, count, tokens) SELECT user_id, id, 4, 12 FROM sessions;
        INSERT INTO memories (user_id, session_id, seq, id, payload, role, is_question, time, tokens, lexemes, analysis,
            is_cut, kind, importance, valid_from, valid_until)
        SELECT user_id, id, n, 'm' || n, json_build_object('role', 'user', 'content', json_build_array(
            json_build_object('type', 'text', 'text', 'apples ' || n || ' 苹果'))), 'user', n = 2,
            '2025-01-02T03:04:05Z', 3, 'apples:1 苹果:2'::tsvector, 'some', n = 3,
            CASE n WHEN 4 THEN 'fact' ELSE 'message' END, CASE n WHEN 4 THEN 0.5 END,
            CASE n WHEN 4 THEN '2025-01-01T00:00:00Z'::timestamptz END, CASE n WHEN 4 THEN '2031-01-01'::timestamptz END
        FROM sessions, generate_series(1, 4) n;
    """,
    "0003": """
        INSERT INTO memory_extractions (user_id, session_id, first_seq, last_seq, is_open, attempts, outages, run_after,
            lease, leased_until, failed_at, error)
        SELECT user_id, session_id, n, n + 2, false, n, n + 1, '2025-01-02T03:04:05Z',
            CASE n WHEN 4 THEN 'lease' END, CASE n WHEN 4 THEN '2025-01-02T03:05:05Z'::timestamptz END,
            CASE n WHEN 1 THEN '2025-01-02T03:04:05Z'::timestamptz END, CASE n WHEN 1 THEN 'out' END
        FROM memory_buckets, unnest(ARRAY[1, 4]) n WHERE session_id = 's';
    """,
    "0004": """
        INSERT INTO state_heads (user_id, session_id, next_round, last_round, updated_at)
        SELECT user_id, id, 4, 3, '2025-01-02T03:04:05Z' FROM sessions;
        INSERT INTO state_rounds (user_id, session_id, round, payload, packed, metadata, size, saved_at)
        SELECT user_id, session_id, n,
            CASE n WHEN 3 THEN NULL ELSE json_build_object('n', n, 'x', repeat('密', 300)) END,
            CASE n WHEN 3 THEN '\\x28b52ffd0400110000' || decode(repeat('00ff', 500), 'hex') END,
            '{"k":"\\u0000"}', 612, '2025-01-02T03:04:05Z' FROM state_heads, generate_series(2, 3) n;
    """,
    "0005": "UPDATE sessions SET forked_from = 's', forked_at = 3 WHERE id = '会:%';",
    "0006": "UPDATE sessions SET ttl = 2000000000 WHERE id = '';",
    "0010": """
        INSERT INTO sandboxes (user_id, session_id, type, generation, state, provider, owner, host, handle, created_at,
            lease_until)
        SELECT user_id, id, 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02T03:04:05Z',
            '2031-01-01T00:00:00Z' FROM sessions;
    """,
    "0011": """
        INSERT INTO workspaces (user_id, session_id, type, chunks, size, saved_at)
        SELECT user_id, id, 'base', 2, 4, '2025-01-02T03:04:05Z' FROM sessions;
        INSERT INTO workspace_chunks (user_id, session_id, type, number, data)
        SELECT user_id, session_id, type, n, '\\x00ff' FROM workspaces, generate_series(1, 2) n;
    """,
    "0012": """
        DELETE FROM messages WHERE session_id = 's' AND seq IN (2, 7);
        UPDATE sessions SET removed = 2 WHERE id = 's';
    """,
    "0013": "UPDATE sessions SET app = '密 app' WHERE id = 's';",
    "0020": "UPDATE memories SET namespace = '密/a b' WHERE session_id = 's';",
    "0022": """
        INSERT INTO app_values (app, key, value) VALUES
            ('', '', '[1, "\\u0000"]'), ('密 app', '密:%', '{"z":1, "a":2}');
        INSERT INTO user_values (user_id, app, key, value) SELECT id, '密 app', '密:%', '"\\ud800"' FROM users;
        INSERT INTO session_values (user_id, session_id, key, value)
        SELECT user_id, id, '密:%', '{"n":1}' FROM sessions;
    """,
    "0023": """
        INSERT INTO blobs (user_id, session_id, app, name, version, hash, chunks, size, content_type, filename,
            metadata, saved_at)
        SELECT user_id, id, '密 app', 'a/密', n, sha256('\\x00ff'), 1, 2, 'text/plain', '密.txt', '{"k":"\\u0000"}',
            '2025-01-02T03:04:05Z' FROM sessions, generate_series(0, 1) n;
        INSERT INTO blob_chunks (user_id, hash, number, data) SELECT id, sha256('\\x00ff'), 1, '\\x00ff' FROM users;
    """,
    "0025": """
        UPDATE memories SET question_share = 0, speaker = 'ann 密'
        WHERE session_id = 's' AND kind = 'message';
    """,
    "0027": """
        INSERT INTO checkpoint_heads (user_id, session_id, epoch, updated_at)
        SELECT user_id, id, 7, '2025-01-02T03:04:05Z' FROM sessions;
        INSERT INTO checkpoints (user_id, session_id, namespace, id, parent_id, run_id, type, size, data, metadata_type,
            metadata, channels, versions, deltas, saved_at)
        SELECT user_id, id, '密', n::text, nullif(n - 1, 0)::text, 'a run', 'msgpack', 2, '\\x00ff', 'json', '\\x7b7d',
            '{"a b",密}', ARRAY[n || '.0.5', '=1'], '{"a b"}', '2025-01-02T03:04:05Z'
        FROM sessions, generate_series(1, 2) n;
        INSERT INTO checkpoint_values (user_id, session_id, namespace, channel, version, type, size, data, sources,
            pieces)
        SELECT user_id, id, '密', 'a b', '1.0.5', 'msgpack', 2, '\\x00ff'::bytea, NULL::text[], NULL::bytea
        FROM sessions
        UNION ALL
        SELECT user_id, id, '密', 'a b', '2.0.5', 'msgpack', 1, '\\x01', '{1.0.5}', '\\x0001010200' FROM sessions;
        INSERT INTO checkpoint_writes (user_id, session_id, namespace, checkpoint_id, task_id, number, task_path,
            channel, type, size, data)
        SELECT user_id, id, '密', '2', 'a task', n, '~x', '密', 'msgpack', 2, '\\x00ff'
        FROM sessions, generate_series(0, 1) n;
    """,
    "0028": """
        UPDATE users SET memories = 7, memory_tokens = 9;
    """,
}
# Lines of newer releases of pg_dump that older servers and other clients do not accept.
_OMITTED = re.compile(r"(--.*|\\.*|SET transaction_timeout.*|)\n")


def columns(revision: str | None) -> dict[str, list[str]]:
    """Return the columns of each table in the dump of a revision, without Alembic's table; empty if it has no dump."""
    path = FOLDER / f"{revision}.sql"
    text = path.read_text() if path.exists() else ""
    tables = re.findall(r"^CREATE TABLE agentstore\.(\w+) \((.*?)\n\)", text, re.MULTILINE | re.DOTALL)
    return {
        table: re.findall(r'^    (?!CONSTRAINT )"?(\w+)"? ', body, re.MULTILINE)
        for table, body in tables
        if table not in ("alembic_version", "agentstore_version")
    }


def added(revision: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return what a revision adds: tables, and columns of tables that exist before it, as its dump shows them.

    A dump is compared with that of the previous revision, not with the migration itself.
    """
    previous = {each.id: each.previous for each in migrate.history()}[revision]
    before, after = columns(previous), columns(revision)
    new = [(table, name) for table, names in after.items() for name in names if name not in before.get(table, names)]
    return [table for table in after if table not in before], new


async def fill(url: str, revision: str) -> None:
    """Insert every kind of row that a database at a revision can have."""
    connection = await asyncpg.connect(url, server_settings={"search_path": "agentstore"})
    for since, sql in _ROWS.items():
        if since <= revision:
            await connection.execute(sql)
    await connection.close()


def dump(url: str) -> str:
    """Return the output of `pg_dump` for the schema, without the lines that other versions do not accept."""
    command = [str(bundled_binaries() / "bin" / "pg_dump"), "--inserts", "--no-owner", "--schema=agentstore", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not _OMITTED.fullmatch(line))


async def main(revisions: list[str]) -> None:
    """Write the dumps of these revisions."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(folder) as server:
            for revision in revisions:
                connection = await asyncpg.connect(server.url)
                await connection.execute(f'CREATE DATABASE "r{revision}"')
                await connection.close()
                url = server.url_of(f"r{revision}")
                await migrate.upgrade(url, revision)
                await fill(url, revision)
                (FOLDER / f"{revision}.sql").write_text(await asyncio.to_thread(dump, url))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or [migrate.head()]))
