"""The extraction queue: each message is extracted exactly once, despite failures and concurrency."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    Extraction,
    ExtractionFailed,
    Extractor,
    InMemoryMemoryService,
    InvalidContent,
    MemoryItem,
    Message,
    PostgresMemoryService,
    Settings,
    Unavailable,
    UnknownOutcome,
)
from agentstore.database.database import Database
from agentstore.database.statement import CompiledStatement, Row, Statement
from agentstore.database.transaction import Transaction
from agentstore.repositories.memory import extraction as memory_extractions
from agentstore.repositories.memory import rows as memory_rows
from agentstore.testing import HOSTILE_IDS, text
from tests.integration.extraction.support import DUE, EchoExtractor, one_fact_each, read_jobs
from tests.support.chat import ChatEndpoint, Reply, facts_reply
from tests.support.servers import terminate_all_backends


async def test_adding_is_one_statement_and_enqueues_only_with_an_extractor(
    service: PostgresMemoryService, store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    fetch = asyncpg.Connection.fetch

    async def record(self: asyncpg.Connection, query: str, *args: Any, **kwargs: Any) -> Any:
        statements.append(query)
        return await fetch(self, query, *args, **kwargs)

    await service.start()
    await store.start()
    monkeypatch.setattr(asyncpg.Connection, "fetch", record)
    await store.memory.add_memory("alice", text("without"), "s")
    assert statements == [CompiledStatement(memory_rows.ADD, Settings()).sql]
    assert "memory_extractions" not in statements[0]
    assert not await read_jobs(observer)
    statements.clear()
    await service.add_memory("alice", [text("with", id="1"), text("one", id="2")], "s")
    assert len([each for each in statements if "INSERT" in each]) == 1
    (job,) = await read_jobs(observer)
    assert (job["first_seq"], job["last_seq"], job["attempts"]) == (2, 3, 0)
    await service.add_memory("alice", [text("with", id="1"), text("more", id="3")], "s")  # one of them exists
    await service.add_memory("alice", text("more", id="3"), "s")  # it exists
    (job,) = await read_jobs(observer)
    assert (job["first_seq"], job["last_seq"]) == (2, 4)


async def test_messages_in_quick_succession_are_one_call_after_a_pause(
    service: PostgresMemoryService, database_url: str, settings: Settings, extractor: Extractor, endpoint: ChatEndpoint
) -> None:
    slow = settings.model_copy(update={"extraction_settle": 600.0})
    async with PostgresMemoryService(database_url, settings=slow, extractor=extractor) as patient:
        for number in range(10):
            await patient.add_memory("alice", text(f"number {number}"), "s")
        assert await patient.extract() == []
        assert endpoint.requests == []
        (done,) = await patient.extract(settled=False)
        assert done.messages == 10
        assert len(endpoint.requests) == 1


async def test_messages_added_during_a_call_wait_for_the_next_one(
    service: PostgresMemoryService, endpoint: ChatEndpoint, observer: asyncpg.Connection
) -> None:
    async def answer(request: dict[str, Any]) -> Reply:
        if len(endpoint.requests) == 1:
            await service.add_memory("alice", text("said 2", id="2"), "s")
            assert await service.extract() == []  # it is leased
        return await one_fact_each(request)

    endpoint.answer = answer
    await service.add_memory("alice", text("said 1", id="1"), "s")
    assert [each.messages for each in await service.extract()] == [1, 1]
    assert sorted(item.text for item in await service.list_items("alice")) == ["fact 1", "fact 2"]
    assert not await read_jobs(observer)


async def test_a_job_that_fails_too_often_is_listed_and_retried_on_request(
    service: PostgresMemoryService, endpoint: ChatEndpoint, observer: asyncpg.Connection
) -> None:
    await service.add_memory("alice", [text(f"said {number}.") for number in range(60)], "s")
    await service.add_memory("bob", text("said by bob."), "s")
    await observer.execute("UPDATE agentstore.memory_extractions SET attempts = 4")

    async def answer(request: dict[str, Any]) -> Reply:
        return Reply("no") if "said 7." in request["messages"][1]["content"] else await one_fact_each(request)

    endpoint.answer = answer
    done = await service.extract()
    assert sorted((each.user_id, each.messages, each.failed) for each in done) == [
        ("alice", 10, False),  # the rest of the failed job
        ("alice", 50, True),
        ("bob", 1, False),
    ]
    (failed,) = await service.list_failed_extractions()
    assert (failed.user_id, failed.session_id, failed.first_position, failed.last_position) == ("alice", "s", 1, 50)
    assert "not valid JSON" in failed.error
    assert (await service.list_failed_extractions("bob"), await service.retry_failed_extractions("bob")) == ([], 0)
    await service.add_memory("alice", text("said later."), "s")
    assert [each.messages for each in await service.extract()] == [1]
    endpoint.answer = one_fact_each
    assert await service.extract() == []
    assert await service.retry_failed_extractions() == 1
    assert [each.messages for each in await service.extract()] == [50]
    assert len(await service.list_items("alice")) == 61
    assert not await read_jobs(observer)
    assert await service.list_failed_extractions() == []


async def test_pending_jobs_are_listed_in_pages(service: PostgresMemoryService, observer: asyncpg.Connection) -> None:
    """Those that wait by time, those of one user and those that are leased by their keys."""
    for user in ("", "a", "b"):
        for session in ("1", "2", "3"):
            await service.add_memory(user, text("x"), session)
    jobs = "UPDATE agentstore.memory_extractions SET"
    await observer.execute(f"{jobs} run_after = now() - interval '1 h' WHERE session_id = '2'")
    await observer.execute(f"{jobs} lease = user_id, leased_until = now() + interval '1 h' WHERE session_id = '3'")
    await observer.execute(f"{jobs} leased_until = now() - interval '1 s', error = 'x' WHERE user_id = 'b'")
    await observer.execute(f"{jobs} failed_at = now(), is_open = false WHERE user_id = 'a' AND session_id = '1'")

    async def listed(user_id: str | None, limit: int, *, leased: bool) -> list[tuple[str, str]]:
        seen: list[Any] = []
        cursor = None
        while True:
            page = await service.list_pending_extractions(user_id, leased=leased, limit=limit, cursor=cursor)
            seen += page
            cursor = page.next_cursor
            if cursor is None:
                break
        now = datetime.now(UTC)
        assert all((each.leased_until is not None and each.leased_until > now) is leased for each in seen)
        assert all((each.error == "x") == (each.user_id == "b") for each in seen)
        return [(each.user_id, each.session_id) for each in seen]

    waiting = [("", "2"), ("a", "2"), ("b", "2"), ("", "1"), ("b", "1"), ("b", "3")]
    for limit in (1, 2, 100):
        assert await listed(None, limit, leased=False) == waiting
        assert await listed("b", limit, leased=False) == [("b", "1"), ("b", "2"), ("b", "3")]
        assert await listed(None, limit, leased=True) == [("", "3"), ("a", "3")]
        assert await listed("a", limit, leased=True) == [("a", "3")]
        assert await listed("c", limit, leased=True) == await listed("c", limit, leased=False) == []
    for cursor in ("nonsense", "WyJ4Il0"):
        with pytest.raises(InvalidContent, match="cursor"):
            await service.list_pending_extractions(cursor=cursor)


async def test_failed_jobs_are_listed_in_pages(service: PostgresMemoryService, observer: asyncpg.Connection) -> None:
    for user in ("", "a", "b"):
        for session in ("1", "2"):
            await service.add_memory(user, text("x"), session)
    await observer.execute("UPDATE agentstore.memory_extractions SET failed_at = now(), error = 'x', is_open = false")
    for limit in (1, 4, 6):
        seen, cursor = [], None
        while True:
            page = await service.list_failed_extractions(limit=limit, cursor=cursor)
            seen += [(each.user_id, each.session_id) for each in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [(user, session) for user in ("", "a", "b") for session in ("1", "2")]


async def test_failed_jobs_of_every_user_are_queued_again(
    service: PostgresMemoryService, observer: asyncpg.Connection
) -> None:
    for user in HOSTILE_IDS:
        await service.add_memory(user, text("x"), "s")
    await observer.execute("UPDATE agentstore.memory_extractions SET failed_at = now(), error = 'x', is_open = false")
    assert await service.retry_failed_extractions("") == 1
    await observer.execute("UPDATE agentstore.memory_extractions SET failed_at = now(), error = 'x', is_open = false")
    assert await service.retry_failed_extractions() == len(HOSTILE_IDS)
    assert await service.list_failed_extractions() == []
    assert await service.retry_failed_extractions() == 0


async def test_four_workers_with_cancellations_process_each_job_once(
    database_url: str, immediate_settings: Settings, observer: asyncpg.Connection
) -> None:
    rng = random.Random(5)

    class Busy(EchoExtractor):
        async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
            await asyncio.sleep(rng.random() * 0.01)
            return await super().extract(messages, existing)

    workers = [PostgresMemoryService(database_url, settings=immediate_settings, extractor=Busy()) for _ in range(4)]
    messages = [(f"u{number % 8}", f"s{number % 24}", f"m{number}") for number in range(120)]
    adding = True

    async def add() -> None:
        nonlocal adding
        for user, session, id in messages:
            await workers[0].add_memory(user, text(id, id=id), session)
        adding = False

    async def work(worker: PostgresMemoryService) -> None:
        while adding or await count_jobs():
            task = asyncio.create_task(worker.extract(limit=5))
            if rng.random() < 0.4:
                await asyncio.wait([task], timeout=rng.random() * 0.05)
                task.cancel()
            with suppress(asyncio.CancelledError):
                assert all(each.error is None for each in await task)

    lock = asyncio.Lock()

    async def count_jobs() -> int:
        async with lock:
            count: int = await observer.fetchval("SELECT count(*) FROM agentstore.memory_extractions")
            return count

    async with asyncio.timeout(180):
        await asyncio.gather(add(), *map(work, workers))
    written = [
        (user, item.text) for user in {user for user, _, _ in messages} for item in await workers[0].list_items(user)
    ]
    assert sorted(written) == sorted((user, f"{id} was said") for user, _, id in messages)
    for worker in workers:
        await worker.stop()


async def test_messages_added_while_jobs_are_marked_failed_are_not_lost(
    database_url: str, immediate_settings: Settings, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_extractions, "MAX_ATTEMPTS", 1)

    class Failing(EchoExtractor):
        async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
            await asyncio.sleep(0)
            raise ExtractionFailed("never")

    async def add(service: PostgresMemoryService, name: str) -> None:
        for number in range(30):
            await service.add_memory("alice", text(f"{name}{number}"), f"s{number % 2}")

    async def fail(service: PostgresMemoryService, adding: "asyncio.Future[Any]") -> None:
        while not adding.done():
            await service.extract()

    async with PostgresMemoryService(database_url, settings=immediate_settings, extractor=Failing()) as service:
        adding = asyncio.gather(*(add(service, name) for name in "abcd"))
        await asyncio.gather(adding, fail(service, adding), fail(service, adding))
        assert len(await service.list_failed_extractions()) > 2
        service._extractor = EchoExtractor()
        await service.retry_failed_extractions()
        assert all(each.error is None for each in await service.extract())
        texts = sorted(item.text for item in await service.list_items("alice", limit=1000))
        assert texts == sorted(f"{name}{number} was said" for name in "abcd" for number in range(30))
    assert not await read_jobs(observer)


async def test_most_additions_to_a_job_update_no_index(
    service: PostgresMemoryService, database_url: str, settings: Settings, observer: asyncpg.Connection
) -> None:
    slow = settings.model_copy(update={"extraction_settle": 600.0})
    async with PostgresMemoryService(database_url, settings=slow, extractor=EchoExtractor()) as patient:
        await patient.add_memory("alice", text("x"), "s")
        place = await observer.fetchval("SELECT run_after FROM agentstore.memory_extractions")
        await patient.add_memory("alice", text("y"), "s")
        assert await observer.fetchval("SELECT run_after FROM agentstore.memory_extractions") == place
        await observer.execute("UPDATE agentstore.memory_extractions SET run_after = now()")
        await patient.add_memory("alice", text("z"), "s")
        assert await observer.fetchval("SELECT run_after FROM agentstore.memory_extractions") > place


async def test_connections_lost_during_a_call_are_not_a_failure(
    service: PostgresMemoryService,
    endpoint: ChatEndpoint,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next call completes what was not committed, and nothing is written twice."""

    async def answer(request: dict[str, Any]) -> Reply:
        await terminate_all_backends(observer)
        return facts_reply("x")

    endpoint.answer = answer
    await service.add_memory("alice", text("x"), "s")
    (done,) = await service.extract()
    assert done.error is None
    assert [item.text for item in await service.list_items("alice")] == ["x"]


