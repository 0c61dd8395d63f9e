"""What the roles of `agentstore grants` may do and may not do."""

import asyncio
import io
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from agentstore import AgentStore, InvalidContent, MemoryItem, NotConfigured, Unavailable, migrate
from agentstore.migrating.locking import exclusive_connection
from agentstore.operations.grants import grants
from agentstore.repositories.connect import open_database
from agentstore.testing import text
from tests.migrations.test_revisions import _load, catalog
from tests.support.cli import run
from tests.support.psql import psql

_FORBIDDEN = [
    "CREATE TABLE agentstore.x (a int)", "DROP TABLE agentstore.messages", "TRUNCATE agentstore.users CASCADE",
    "ALTER TABLE agentstore.users ADD COLUMN x int", "UPDATE agentstore.agentstore_version SET version_num = 'x'",
    "DELETE FROM agentstore.agentstore_version", "CREATE SCHEMA x",
    "CREATE INDEX x ON agentstore.users (created_at)", "CREATE POLICY x ON agentstore.users",
]  # fmt: skip


class _Roles:
    """Roles for one test, and URLs that log in as one of them."""

    def __init__(self, url: str) -> None:
        self._url = url
        mark = uuid4().hex[:8]
        self.app, self.readonly, self.migrator = f"app \"{mark}'", f"readonly {mark}", f"migrator 密{mark}"

    def url(self, role: str) -> str:
        """Return the URL of the same database for a role, set as a startup option: the server asks for no password."""
        from urllib.parse import quote

        return f"{self._url}&options={quote('-c role=' + _escaped(role))}"


def _escaped(role: str) -> str:
    return role.replace("\\", "\\\\").replace(" ", "\\ ")


@pytest.fixture
async def roles(empty_url: str) -> AsyncIterator[_Roles]:
    created = _Roles(empty_url)
    connection = await asyncpg.connect(empty_url)
    quoted_names = ['"' + name.replace('"', '""') + '"' for name in (created.app, created.readonly, created.migrator)]
    for name in quoted_names:
        await connection.execute(f"CREATE ROLE {name} LOGIN")
    yield created
    for name in quoted_names:
        await connection.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
    await connection.close()


