"""The pytest plugin, in runs of pytest of its own."""

import asyncio

import pytest

from tests.support.documents import LOAD_PLUGIN
from tests.support.servers import Server

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

_USES = """
    assert await agentstore.sessions.get_session("alice", "s") is None
    await agentstore.sessions.append("alice", "s", Message.user("a zebra"))
    await agentstore.memory.add_memory("alice", Message.user("a zebra"))
    assert [message.text for message in await agentstore.memory.search_memory("alice", "zebra")] == ["a zebra"]
"""
_TESTS = {
    "strict": f"""
import pytest
import pytest_asyncio
from agentstore import Message

@pytest.mark.asyncio
async def test_a(agentstore):{_USES}

@pytest.mark.asyncio(loop_scope="module")
async def test_b(agentstore):{_USES}

@pytest.mark.asyncio
async def test_both(agentstore, agentstore_memory):{_USES}
    agentstore = agentstore_memory{_USES}

@pytest_asyncio.fixture
async def session(agentstore):
    return await agentstore.sessions.create_session("alice", "s")

@pytest.mark.asyncio
async def test_an_async_fixture_uses_it(agentstore, session):
    assert await agentstore.sessions.get_session("alice", "s") == session
""",
    "auto": f"""
import asyncio
from agentstore import Message

async def test_a(agentstore):{_USES}

async def test_b(agentstore):{_USES}

async def test_memory(agentstore_memory):
    agentstore = agentstore_memory{_USES}

async def test_a_store_that_the_application_opens(agentstore_url):
    from agentstore import AgentStore
    async with AgentStore(agentstore_url) as agentstore:{_USES.replace(chr(10), chr(10) + "    ")}

def test_without_a_loop(agentstore):
    async def use():{_USES.replace(chr(10), chr(10) + "    ")}
    asyncio.run(use())
""",
    "anyio": f"""
import pytest
from agentstore import Message

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_a(agentstore):{_USES}

async def test_b(agentstore):{_USES}

async def test_memory(agentstore_memory):
    agentstore = agentstore_memory{_USES}

@pytest.fixture
async def session(agentstore):
    return await agentstore.sessions.create_session("alice", "s")

async def test_an_async_fixture_uses_it(agentstore, session):
    assert await agentstore.sessions.get_session("alice", "s") == session
""",
}
_SHARED = """
import asyncio
import os
from pathlib import Path

import asyncpg
import pytest
from agentstore import Message, Settings

@pytest.fixture
def agentstore_settings():
    return Settings.model_construct(session_ttl=60)

@pytest.fixture(scope="session")
def agentstore_template(agentstore_server, agentstore_template):
    async def create():
        connection = await asyncpg.connect(agentstore_server.url_of(agentstore_template))
        await connection.execute("CREATE TABLE orders (id int)")
        await connection.close()
    asyncio.run(create())
    return agentstore_template

@pytest.mark.parametrize("number", range(4))
async def test_shared(agentstore, agentstore_server, agentstore_url, number):
    await agentstore.sessions.append(f"user {number}", "s", Message.user("x"))
    assert [user.id for user in await agentstore.users.list_users(stale_ok=True)] == [f"user {number}"]
    assert agentstore._database.settings.session_ttl == 60
    connection = await asyncpg.connect(agentstore_url)
    assert await connection.fetchval("SELECT count(*) FROM orders") == 0
    await connection.close()
    Path(os.environ["SEEN"], str(agentstore_server.data_dir).replace("/", "_")).touch()
"""
_OPTIONS = ("-o", "asyncio_default_fixture_loop_scope=function", "-W", "error")


def _databases(server: Server) -> set[str]:
    found: set[str] = set()

    async def read() -> None:
        import asyncpg

        connection = await asyncpg.connect(server.url_of("postgres"))
        rows = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'agentstore%'")
        found.update(row[0] for row in rows if not row[0].startswith("agentstore_test"))
        await connection.close()

    asyncio.run(read())
    return found


def test_fixtures_in_strict_mode_and_with_anyio(pytester: pytest.Pytester, server: Server) -> None:
    pytester.makepyfile(test_strict=_TESTS["strict"], test_anyio=_TESTS["anyio"])
    url = f"--agentstore-url={server.url_of('postgres')}"
    done = pytester.runpytest_subprocess(*LOAD_PLUGIN, *_OPTIONS, "-o", "asyncio_mode=strict", url)
    done.assert_outcomes(passed=sum(_TESTS[mode].count("def test_") for mode in ("strict", "anyio")))
    assert not _databases(server)  # all were dropped


def test_fixtures_in_auto_mode_with_workers_and_overrides(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers share an embedded server. Variables of the application's environment have no effect on the fixtures."""
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", "postgresql://production.example.com/agents")
    monkeypatch.setenv("AGENTSTORE_READ_URL", "postgresql://production.example.com/agents")
    seen = pytester.mkdir("seen")
    monkeypatch.setenv("SEEN", str(seen))
    pytester.makepyfile(test_auto=_TESTS["auto"], test_shared=_SHARED)
    done = pytester.runpytest_subprocess(*LOAD_PLUGIN, *_OPTIONS, "-o", "asyncio_mode=auto", "-n", "2")
    done.assert_outcomes(passed=_TESTS["auto"].count("def test_") + 4)
    assert len(list(seen.iterdir())) == 1