async def test_each_job_is_written_once_while_connections_are_killed(
    database_url: str, immediate_settings: Settings, observer: asyncpg.Connection
) -> None:
    rng = random.Random(6)
    users = [f"u{number}" for number in range(12)]

    async def work(service: PostgresMemoryService) -> None:
        while await count_jobs():
            with suppress(Unavailable, UnknownOutcome):
                await service.extract(limit=3)

    lock = asyncio.Lock()

    async def count_jobs() -> int:
        async with lock:  # a job that could not be released either is treated as that of a dead worker
            await observer.execute(
                "UPDATE agentstore.memory_extractions SET leased_until = now() "
                "WHERE leased_until < now() + interval '179.5 seconds'"
            )
            return len(await read_jobs(observer))

    async def kill() -> None:
        for _ in range(25):
            await asyncio.sleep(rng.random() * 0.03)
            async with lock:
                await terminate_all_backends(observer)

    async with PostgresMemoryService(database_url, settings=immediate_settings, extractor=EchoExtractor()) as service:
        for number in range(96):
            await service.add_memory(users[number % 12], text(f"m{number}"), f"s{number % 36}")
        async with asyncio.timeout(180):
            await asyncio.gather(kill(), *(work(service) for _ in range(3)))
        written = [(user, item.text) for user in users for item in await service.list_items(user)]
    assert sorted(written) == sorted((users[number % 12], f"m{number} was said") for number in range(96))


