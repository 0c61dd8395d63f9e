"""``agentstore doctor`` finds each misconfiguration."""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from agentstore import AgentStore, EmbeddedPostgres, NotConfigured, Settings, Unavailable, migrate
from agentstore.operations import doctor, vacuum
from agentstore.operations.doctor import Finding, examine
from agentstore.operations.grants import apply, grants
from agentstore.repositories.connect import open_database
from agentstore.sandbox.cgroups import Cgroups
from agentstore.settings import AutoMigrate
from agentstore.testing import text
from tests.support.cli import run
from tests.support.psql import psql
from tests.support.roles import with_role
from tests.support.servers import Server


@pytest.fixture(autouse=True)
def _long_probe_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT", 60.0)


async def _examine(url: str, **settings: object) -> dict[str, Finding]:
    """Return the findings by the names of their checks; each check has exactly one."""
    database = open_database(url or None, settings=Settings(**settings))  # type: ignore[arg-type]
    try:
        findings = await examine(database)
    finally:
        await database.stop()
    named = {finding.check: finding for finding in findings}
    assert len(named) == len(findings)
    assert all(bool(finding.advice) == (finding.state != "ok") for finding in findings)
    return named


@pytest.fixture
async def role(server: Server, database_name: str) -> AsyncIterator[str]:
    """An ordinary role, which may only connect."""
    name = f"app_{uuid4().hex[:8]}"
    await server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    yield name
    connection = await asyncpg.connect(server.url_of(database_name))
    await connection.execute(f"DROP OWNED BY {name}")
    await connection.close()
    await server.execute(f"DROP ROLE {name}")


def _url_as(role: str, url: str) -> str:
    return re.sub("//[^@/]*@", f"//{role}:x@", url)


async def test_a_healthy_database_has_no_problems(own_server: EmbeddedPostgres) -> None:
    await migrate.upgrade(own_server.url, settings=Settings())
    found = await _examine(own_server.url)
    assert {check: finding.state for check, finding in found.items()} == {
        "connection": "ok",
        "version": "ok",
        "durability": "ok",
        "clock": "ok",
        "schema": "ok",
        "drift": "ok",
        "role": "warning",
        "indexes": "ok",
        "vacuum": "ok",
        "memories": "ok",
        "pooler": "ok",
        "pool": "ok",
        **({"sandboxes": "ok"} if shutil.which("bwrap") else {}),
    }
    assert "superuser" in found["role"].found


def test_what_limits_sandboxes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/bwrap")
    for cgroups, said in ((Cgroups(1, {}), "a cgroup (version 1)"), (None, "measured several times a second")):
        monkeypatch.setattr(doctor, "find_cgroups", lambda cgroups=cgroups: cgroups)
        (found,) = doctor._sandboxes(Settings())
        assert said in found.found
    assert not doctor._sandboxes(Settings(sandbox_provider="unsafe_subprocess"))
    assert not doctor._sandboxes(Settings(sandbox_url="http://localhost"))


async def test_a_schema_that_is_behind_is_found(empty_url: str) -> None:
    found = (await _examine(empty_url))["schema"]
    assert (found.state, "agentstore upgrade" in found.advice) == ("problem", True)


async def test_a_schema_that_is_ahead_is_found(direct_url: str, observer: asyncpg.Connection) -> None:
    await observer.execute("UPDATE agentstore.agentstore_version SET version_num = '9999'")
    found = (await _examine(direct_url))["schema"]
    assert found.state == "warning"
    assert "9999" in found.found


