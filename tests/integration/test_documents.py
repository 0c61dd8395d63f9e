"""Documents beside concurrent writers, deletions and prunes on Postgres."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from agentstore import AgentStore

# Each bucket of a document has that one, and its tokens.
_WRONG = """
SELECT count(*) FROM agentstore.memory_buckets b
FULL JOIN agentstore.memories m ON (m.user_id, m.session_id) = (b.user_id, b.session_id)
WHERE b.count IS DISTINCT FROM 1 OR b.tokens IS DISTINCT FROM m.tokens OR m.seq <> 1 OR m.id <> b.session_id
"""


async def test_writes_deletions_and_sweeps_leave_whole_documents(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    rng = random.Random(1)
    past, future = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)

    def documents() -> list[dict[str, Any]]:
        chosen = rng.sample(range(6), rng.randint(1, 4))
        until = rng.choice([None, past, future])
        return [{"id": f"d{n}", "text": "tea " * rng.randint(0, 5), "valid_until": until} for n in chosen]

    async def work() -> None:
        for _ in range(25):
            choice = rng.random()
            if choice < 0.5:
                await store.documents.put("alice", documents())
            elif choice < 0.7:
                await store.documents.delete("alice", rng.sample([f"d{n}" for n in range(6)], 2))
            elif choice < 0.85:
                await store.documents.renew("alice", {f"d{n}": future + timedelta(hours=1) for n in range(6)})
            elif choice < 0.95:
                await store.documents.delete_expired()
            else:
                await store.prune()

    await asyncio.gather(*(work() for _ in range(8)))
    assert await observer.fetchval(_WRONG) == 0
    await store.documents.put("alice", [{"id": f"d{n}", "text": "last"} for n in range(6)])
    await store.documents.delete_expired()
    found = await store.documents.get("alice", [f"d{n}" for n in range(6)])
    assert {each.item.text for each in found.values()} == {"last"}
    assert len(found) == 6
    assert await observer.fetchval(_WRONG) == 0


async def test_deleting_the_user_beside_puts_leaves_no_orphans(store: AgentStore, observer: asyncpg.Connection) -> None:
    async def put(number: int) -> None:
        for n in range(15):
            await store.documents.put("alice", [{"id": f"d{n}", "text": "tea"}, {"id": f"e{number}", "text": "tea"}])

    async def erase() -> None:
        for _ in range(15):
            await store.users.delete_user("alice")

    await asyncio.gather(*map(put, range(6)), erase())
    await store.users.delete_user("alice")
    for table in ("users", "memory_buckets", "memories"):
        assert await observer.fetchval(f"SELECT count(*) FROM agentstore.{table}") == 0


async def test_document_that_another_program_damaged_is_left_out(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    await store.documents.put("alice", [{"id": "a", "text": "tea"}, {"id": "b", "text": "tea"}])
    await observer.execute("UPDATE agentstore.memories SET payload = '[1]' WHERE id = 'a'")
    assert list(await store.documents.get("alice", ["a", "b"])) == ["b"]
    assert [each.item.id for each in await store.documents.list("alice")] == ["b"]
    assert [each.item.id for each, _ in await store.documents.search("alice", "tea")] == ["b"]
    await store.documents.put("alice", {"id": "a", "text": "coffee"})
    assert len(await store.documents.get("alice", ["a", "b"])) == 2
