"""Each Store implementation against the contract."""

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, InMemoryStore, Settings, Store
from agentstore.sync import AgentStore as BlockingStore
from agentstore.testing import StoreContract, text


class TestInMemory(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with AgentStore.in_memory() as store:
            yield store


class TestPostgres(StoreContract):
    @pytest.fixture
    async def store(self, database_url: str, settings: Settings) -> AsyncIterator[Store]:
        async with AgentStore(database_url, settings=settings) as store:
            yield store


def test_type_checkers_accept_both_as_a_store(database_url: str) -> None:
    stores: list[Store] = [AgentStore(database_url), InMemoryStore(), AgentStore.in_memory()]
    assert all(hasattr(store, name) for store in stores for name in ("sessions", "memory", "states", "users"))


async def test_sandboxes_of_both_and_deleting_their_user(database_url: str, settings: Settings) -> None:
    settings = settings.model_copy(update={"sandbox_provider": "unsafe_subprocess", "sandbox_snapshots": True})
    stores: tuple[Store, ...] = (
        AgentStore(database_url, settings=settings),
        AgentStore.in_memory(settings=settings),
    )
    for store in stores:
        async with store:
            (sandbox,) = await store.sandboxes.connect("s", "alice")
            assert not (await sandbox.run_shell_command("true")).is_error
            assert [user.id for user in await store.users.list_users()] == ["alice"]
            assert len(await store.sandboxes.release("s", "alice")) == 1
            counted = await store.prune(timedelta(), dry_run=True)
            assert counted.workspaces == 1
            assert (await store.users.delete_user("alice")).workspaces == 1
            assert await store.sandboxes.delete_workspaces("s", "alice") == 0


@pytest.mark.parametrize("seed", range(3))
async def test_both_prune_the_same(database_url: str, settings: Settings, seed: int) -> None:
    """Random data and arguments; the order of writes is the same, so that the last ones are the same."""
    numbers = random.Random(seed)
    pruned = []
    writes = [(numbers.choice("sm"), numbers.choice("ab"), numbers.choice("1234")) for _ in range(30)]
    writes += [("r", numbers.choice("ab"), numbers.choice("1234")) for _ in range(15)]
    numbers.shuffle(writes)
    arguments: list[dict[str, Any]] = [
        {name: numbers.randrange(4) for name in ("keep_last", "keep_sessions", "keep_memories", "keep_states")}
        for _ in range(4)
    ]
    for given in arguments:
        for name in ("keep_sessions", "keep_memories", "keep_states"):
            if numbers.random() < 0.5:
                del given[name]
    arguments.sort(key=lambda given: -given["keep_last"])
    stores: tuple[Store, ...] = (AgentStore(database_url, settings=settings), AgentStore.in_memory(settings=settings))
    for store in stores:
        found = []
        async with store:
            for kind, user_id, session_id in writes:
                if kind == "s":
                    await store.sessions.append(user_id, session_id, text("x"))
                elif kind == "m":
                    await store.memory.add_memory(user_id, text("x"), session_id)
                else:
                    await store.states.save_state(user_id, {}, session_id)
            for given in arguments:
                for dry_run in (True, False):
                    result = await store.prune(timedelta(), dry_run=dry_run, **given)
                    found.append((given, result.sessions, result.messages, result.memories, result.state_rounds))
        pruned.append(found)
    assert pruned[0] == pruned[1]


@pytest.mark.parametrize("state_ttl", [None, 60])
@pytest.mark.parametrize("older_than", [None, timedelta(days=1), timedelta()])
async def test_both_prune_what_has_expired_the_same(
    database_url: str,
    settings: Settings,
    observer: asyncpg.Connection,
    state_ttl: int | None,
    older_than: timedelta | None,
) -> None:
    settings = settings.model_copy(update={"state_ttl": state_ttl})
    hour = timedelta(hours=1)
    pruned = []
    stores = (AgentStore(database_url, settings=settings), AgentStore.in_memory(settings=settings))
    for store in stores:
        async with store:
            for session_id, ttl in (("expired", 60), ("lives", None), ("long", 86_400)):
                await store.sessions.create_session("alice", session_id, ttl=ttl)
                await store.sessions.append("alice", session_id, text("x"))
                await store.memory.add_memory("alice", text("x"), session_id)
                await store.states.save_state("alice", {}, session_id)
            if isinstance(store, AgentStore):
                await observer.execute(
                    "UPDATE agentstore.sessions SET updated_at = updated_at - interval '1 hour'; "
                    "UPDATE agentstore.state_heads SET updated_at = updated_at - interval '1 hour'; "
                    "UPDATE agentstore.state_rounds SET saved_at = saved_at - interval '1 hour'"
                )
            else:
                for stored in store.sessions._users["alice"].values():
                    stored.updated_at -= hour
                for head in store.states._heads.values():
                    head.updated_at -= hour
            await store.states.save_state("alice", {}, "later")
            counted = await store.prune(older_than, dry_run=True)
            result = await store.prune(older_than)
            assert (counted.sessions, counted.state_rounds) == (result.sessions, result.state_rounds)
            left = [session.id for session in await store.sessions.list_sessions("alice")]
            pruned.append((result.sessions, result.messages, result.memories, result.state_rounds, left))
    assert pruned[0] == pruned[1]
    assert pruned[0][0] == (3 if older_than == timedelta() else 1)


def test_the_blocking_store_in_memory() -> None:
    with BlockingStore.in_memory() as store:
        store.sessions.append("alice", "s", text("x"))
        assert [message.text for message in store.sessions.iter_messages("alice", "s")] == ["x"]
        assert store.stats().messages == 1
        assert store.users.delete_user("alice").messages == 1