async def test_missing_rights_are_found_with_the_grants_that_fix_them(
    direct_url: str, observer: asyncpg.Connection, role: str
) -> None:
    await observer.execute(f"GRANT USAGE ON SCHEMA agentstore TO {role}")
    await observer.execute(f"GRANT SELECT ON agentstore.agentstore_version, agentstore.messages TO {role}")
    found = (await _examine(_url_as(role, direct_url)))["role"]
    assert found.state == "problem"
    assert "messages (" in found.found
    assert "users (" in found.found
    await observer.execute(found.advice)
    assert (await _examine(_url_as(role, direct_url)))["role"].state == "ok"
    await observer.execute(f"REVOKE ALL ON agentstore.agentstore_version FROM {role}")
    found = (await _examine(_url_as(role, direct_url)))["role"]
    assert "agentstore_version (SELECT)" in found.found
    await observer.execute(found.advice)
    assert (await _examine(_url_as(role, direct_url)))["role"].state == "ok"


async def test_a_role_that_may_not_use_the_schema_is_found(
    direct_url: str, observer: asyncpg.Connection, role: str
) -> None:
    found = await _examine(_url_as(role, direct_url))
    assert found["schema"].state == "problem"
    assert found["role"] == Finding(
        "role", "problem", f"'{role}' may not use the schema 'agentstore'", found["role"].advice
    )
    await observer.execute(found["role"].advice)
    found = await _examine(_url_as(role, direct_url))
    assert (found["schema"].state, found["role"].state) == ("ok", "ok")


async def test_memories_of_another_analysis_are_found_with_the_command_that_fixes_them(
    store: AgentStore, direct_url: str, observer: asyncpg.Connection
) -> None:
    await store.memory.add_memory("alice", [text("likes tea") for _ in range(9)])
    for change, state in (("analysis", "ok"), ("'0 klingon 1.0'", "warning")):
        await observer.execute(f"UPDATE agentstore.memories SET analysis = {change}; ANALYZE agentstore.memories")
        assert (await _examine(direct_url))["memories"].state == state
    assert (await _examine(direct_url, text_search_config="german"))["memories"].state == "warning"
    assert await store.memory.reindex() == 9


async def test_what_vacuum_left_undone_is_found_with_the_command_that_fixes_it(
    direct_url: str, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "_HARMLESS_DEAD", 100)
    monkeypatch.setattr(vacuum, "_LARGE_TABLE", 10_000)
    monkeypatch.setattr(vacuum, "_LARGE_INDEX", 50_000)

    async def findings() -> list[tuple[str, str]]:
        await observer.execute("SELECT pg_stat_force_next_flush()")
        return await vacuum.undone(observer, "agentstore")

    fill = "INSERT INTO agentstore.users (id) SELECT md5(n::text) FROM generate_series(1, 5000) n"
    await observer.execute(f"ALTER TABLE agentstore.users SET (autovacuum_enabled = false); {fill}")
    ((found, advice),) = await findings()
    assert "users was never analyzed" in found
    await observer.execute(advice)
    assert await findings() == []
    await observer.execute("DELETE FROM agentstore.users WHERE id > '2'")
    ((found, advice),) = await findings()
    assert re.match("users has 4,[0-9]{3} dead rows beside [0-9]{3}", found)
    await observer.execute(advice.partition(";")[0])
    ((found, advice),) = await findings()
    assert "users_pkey has" in found
    await observer.execute(advice)
    assert await findings() == []
    table = {
        "name": "users", "quoted": "agentstore.users", "dead": 0, "live": 9, "bytes": 1, "unanalyzed": False,
        "autovacuum": False, "max_age": 200_000_000, "age": 400_000_001,
    }  # fmt: skip
    off, old = [found for found, _ in vacuum._of_tables([table])]  # type: ignore[list-item]
    assert "autovacuum is off" in off
    assert "400,000,001 transactions old" in old