async def test_the_job_of_a_dead_worker_is_claimed_after_its_lease_expires(
    service: PostgresMemoryService, endpoint: ChatEndpoint, observer: asyncpg.Connection
) -> None:
    await service.add_memory("alice", text("x"), "s")
    await observer.execute(
        "UPDATE agentstore.memory_extractions "
        "SET lease = 'dead', leased_until = now() + interval '1 hour', attempts = 1"
    )
    assert await service.extract() == []
    await service.add_memory("alice", text("y"), "t")
    assert await service.extract() == []  # the conversations of a user are extracted one after another
    await observer.execute("UPDATE agentstore.memory_extractions SET leased_until = now() WHERE lease = 'dead'")
    assert len(await service.extract()) == 2
    await service.add_memory("alice", text("z"), "s")
    await observer.execute("UPDATE agentstore.memory_extractions SET attempts = 20")  # as if each worker had died
    (done,) = await service.extract()
    assert done.failed


async def test_a_worker_whose_lease_expired_writes_nothing(
    service: PostgresMemoryService, endpoint: ChatEndpoint, observer: asyncpg.Connection
) -> None:
    async def answer(request: dict[str, Any]) -> Reply:
        if len(endpoint.requests) == 1:
            await observer.execute("UPDATE agentstore.memory_extractions SET leased_until = now()")
            (done,) = await service.extract()
            assert [item.text for item in done.items] == ["of call 2"]
            return facts_reply("of call 1")
        return facts_reply("of call 2")

    endpoint.answer = answer
    await service.add_memory("alice", text("x"), "s")
    (done,) = await service.extract()
    assert (done.items, done.error) == ((), "another worker claimed the job, or its session was deleted")
    assert [item.text for item in await service.list_items("alice")] == ["of call 2"]

    async def lose(request: dict[str, Any]) -> Reply:
        await observer.execute("UPDATE agentstore.memory_extractions SET lease = 'other', attempts = 2")
        return facts_reply("of call 3") if "y" in request["messages"][1]["content"] else Reply("no JSON")

    endpoint.answer = lose
    for name in ("y", "z"):  # neither a result nor a failure is written
        await service.add_memory("alice", text(name), name)
        (done,) = await service.extract()
        assert done.items == ()
        (job,) = await read_jobs(observer)
        assert (job["lease"], job["attempts"], job["error"]) == ("other", 2, None)
        await observer.execute("DELETE FROM agentstore.memory_extractions")
    assert [item.text for item in await service.list_items("alice")] == ["of call 2"]


