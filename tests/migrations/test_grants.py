"""What the roles of `agentstore grants` can do, and what they cannot."""

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
    "ALTER TABLE agentstore.users ADD COLUMN x int", "UPDATE agentstore.alembic_version SET version_num = 'x'",
    "DELETE FROM agentstore.alembic_version", "CREATE SCHEMA x",
    "CREATE INDEX x ON agentstore.users (created_at)", "CREATE POLICY x ON agentstore.users",
]  # fmt: skip


class _Roles:
    """Roles of this test's own, and URLs by which a database is entered as one of them."""

    def __init__(self, url: str) -> None:
        self._url = url
        mark = uuid4().hex[:8]
        self.app, self.readonly, self.migrator = f"app \"{mark}'", f"readonly {mark}", f"migrator 密{mark}"

    def url(self, role: str) -> str:
        """The URL of the same database, as a role: said at the start, since the server asks for no password."""
        from urllib.parse import quote

        return f"{self._url}&options={quote('-c role=' + _escaped(role))}"


def _escaped(role: str) -> str:
    return role.replace("\\", "\\\\").replace(" ", "\\ ")


@pytest.fixture
async def roles(empty_url: str) -> AsyncIterator[_Roles]:
    made = _Roles(empty_url)
    connection = await asyncpg.connect(empty_url)
    names = ['"' + name.replace('"', '""') + '"' for name in (made.app, made.readonly, made.migrator)]
    for name in names:
        await connection.execute(f"CREATE ROLE {name} LOGIN")
    yield made
    for name in names:
        await connection.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
    await connection.close()


async def _refused(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
            await connection.execute(statement)
    await connection.close()


async def _use(url: str) -> None:
    """A bit of everything that an application does."""
    async with AgentStore(url) as store:
        session = await store.sessions.create_session("zoe", "s", ttl=100)
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
        assert (await store.restore(file)).left == []  # by temporary tables
        await store.users.delete_user("zoe")
        assert (await store.restore(file)).rows["users"] == 1  # by COPY
        assert (await store.users.delete_user("zoe")).sessions > 0


async def test_each_role_can_do_its_work_and_no_more(empty_url: str, roles: _Roles) -> None:
    for _ in range(2):
        statements = grants(app=roles.app, readonly=roles.readonly, migrator=roles.migrator)
        psql(empty_url, ";\n".join(statements) + ";")
    await _refused(roles.url(roles.app), "CREATE TABLE agentstore.x (a int)")
    await migrate.upgrade(roles.url(roles.migrator))  # from nothing: all that it makes is for the others as well
    psql(empty_url, ";\n".join(statements) + ";")  # and the version is nobody's but the migrator's
    await _use(roles.url(roles.app))
    await _refused(roles.url(roles.app), *_FORBIDDEN)
    await _refused(roles.url(roles.readonly), *_FORBIDDEN, "INSERT INTO agentstore.users (id) VALUES ('x')")
    async with AgentStore(roles.url(roles.readonly)) as store:
        assert await store.sessions.get_session("alice", "s") is None
    with pytest.raises(NotConfigured, match="lacks a right"):
        await migrate.downgrade(roles.url(roles.app), "-1")
    await migrate.downgrade(roles.url(roles.migrator), "-1")


async def test_a_migrator_that_may_not_see_others_is_told_whom_it_waits_for(empty_url: str, roles: _Roles) -> None:
    psql(empty_url, ";\n".join(grants(migrator=roles.migrator)) + ";")
    await migrate.upgrade(roles.url(roles.migrator), "0007")
    told: list[str] = []
    superuser = open_database(empty_url)
    async with exclusive_connection(superuser, time.monotonic() + 10, print):
        with pytest.raises(Unavailable, match=r"Timed out waiting .*: process \d+ .* connected at"):
            await migrate.upgrade(roles.url(roles.migrator), wait=0.3, report=told.append)
    await superuser.stop()
    reader = await asyncpg.connect(empty_url)
    await reader.execute(
        "BEGIN; SELECT count(*) FROM agentstore.sessions, agentstore.messages, agentstore.state_rounds"
    )
    with pytest.raises(Unavailable, match="lock timeout"):
        await migrate.upgrade(roles.url(roles.migrator), wait=3, report=told.append)
    process = reader.get_server_pid()
    await reader.close()
    assert any(f"process {process} " in line and " since ?, holds a lock on " in line for line in told), told
    await migrate.upgrade(roles.url(roles.migrator))


async def test_a_database_that_is_in_use_is_handed_over(empty_url: str, direct_url: str, roles: _Roles) -> None:
    await _load(empty_url, "0003")
    arguments = ("grants", "--app", roles.app, "--migrator", roles.migrator, "--url", empty_url)
    assert (await asyncio.to_thread(run, *arguments, "--apply")).code == 0
    await migrate.upgrade(roles.url(roles.migrator))
    assert await catalog(empty_url) == await catalog(direct_url)
    async with AgentStore(roles.url(roles.app)) as store:
        await store.states.save_state("alice", {}, "s")  # in a table that came later
        assert len((await store.sessions.get_session("alice", "s")).messages) == 20  # type: ignore[union-attr]


async def test_without_a_migrator_it_is_about_what_the_schemas_owner_makes(empty_url: str, roles: _Roles) -> None:
    await _load(empty_url, "0003")
    psql(empty_url, ";\n".join(grants(app=roles.app)) + ";")
    await migrate.upgrade(empty_url)
    await _use(roles.url(roles.app))


async def test_what_cannot_be_granted_is_said(empty_url: str, roles: _Roles) -> None:
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