async def test_what_holds_vacuum_and_wal_back_is_found_with_the_command_that_ends_it(
    observer: asyncpg.Connection, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = f"slot_{uuid4().hex}"
    assert await vacuum.undone(observer, "agentstore") == []
    monkeypatch.setattr(vacuum, "_LONG_OPEN", -1.0)
    monkeypatch.setattr(vacuum, "_KEPT_WAL", -1)
    await observer.execute(f"SELECT pg_create_physical_replication_slot('{slot}', true)")
    other = await asyncpg.connect(direct_url)
    try:
        await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        own = await other.fetchval("SELECT pg_backend_pid()")
        found = dict(await vacuum.undone(observer, "agentstore"))
        (transaction,) = [advice for text, advice in found.items() if f"process {own} is open for 0.0 hours" in text]
        assert transaction == f"SELECT pg_terminate_backend({own})"
        (unread,) = [advice for text, advice in found.items() if slot in text]
        assert "bytes of WAL are kept" in next(text for text in found if slot in text)
        await observer.execute(unread[unread.index("SELECT") :])
        await observer.execute(transaction)
        while await observer.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", own):
            await asyncio.sleep(0.01)
        left = [text for text, _ in await vacuum.undone(observer, "agentstore")]
        assert not [text for text in left if slot in text or f"process {own} " in text]
    finally:
        other.terminate()
        await observer.fetch(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", slot
        )
    prepared = {"kind": "prepared", "name": "'two''s'", "amount": 7200.0}
    ((text, advice),) = vacuum._of_holders([prepared])  # type: ignore[list-item]
    assert text.startswith("the prepared transaction 'two''s' is open for 2.0 hours")
    assert advice == "ROLLBACK PREPARED 'two''s'"


async def test_an_index_whose_statistics_are_hidden_is_not_taken_for_a_sparse_one(
    observer: asyncpg.Connection, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "_LARGE_INDEX", 50_000)
    await observer.execute(
        "INSERT INTO agentstore.users (id) SELECT repeat(md5(n::text), 4) FROM generate_series(1, 5000) n"
    )
    await observer.execute("ANALYZE agentstore.users")
    assert await vacuum.undone(observer, "agentstore") == []
    await observer.execute(
        f"ALTER TABLE agentstore.users ENABLE ROW LEVEL SECURITY; GRANT USAGE ON SCHEMA agentstore TO {role}; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA agentstore TO {role}; SET ROLE {role}"
    )
    assert await vacuum.undone(observer, "agentstore") == []
    await observer.execute("RESET ROLE")


async def test_an_invalid_index_is_found_with_the_command_that_fixes_it(
    direct_url: str, observer: asyncpg.Connection
) -> None:
    assert (await _examine(direct_url))["indexes"].state == "ok"
    for name, command in (("broken", "REINDEX"), ("broken_ccnew1", "DROP"), ("broken_ccold", "DROP")):
        await observer.execute(f"CREATE INDEX {name} ON agentstore.messages (created_at)")
        await observer.execute(
            f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'agentstore.{name}'::regclass"
        )
        found = (await _examine(direct_url))["indexes"]
        assert found == Finding(
            "indexes",
            "problem",
            f"agentstore.{name} is INVALID: no query uses it",
            f"{command} INDEX CONCURRENTLY agentstore.{name}",
        )
        await observer.execute(found.advice)
        assert (await _examine(direct_url))["indexes"].state == "ok"


async def test_doctor_does_not_advise_dropping_an_index_that_is_being_built(
    direct_url: str, observer: asyncpg.Connection, role: str
) -> None:
    await observer.execute(f"GRANT USAGE ON SCHEMA agentstore TO {role}")
    holder, builder = await asyncpg.connect(direct_url), await asyncpg.connect(direct_url)
    transaction = holder.transaction(isolation="repeatable_read")
    await transaction.start()
    await holder.execute("LOCK TABLE agentstore.users IN ROW EXCLUSIVE MODE")  # the index build waits for its end
    building = asyncio.create_task(builder.execute("CREATE INDEX CONCURRENTLY slow ON agentstore.users (created_at)"))
    async with asyncio.timeout(60):
        while not await observer.fetchval("SELECT to_regclass('agentstore.slow') IS NOT NULL"):
            await asyncio.sleep(0.01)
    for url in (direct_url, _url_as(role, direct_url)):
        found = (await _examine(url))["indexes"]
        assert (found.state, "DROP" in found.advice, "REINDEX" in found.advice) == ("warning", False, False)
    await transaction.rollback()
    await building
    assert (await _examine(direct_url))["indexes"].state == "ok"
    await holder.close()
    await builder.close()


@pytest.mark.parametrize(
    ("setting", "check"),
    [("synchronous_commit = off", "durability"), ("default_transaction_read_only = on", "writes")],
)
async def test_settings_that_lose_or_refuse_writes_are_found(
    own_server: EmbeddedPostgres, setting: str, check: str
) -> None:
    await migrate.upgrade(own_server.url, settings=Settings())
    await Server(own_server.url_of).execute(f"ALTER DATABASE postgres SET {setting}")
    found = (await _examine(own_server.url))[check]
    assert found.state == "problem"
    assert setting.partition(" ")[0] in found.found
    assert setting.partition(" ")[0] in found.advice


async def test_a_server_without_fsync_is_found(own_tcp_server: tuple[str, int]) -> None:
    found = (await _examine(own_tcp_server[0]))["durability"]
    assert (found.state, found.found) == ("problem", "fsync, full_page_writes, synchronous_commit off")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
async def test_an_encoding_that_cannot_store_every_language_is_refused(server: Server, encoding: str) -> None:
    name = f"agentstore_test_{encoding.lower()}_{uuid4().hex[:8]}"
    await server.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'"
    )
    url = server.url_of(name)
    try:
        found = (await _examine(url))["encoding"]
        assert (found.state, found.found) == ("problem", encoding)
        for command in ("plan", "upgrade", "check"):
            done = await asyncio.to_thread(run, command, "--url", url)
            assert (done.code, f"has the encoding {encoding}" in done.err) == (1, True)
        modes: list[AutoMigrate] = ["check", "upgrade", "off"]
        for mode in modes:
            with pytest.raises(NotConfigured, match=f"{encoding}.*ENCODING 'UTF8'"):
                await AgentStore(url, settings=Settings(auto_migrate=mode)).start()
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT to_regnamespace('agentstore')") is None
        await connection.close()
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.usefixtures("observer")  # a connection that is in use
async def test_policies_are_compared_with_the_setting(direct_url: str, role: str, server: Server) -> None:
    psql(direct_url, "; ".join(grants(app=role)) + ";")
    as_role = _url_as(role, direct_url)
    assert "row security" not in await _examine(as_role)
    assert (await _examine(as_role, row_level_security=True))["row security"].state == "warning"
    await migrate.enable_row_security(direct_url)
    assert (await _examine(as_role, row_level_security=True))["row security"].state == "ok"
    found = (await _examine(as_role))["row security"]
    assert (found.state, "ROW_LEVEL_SECURITY=true" in found.advice) == ("problem", True)
    found = (await _examine(direct_url, row_level_security=True))["row security"]
    assert (found.state, "all rows" in found.found) == ("warning", True)
    psql(direct_url, "DROP POLICY agentstore_user ON agentstore.workspaces;")
    found = (await _examine(as_role, row_level_security=True))["row security"]
    assert (found.state, "workspaces" in found.found) == ("problem", True)