# Whether a connection to this database waits for a lock. The lock on a row is one on a transaction, of no database, so
# the connection is found by its locks on tables.
_IS_BLOCKED = """
SELECT EXISTS (
    SELECT FROM pg_locks waiting JOIN pg_locks held USING (pid)
    WHERE NOT waiting.granted AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
"""


async def _wait_until_blocked(observer: asyncpg.Connection, task: "asyncio.Task[Any]") -> None:
    """Wait until a connection waits for a lock, which must be before `task` is done."""
    while not await observer.fetchval(_IS_BLOCKED):
        assert not task.done()
        await asyncio.sleep(0.01)


async def test_finishing_a_job_waits_for_an_uncommitted_addition(
    service: PostgresMemoryService, endpoint: ChatEndpoint, observer: asyncpg.Connection
) -> None:
    await service.add_memory("alice", text("x"), "s")
    endpoint.replies = [facts_reply()]
    adding = observer.transaction()
    await adding.start()
    await observer.execute("UPDATE agentstore.memory_buckets SET count = count + 1")
    extracting = asyncio.create_task(service.extract())
    async with asyncio.timeout(60):
        await _wait_until_blocked(observer, extracting)
    await observer.execute("UPDATE agentstore.memory_extractions SET last_seq = 2, run_after = now() + interval '1 h'")
    await adding.commit()
    (done,) = await extracting
    assert done.error is None
    (job,) = await read_jobs(observer)
    assert (job["first_seq"], job["last_seq"], job["lease"], job["attempts"]) == (2, 2, None, 0)


