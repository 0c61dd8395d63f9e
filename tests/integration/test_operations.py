"""The procedures of docs/operations.md, carried out with the commands of that page."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentstore import AgentStore, EmbeddedPostgres, Message, Retryable, Settings, migrate
from agentstore.embedded.postgres import _server_user, bundled_binaries
from agentstore.embedded.supervisor import _reachable_binaries
from tests.support.documents import ROOT, blocks, run_process
from tests.support.pgbouncer import free_port
from tests.support.psql import psql
from tests.support.servers import data_folder

PAGE = ROOT / "docs" / "operations.md"
_OLD = binaries if (binaries := Path("/usr/lib/postgresql/15")).exists() else None


def _code(part: str) -> str:
    """Return the code of the only block of the page with this text."""
    (found,) = [each.code for each in blocks(PAGE) if part in each.code]
    return found


class _Owner:
    """Runs commands as the user who owns the servers' files; the tools of Postgres refuse to run as root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        user = _server_user(folder)
        self._prefix = [] if user is None else ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups"]
        binaries = bundled_binaries()
        if user is not None:
            shutil.chown(folder, *user)
            binaries = _reachable_binaries(binaries, *user)
        self._path = f"{binaries / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def run(self, code: str, **variables: str) -> str:
        command = [*self._prefix, "bash", "-c", f"set -euo pipefail\n{code}"]
        environment = {**os.environ, "PATH": self._path, "HOME": str(self.folder), **variables}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def write(self, file: str, text: str) -> None:
        """Append to a file."""
        self.run('printf %s "$TEXT" >>"$FILE"', FILE=file, TEXT=text)


@dataclass(frozen=True)
class _Cluster:
    """A server in a folder of its owner."""

    owner: _Owner
    name: str
    port: int

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def control(self, arguments: str) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.owner.run(f'pg_ctl -D {self.name} -l {self.name}.log -w -o "{options}" {arguments}')

    @contextmanager
    def running(self) -> Iterator[None]:
        self.control("start")
        try:
            yield
        finally:
            if (self.owner.folder / self.name / "postmaster.pid").exists():
                self.control("stop -m immediate")


async def _write(url: str, until: asyncio.Event) -> tuple[set[str], list[str]]:
    """Append messages until the event; return the ids of those acknowledged and those that are stored."""
    acknowledged: set[str] = set()
    async with AgentStore(url) as store:
        while not until.is_set():
            message = Message.user("Hello")
            while True:
                try:
                    await store.sessions.append("writer", "chat", message)
                    break
                except Retryable:
                    await asyncio.sleep(0.05)
            acknowledged.add(message.id)
        return acknowledged, [each.id async for each in store.sessions.iter_messages("writer", "chat")]


@pytest.mark.documentation
async def test_backup_point_in_time_and_failover() -> None:
    with data_folder() as folder, ExitStack() as stack:
        owner = _Owner(folder)
        primary, standby, restored = (_Cluster(owner, name, free_port()) for name in ("primary", "standby", "restored"))
        replication = f"host=127.0.0.1 port={primary.port} user=postgres"
        owner.run(
            f"initdb -D {primary.name} -U postgres --auth=trust -E UTF8 --locale=C.UTF-8 --no-sync; mkdir archive"
        )
        archive = f"{folder}/archive"
        owner.write(
            "primary/postgresql.conf",
            f"archive_mode = on\narchive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'\n",
        )
        stack.enter_context(primary.running())
        psql(primary.url(), "CREATE DATABASE agents")
        await migrate.upgrade(primary.url("agents"), settings=Settings())
        async with AgentStore(primary.url("agents")) as store:
            await store.sessions.append("alice", "trip", Message.user("Where to?"))

            owner.run(_code("--pgdata=base"), REPLICATION=replication)
            before = datetime.now(UTC)
            await asyncio.sleep(0.05)
            await store.users.delete_user("alice")
            psql(primary.url(), "SELECT pg_switch_wal(); CHECKPOINT")
        recovery = re.sub(r"(recovery_target_time = )'.*'", rf"\1'{before.isoformat()}'", _code("recovery_target_time"))
        owner.run("cp -a base restored && touch restored/recovery.signal")
        owner.write("restored/postgresql.conf", "archive_mode = off\n" + recovery.replace("/archive", archive))
        with restored.running():
            async with asyncio.timeout(60):
                while "archive recovery complete" not in (log := owner.run("cat restored.log")):
                    assert "FATAL" not in log, log
                    await asyncio.sleep(0.1)
            variables = {"RESTORED": restored.url("agents"), "AGENTSTORE_DATABASE_URL": primary.url("agents")}
            await run_process(
                "bash", "-c", "set -euo pipefail\n" + _code("--only-user alice"), environment=variables, folder=folder
            )
        async with AgentStore(primary.url("agents")) as store:
            assert [each.text async for each in store.sessions.iter_messages("alice", "trip")] == ["Where to?"]

        owner.run(_code("--pgdata=standby"), REPLICATION=replication)
        stack.enter_context(standby.running())
        for command in _code("synchronous_standby_names").split(";"):
            psql(primary.url(), command)
        both = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/agents"
        done = asyncio.Event()
        writing = asyncio.create_task(_write(f"{both}?target_session_attrs=read-write", done))
        await asyncio.sleep(1)
        primary.control("stop -m immediate")
        owner.run("cp primary/postgresql.conf kept.conf")
        standby.control("promote")
        await asyncio.sleep(1)
        done.set()
        acknowledged, stored = await asyncio.wait_for(writing, 60)
        assert acknowledged <= set(stored)
        assert len(stored) == len(set(stored))

        new_primary = f"host=127.0.0.1 port={standby.port} user=postgres dbname=postgres"
        owner.run(_code("pg_rewind"), PGDATA="primary", NEW_PRIMARY=new_primary)
        owner.run("cp kept.conf primary/postgresql.conf && test -f primary/standby.signal")