async def test_a_pool_that_exceeds_the_connection_limit_is_found(direct_url: str, observer: asyncpg.Connection) -> None:
    assert await observer.fetchval("SELECT 1")  # keeps a connection in use
    assert (await _examine(direct_url, pool_size=100_000))["pool"].state == "problem"
    most = re.search(r"allows (\d+)", (await _examine(direct_url))["pool"].found)
    assert most is not None
    assert (await _examine(direct_url, pool_size=int(most[1])))["pool"].state == "warning"


async def test_connection_limits_of_a_role_and_of_a_database_are_considered(
    direct_url: str, observer: asyncpg.Connection, role: str, database_name: str
) -> None:
    await observer.execute(f"GRANT USAGE ON SCHEMA agentstore TO {role}")
    url = _url_as(role, direct_url)
    others = [await asyncpg.connect(direct_url) for _ in range(3)]
    used = int((await _examine(url))["pool"].found.rpartition(",")[2].split()[0])
    assert used >= 3  # an ordinary role sees the number, too
    await observer.execute(f"ALTER ROLE {role} CONNECTION LIMIT 4")
    found = (await _examine(url))["pool"]
    assert (found.state, "at most 4" in found.advice, "the role allows 4, 0 in use" in found.found) == (
        "problem",
        True,
        True,
    )
    await observer.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
    await observer.execute(f'ALTER DATABASE "{database_name}" CONNECTION LIMIT 9')
    assert "the database allows 9" in (await _examine(url, pool_size=8))["pool"].found
    for other in others:
        await other.close()