@pytest.mark.parametrize("where", ["postgres", "memory"])
async def test_a_session_deleted_during_a_call_leaves_no_facts(
    where: str,
    service: PostgresMemoryService,
    extractor: Extractor,
    endpoint: ChatEndpoint,
    immediate_settings: Settings,
) -> None:
    facts = service if where == "postgres" else InMemoryMemoryService(settings=immediate_settings, extractor=extractor)

    async def answer(request: dict[str, Any]) -> Reply:
        await facts.delete_memory("alice")
        if len(endpoint.requests) == 2:
            await facts.add_memory("alice", text("new life"), "s")
        return facts_reply("alice has a secret")

    endpoint.answer = answer
    for remaining in (0, 1):
        await facts.add_memory("alice", text("my secret"), "s")
        (done,) = await facts.extract(limit=1)
        assert done.error is not None
        assert await facts.list_items("alice", with_invalid=True) == []
        assert len(await facts.list_memory("alice")) == remaining


async def test_jobs_are_deleted_with_their_user(
    store: AgentStore, service: PostgresMemoryService, observer: asyncpg.Connection
) -> None:
    await service.add_memory("alice", text("x"), "s")
    await service.add_memory("bob", text("x"), "s")
    await store.users.delete_user("alice")
    assert [job["user_id"] for job in await read_jobs(observer)] == ["bob"]


@pytest.mark.parametrize("where", ["postgres", "memory"])
async def test_a_fact_changed_during_a_call_is_not_overwritten(
    where: str,
    service: PostgresMemoryService,
    extractor: Extractor,
    endpoint: ChatEndpoint,
    immediate_settings: Settings,
    observer: asyncpg.Connection,
) -> None:
    facts = service if where == "postgres" else InMemoryMemoryService(settings=immediate_settings, extractor=extractor)
    fact = MemoryItem(text="Alice has one cat", kind="fact")
    await facts.save_items("alice", fact, "other")

    async def answer(request: dict[str, Any]) -> Reply:
        (known,) = endpoint.inputs()[-1]["known"]
        if len(endpoint.requests) == 1:
            await facts.save_items("alice", fact.model_copy(update={"text": "Alice has two cats"}))
        return facts_reply(changed={known["number"]: f"{known['text']} and a dog"})

    endpoint.answer = answer
    await facts.add_memory("alice", text("I have a dog now"), "s")
    (first,) = await facts.extract(limit=1)
    if where == "postgres":
        (job,) = await read_jobs(observer)
        assert (job["attempts"], job["lease"]) == (0, None)
        await observer.execute(DUE)
    (second,) = await facts.extract()
    assert "was changed concurrently" in (first.error or "")
    assert second.error is None
    assert [item.text for item in await facts.list_items("alice")] == ["Alice has two cats and a dog"]


async def test_no_connection_is_checked_out_during_a_call(
    database_url: str, immediate_settings: Settings, endpoint: ChatEndpoint, extractor: Extractor
) -> None:
    async with PostgresMemoryService(database_url, settings=immediate_settings, extractor=extractor) as service:

        async def answer(request: dict[str, Any]) -> Reply:
            assert service._database.checked_out() == 0
            return facts_reply("x")

        endpoint.answer = answer
        await service.add_memory("alice", text("x"), "s")
        (done,) = await service.extract()
        assert done.error is None