async def _assert_refused(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
            await connection.execute(statement)
    await connection.close()


async def _use_all_services(url: str) -> None:
    """Make each kind of call that an application makes."""
    async with AgentStore(url) as store:
        session = await store.sessions.create_session("zoe", "s", ttl=100, metadata={"plan": "free"})
        await store.sessions.append_message(session, [text("apples", id="1"), text("pears", id="2")])
        await store.memory.add_memory("zoe", session.messages, "s")
        await store.memory.save_items("zoe", MemoryItem(text="likes apples"))
        assert await store.memory.search("zoe", "apples")
        await store.states.save_state("zoe", {"x": 1}, "s")
        await store.sessions.rewind_session("zoe", "s", "1")
        await store.prune()
        assert (await store.stats()).users > 0
        file = io.BytesIO()
        assert await store.export(file, ["zoe"]) is not None
        assert (await store.restore(file)).left == []  # merges from temporary tables
        await store.users.delete_user("zoe")
        assert (await store.restore(file)).rows["users"] == 1  # uses COPY
        assert (await store.users.delete_user("zoe")).sessions > 0


async def test_each_role_may_do_its_work_and_no_more(empty_url: str, roles: _Roles) -> None:
    for _ in range(2):
        statements = grants(app=roles.app, readonly=roles.readonly, migrator=roles.migrator)
        psql(empty_url, ";\n".join(statements) + ";")
    await _assert_refused(roles.url(roles.app), "CREATE TABLE agentstore.x (a int)")
    # As some DBAs do.
    psql(empty_url, f'ALTER DEFAULT PRIVILEGES FOR ROLE "{roles.migrator}" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC')
    await migrate.upgrade(roles.url(roles.migrator))  # the other roles get rights on the new tables
    psql(empty_url, ";\n".join(statements) + ";")  # only the migrator may write to the version table
    await _use_all_services(roles.url(roles.app))
    await _assert_refused(roles.url(roles.app), *_FORBIDDEN)
    await _assert_refused(roles.url(roles.readonly), *_FORBIDDEN, "INSERT INTO agentstore.users (id) VALUES ('x')")
    async with AgentStore(roles.url(roles.readonly)) as store:
        assert await store.sessions.get_session("alice", "s") is None
    with pytest.raises(NotConfigured, match="lacks a privilege"):
        await migrate.downgrade(roles.url(roles.app), "-1")
    await migrate.downgrade(roles.url(roles.migrator), "-1")


@pytest.mark.slow
async def test_a_migrator_without_the_right_to_see_other_sessions_learns_what_it_waits_for(
    empty_url: str, roles: _Roles
) -> None:
    psql(empty_url, ";\n".join(grants(migrator=roles.migrator)) + ";")
    await migrate.upgrade(roles.url(roles.migrator), "0007")
    reports: list[str] = []
    superuser = open_database(empty_url)
    async with exclusive_connection(superuser, time.monotonic() + 60, print):
        with pytest.raises(Unavailable, match=r"Timed out waiting .*: process \d+ .* connected at"):
            await migrate.upgrade(roles.url(roles.migrator), wait=0.3, report=reports.append)
    await superuser.stop()
    reader = await asyncpg.connect(empty_url)
    await reader.execute(
        "BEGIN; SELECT count(*) FROM agentstore.sessions, agentstore.messages, agentstore.state_rounds"
    )
    with pytest.raises(Unavailable, match="lock timeout"):
        await migrate.upgrade(roles.url(roles.migrator), wait=6, report=reports.append)
    process = reader.get_server_pid()
    await reader.close()
    assert any(f"process {process} " in line and " since ?, holds a lock on " in line for line in reports), reports
    await migrate.upgrade(roles.url(roles.migrator))


async def test_an_existing_database_is_handed_over_to_the_roles(empty_url: str, direct_url: str, roles: _Roles) -> None:
    await _load(empty_url, "0003")
    arguments = ("grants", "--app", roles.app, "--migrator", roles.migrator, "--url", empty_url)
    assert (await asyncio.to_thread(run, *arguments, "--apply")).code == 0
    await migrate.upgrade(roles.url(roles.migrator))
    assert await catalog(empty_url) == await catalog(direct_url)
    async with AgentStore(roles.url(roles.app)) as store:
        await store.states.save_state("alice", {}, "s")  # in a table that was created later
        assert len((await store.sessions.get_session("alice", "s")).messages) == 20  # type: ignore[union-attr]


async def test_without_a_migrator_the_grants_cover_tables_that_the_owner_creates(empty_url: str, roles: _Roles) -> None:
    await _load(empty_url, "0003")
    psql(empty_url, ";\n".join(grants(app=roles.app)) + ";")
    await migrate.upgrade(empty_url)
    await _use_all_services(roles.url(roles.app))


async def test_grants_that_are_impossible_are_refused_with_the_reason(empty_url: str, roles: _Roles) -> None:
    for wrong in ({}, {"app": ""}, {"app": "a\0"}, {"readonly": "x" * 64}):
        with pytest.raises(InvalidContent):
            grants(**wrong)
    done = await asyncio.to_thread(run, "grants", "--app", "nobody-knows", "--apply", "--url", empty_url)
    assert (done.code, "There is no role 'nobody-knows': CREATE ROLE" in done.err) == (1, True)
    printed = await asyncio.to_thread(run, "grants", "--app", "a", "--json")
    assert "REVOKE ALL ON SCHEMA" in printed.json()["statements"][1]
    await migrate.upgrade(empty_url)
    done = await asyncio.to_thread(run, "grants", "--app", roles.readonly, "--apply", "--url", roles.url(roles.app))
    assert (done.code, "may not grant this" in done.err) == (1, True), done.err