async def test_a_role_without_connections_left_is_found(
    direct_url: str, observer: asyncpg.Connection, role: str
) -> None:
    await observer.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    found = (await _examine(_url_as(role, direct_url)))["connection"]
    assert (found.state, "all connections are in use" in found.advice) == ("problem", True)


async def test_an_unreachable_url_for_migrations_is_found(direct_url: str) -> None:
    for url, state in ((direct_url, "ok"), ("postgresql://u:hunter2@127.0.0.1:1/none", "problem")):
        found = await _examine("", database_url=direct_url, pooler="transaction", migration_database_url=url)
        assert found["migrations"].state == state
        assert "hunter2" not in found["migrations"].found


@pytest.mark.parametrize("where", ["another database", "another server", "a read-only database"])
async def test_a_url_for_migrations_that_leads_elsewhere_is_found(
    direct_url: str, other_url: str, own_server: EmbeddedPostgres, observer: asyncpg.Connection, where: str
) -> None:
    url = {"another database": other_url, "another server": own_server.url}.get(where, direct_url)
    settings = {"database_url": direct_url, "migration_database_url": f"{url}&application_name=migrations"}
    if where == "a read-only database":
        name = await observer.fetchval("SELECT quote_ident(current_database())")
        await observer.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    found = (await _examine("", **settings))["migrations"]
    assert found.state == "problem"
    assert ("accepts no writes" if url == direct_url else "leads to another database") in found.found


async def test_nothing_is_migrated_in_another_database(
    empty_url: str, other_url: str, own_server: EmbeddedPostgres
) -> None:
    """The revision of one database would be reported as the result of migrating another."""
    for url in (other_url, own_server.url):
        database = open_database(
            settings=Settings(database_url=SecretStr(empty_url), migration_database_url=SecretStr(url))
        )
        for call in (
            migrate.upgrade(database),
            migrate.downgrade(database, "base"),
            migrate.stamp(database, "0001"),
            migrate.enable_row_security(database),
            apply(database, ["CREATE TABLE public.x ()"], []),
        ):
            with pytest.raises(NotConfigured, match=r"leads to another database|is at revision none"):
                await call
        await database.stop()
    connection = await asyncpg.connect(other_url)
    assert await connection.fetchval("SELECT to_regclass('public.x')") is None
    assert await connection.fetchval("SELECT version_num FROM agentstore.agentstore_version") == migrate.head()
    await connection.close()


async def test_a_default_isolation_level_is_reported_with_what_is_done_about_it(own_server: EmbeddedPostgres) -> None:
    url = own_server.url
    await migrate.upgrade(url)
    server = Server(own_server.url_of)

    async def wait_for_default(level: str) -> None:
        """Wait until new connections have the level: the server reloads its configuration after the call for it."""
        await server.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(60):
            while True:
                connection = await asyncpg.connect(url)
                found = await connection.fetchval("SHOW default_transaction_isolation")
                await connection.close()
                if found == level:
                    return

    for target in ("DATABASE postgres", "ROLE postgres", "SYSTEM"):
        for level in ("repeatable read", "serializable"):
            assert "isolation" not in await _examine(url), target
            await server.execute(f"ALTER {target} SET default_transaction_isolation = '{level}'")
            await wait_for_default(level)
            found = (await _examine(url))["isolation"]
            assert (found.state, f"the default is {level}" in found.found) == ("ok", True), target
            # As through a pooler, which makes no setting for a session.
            found = (await _examine(url, pooler="transaction"))["isolation"]
            assert (found.state, f"the default is {level}" in found.found) == ("warning", True), target
            await server.execute(found.advice.removeprefix("run "))
            assert "isolation" not in await _examine(url, pooler="transaction"), target
            for each in (target, "ROLE postgres IN DATABASE postgres"):  # which the advice sets
                await server.execute(f"ALTER {each} RESET default_transaction_isolation")
            await wait_for_default("read committed")