@pytest.mark.documentation
async def test_dump_password_and_upgrade_of_postgres_there_and_back() -> None:
    with data_folder() as folder, ExitStack() as stack:
        level = {"wal_level": "logical"}
        servers = [
            EmbeddedPostgres(folder / "old", binaries=_OLD, parameters=level),
            EmbeddedPostgres(folder / "new", parameters=level),
        ]
        for server in servers:
            stack.enter_context(server)
        old, new = servers
        psql(old.url, "CREATE DATABASE agents; CREATE DATABASE back")
        psql(new.url, "CREATE DATABASE moved")
        agents, moved, back = old.url_of("agents"), new.url_of("moved"), old.url_of("back")
        await migrate.upgrade(agents, settings=Settings())
        async with AgentStore(agents) as store:
            for number in range(3):
                await store.sessions.append(f"user-{number}", "trip", Message.user("Where to?"))
            await store.memory.add_memory("user-1", [Message.user("I like tea.")])
        variables = {"AGENTSTORE_DATABASE_URL": agents, "RESTORED": new.url_of("restored")}

        # Its own pg_dump for each server: 18.6's takes column options of a 15.20 server for settings.
        programs = {agents: (_OLD or bundled_binaries()) / "bin", moved: bundled_binaries() / "bin"}

        async def run(part: str, source: str = agents, **more: str) -> None:
            code = f"set -euo pipefail; export PATH={programs[source]}:$PATH\n{_code(part)}"
            await run_process("bash", "-c", code, environment={**variables, **more}, folder=folder)

        await run("pg_dump --format=custom")
        # The page restores on the same server: here on the new one, which an older pg_restore could not.
        await run("pg_restore", AGENTSTORE_DATABASE_URL=new.url)
        assert await _exported(new.url_of("restored")) == await _exported(agents)
        await run("CREATE ROLE agents_a")
        for sql in (
            _code("SET jit = off").replace("agents_app", "agents_a"),
            _code("client backend"),
            "SET ROLE agents_b; SELECT FROM agentstore.users",
        ):
            psql(agents, sql)

        for source, target in ((agents, moved), (moved, back)):
            await run("CREATE SUBSCRIPTION", source, OLD=source, NEW=target)
            async with AgentStore(source) as store:
                await store.sessions.append("late", "trip", Message.user("Am I too late?"))
            await run("confirmed_flush_lsn", source, OLD=source, NEW=target)
            assert await _exported(target) == await _exported(source)


async def _exported(url: str) -> list[str]:
    """Return the rows of an export, without its lines of times and checksums."""
    lines = await run_process(
        *(sys.executable, "-m", "agentstore", "export", "-", "--url", url), environment={}, folder=ROOT
    )
    return [line for line in lines.splitlines() if not re.match(r'\{"(agentstore|end|finished)"', line)]


def test_no_command_of_the_page_is_left_out() -> None:
    source = Path(__file__).read_text()
    parts = re.findall(r'(?:_code|run)\(\s*"([^"]+)"', source)
    for each in blocks(PAGE):
        if each.language != "text":
            assert any(part in each.code for part in parts), f"{each} is not carried out"