async def test_a_worker_cancelled_during_a_claim_leaves_no_lease(
    service: PostgresMemoryService, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.add_memory("alice", text("x"), "s")
    started, committed = asyncio.Event(), asyncio.Event()
    fetch_one = Database.fetch_one
    claims: list[asyncio.Task[Any]] = []

    async def claim(self: Database, statement: Statement, /, **values: Any) -> Row | None:
        started.set()
        await committed.wait()
        return await fetch_one(self, statement, **values)

    async def shielded(self: Database, statement: Statement, /, **values: Any) -> Row | None:
        claims.append(asyncio.create_task(claim(self, statement, **values)))  # not cancelled with the caller
        row: Row | None = await asyncio.shield(claims[-1])
        return row

    monkeypatch.setattr(Database, "fetch_one", shielded)
    async with asyncio.timeout(60):
        working = asyncio.create_task(service.extract())
        await started.wait()
        working.cancel()
        await asyncio.wait([working], timeout=0.1)
        committed.set()
        await asyncio.wait([working, *claims])
    assert working.cancelled()
    (job,) = await read_jobs(observer)
    assert (job["lease"], job["attempts"]) == (None, 0)


async def test_marking_a_job_failed_does_not_deadlock_with_a_deletion(
    service: PostgresMemoryService, endpoint: ChatEndpoint, observer: asyncpg.Connection
) -> None:
    await service.add_memory("alice", [text(f"said {number}.") for number in range(60)], "s")
    await observer.execute("UPDATE agentstore.memory_extractions SET attempts = 4")
    endpoint.replies = [Reply("no")]
    async with asyncio.timeout(60):
        async with observer.transaction():
            await observer.execute("SELECT FROM agentstore.memory_buckets FOR UPDATE")
            extracting = asyncio.create_task(service.extract())
            await _wait_until_blocked(observer, extracting)
            await observer.execute("SELECT FROM agentstore.memory_extractions FOR UPDATE NOWAIT")
            await observer.execute("DELETE FROM agentstore.memory_buckets")
        (done,) = await extracting
    assert not done.failed
    assert not await read_jobs(observer)


async def test_outages_do_not_count_as_attempts(
    service: PostgresMemoryService,
    endpoint: ChatEndpoint,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_extractions, "_FIRST_DELAY", 1_000.0)  # longer than this test takes
    await service.add_memory("alice", text("x"), "s")
    for reply in [*[Reply(status=503)] * 6, Reply("no")]:
        endpoint.replies = [reply]
        (done,) = await service.extract()
        assert not done.failed
        assert await service.extract(settled=False) == []  # the delay applies to unsettled sessions, too
        await observer.execute(DUE)
    assert [(job["attempts"], job["outages"]) for job in await read_jobs(observer)] == [(1, 6)]
    await observer.execute("UPDATE agentstore.memory_extractions SET outages = 19")
    endpoint.replies = [Reply(status=503)]
    (done,) = await service.extract()
    assert done.failed
    (failed,) = await service.list_failed_extractions()
    assert failed.attempts == 21


async def test_a_failed_job_keeps_its_delay_when_unsettled_sessions_are_taken(
    database_url: str, settings: Settings, extractor: Extractor, endpoint: ChatEndpoint
) -> None:
    slow = settings.model_copy(update={"extraction_settle": 600.0})
    async with PostgresMemoryService(database_url, settings=slow, extractor=extractor) as service:
        await service.add_memory("alice", text("x"), "s")
        endpoint.replies = [Reply(status=429, headers={"Retry-After": "300"})]
        assert len(await service.extract(settled=False)) == 1
        assert await service.extract(settled=False) == []


@pytest.mark.parametrize("reply", ["new", "changed", "ended", "nothing"])
async def test_a_commit_with_an_unknown_outcome_is_not_a_failure(
    reply: str,
    service: PostgresMemoryService,
    endpoint: ChatEndpoint,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await service.save_items("alice", MemoryItem(text="has a cat", kind="fact"), "s")
    await service.add_memory("alice", text("x"), "s")
    execute = Transaction.execute
    lost: list[str] = []

    async def lose(self: Transaction, statement: str) -> str:
        done = await execute(self, statement)
        if statement == "COMMIT" and not lost:
            lost.append(statement)
            raise UnknownOutcome("lost")
        return done

    monkeypatch.setattr(Transaction, "execute", lose)
    endpoint.replies = [
        {
            "new": facts_reply("x"),
            "changed": facts_reply(changed={1: "y"}),
            "ended": facts_reply(ended=[1]),
            "nothing": facts_reply(),
        }[reply]
    ]
    (done,) = await service.extract()
    assert lost
    assert done.error is None
    assert (len(done.items), len(done.superseded)) == (reply in ("new", "changed"), reply == "ended")
    assert not await read_jobs(observer)
    assert {item.text for item in await service.list_items("alice")} == {
        "new": {"has a cat", "x"}, "changed": {"y"}, "ended": set(), "nothing": {"has a cat"},
    }[reply]  # fmt: skip