async def test_a_wrong_clock_is_found(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) - timedelta(seconds=90)

    monkeypatch.setattr(doctor, "datetime", Slow)
    began = time.monotonic()
    found = (await _examine(direct_url))["clock"]
    took = time.monotonic() - began
    assert found.state == "warning"
    # A round trip can shift the measured offset by its duration at most; the offset is printed with one decimal.
    assert abs(float(found.found.split()[0]) - 90) <= took + 0.1


async def test_a_configured_pooler_that_does_not_exist_is_found(direct_url: str) -> None:
    assert (await _examine(direct_url, pooler="transaction"))["pooler"].state == "warning"


async def test_a_database_that_cannot_be_reached_is_the_only_finding() -> None:
    found = await _examine("postgresql://u:hunter2@127.0.0.1:1/none")
    assert list(found) == ["connection"]
    assert found["connection"].state == "problem"
    assert "hunter2" not in found["connection"].found


async def test_the_privileges_of_the_login_for_migrations_are_checked(
    direct_url: str, observer: asyncpg.Connection
) -> None:
    await observer.execute("CREATE ROLE migrating LOGIN")
    try:
        url = with_role(direct_url, "migrating")
        found = await _examine("", database_url=direct_url, migration_database_url=url)
        assert found["migrations"].state == "problem"
        assert "'migrating', lacks privileges" in found["migrations"].found
        for statement in found["migrations"].advice.removeprefix("as a superuser, run ").split("; "):
            await observer.execute(statement)
        found = await _examine("", database_url=direct_url, migration_database_url=url)
        assert found["migrations"].state == "ok"
        await observer.execute("GRANT CREATE, USAGE ON SCHEMA agentstore TO migrating")
        await observer.execute("ALTER TABLE agentstore.users OWNER TO postgres")
        found = await _examine("", database_url=direct_url, migration_database_url=url)
        assert "ALTER TABLE agentstore.users OWNER TO migrating" in found["migrations"].advice
    finally:
        await observer.execute("REASSIGN OWNED BY migrating TO CURRENT_USER; DROP OWNED BY migrating")
        await observer.execute("DROP ROLE migrating")


async def test_a_database_without_the_schema_needs_the_privilege_to_create_it(
    direct_url: str, observer: asyncpg.Connection
) -> None:
    await observer.execute("CREATE ROLE migrating LOGIN")
    try:
        url = with_role(direct_url, "migrating")
        found = await _examine("", database_url=direct_url, migration_database_url=url, schema="other")
        assert "GRANT CREATE ON DATABASE" in found["migrations"].advice
    finally:
        await observer.execute("DROP ROLE migrating")


async def test_errors_of_migrations_name_their_own_login(direct_url: str) -> None:
    other = "postgresql://migrator:hunter2@127.0.0.1:1/none"
    settings = Settings(database_url=SecretStr(direct_url), migration_database_url=SecretStr(other), schema="other")
    database = open_database(settings=settings)
    for call in (migrate.upgrade(database), apply(database, ["SELECT 1"], ["app"])):
        with pytest.raises(Unavailable) as caught:
            await call
        assert "postgresql://migrator@127.0.0.1:1/none" in str(caught.value)
        assert database.where not in str(caught.value)
    await database.stop()
