"""The embedded Postgres runs as long as any process uses its folder."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from agentstore import AgentStore, EmbeddedPostgres, NotConfigured, Settings, Unavailable
from agentstore.database.statement import Statement
from tests.integration.test_database import ADD_USER, USERS
from tests.support.servers import copy_cluster

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]

# Uses the folder's server, prints a line when it is connected, and stops when a line arrives on stdin.
_CLIENT = """
import asyncio, sys, asyncpg
from agentstore import EmbeddedPostgres
async def main():
    async with EmbeddedPostgres(sys.argv[1], binaries=sys.argv[2] or None) as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute("SELECT 1")
        print("connected", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await connection.close()
asyncio.run(main())
"""


class _Clients:
    """Client processes that use the server of a folder."""

    def __init__(self, folder: Path, binaries: str | None) -> None:
        self._arguments = [sys.executable, "-c", _CLIENT, str(folder), binaries or ""]
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, count: int) -> list["subprocess.Popen[str]"]:
        started = [
            subprocess.Popen(self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        self.processes += started
        return started

    def wait_until_connected(self, processes: list["subprocess.Popen[str]"]) -> None:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"

    def stop(self, processes: list["subprocess.Popen[str]"]) -> None:
        for process in processes:
            process.communicate("\n", timeout=60)
            assert process.returncode == 0
            self.processes.remove(process)

    def kill(self, process: "subprocess.Popen[str]") -> None:
        process.kill()
        process.communicate()
        self.processes.remove(process)


@pytest.fixture
def folder(server_folder: Path) -> Iterator[Path]:
    yield server_folder / "data"
    _wait_until(lambda: not _server_processes(server_folder / "data"))


@pytest.fixture
def used_folder(folder: Path, cluster: Path) -> Path:
    """A folder in which a server ran before."""
    return copy_cluster(cluster, folder)


@pytest.fixture
def clients(folder: Path, binaries: str | None) -> Iterator[_Clients]:
    started = _Clients(folder, binaries)
    yield started
    for process in list(started.processes):
        started.kill(process)


def _server_processes(folder: Path) -> list[int]:
    """Return the processes of the server: those whose working directory is the folder's data."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and os.path.samefile(process / "cwd", folder / "data"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _supervisors(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"supervisor.py" in command and json.dumps(str(folder)).encode() in command:
            found.append(int(process.name))
    return found


def _wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _postmaster(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


@pytest.mark.parametrize("count", [6, pytest.param(20, marks=pytest.mark.chaos)])
def test_processes_start_on_one_empty_folder_at_once(clients: _Clients, folder: Path, count: int) -> None:
    started = clients.start(count)
    clients.wait_until_connected(started)
    assert len(_supervisors(folder)) == 1
    clients.stop(started[: count // 2])
    assert _server_processes(folder)
    clients.kill(started[count // 2])
    for process in started[count // 2 + 1 :]:
        clients.kill(process)
    _wait_until(lambda: not _server_processes(folder) and not _supervisors(folder))


def test_the_server_survives_the_kill_of_its_first_client_and_stops_after_the_last(
    clients: _Clients, used_folder: Path
) -> None:
    first = clients.start(1)
    clients.wait_until_connected(first)
    second = clients.start(1)
    clients.wait_until_connected(second)
    server = _postmaster(used_folder)
    clients.kill(first[0])
    third = clients.start(1)
    clients.wait_until_connected(third)
    assert _postmaster(used_folder) == server
    clients.stop(second)
    clients.kill(third[0])
    _wait_until(lambda: not _server_processes(used_folder) and not _supervisors(used_folder))


def test_a_client_killed_during_startup_leaves_no_process_behind(clients: _Clients, folder: Path) -> None:
    for delay in (0.3, 0.4, 0.5, 0.6, 0.8):
        started = clients.start(1)
        time.sleep(delay)
        clients.kill(started[0])
    last = clients.start(1)
    clients.wait_until_connected(last)
    clients.stop(last)
    _wait_until(lambda: not _server_processes(folder) and not _supervisors(folder))


def test_a_killed_supervisor_stops_the_server_and_the_next_call_restarts_it(
    used_folder: Path, binaries: str | None
) -> None:
    async def run() -> None:
        async with AgentStore(settings=Settings(embedded_dir=str(used_folder), embedded_binaries=binaries)) as store:
            database = store._database
            await database.fetch(ADD_USER, id="alice")
            for victim in (_supervisors(used_folder)[0], _postmaster(used_folder)):
                os.kill(victim, signal.SIGKILL)
                async with asyncio.timeout(60):
                    while True:
                        try:
                            rows = await database.fetch(USERS)
                            break
                        except Unavailable:
                            await asyncio.sleep(0.05)
                assert rows == [("alice",)]
        _wait_until(lambda: not _server_processes(used_folder) and not _supervisors(used_folder))

    asyncio.run(run())


def test_every_acknowledged_commit_survives_a_kill_of_the_whole_server(used_folder: Path, binaries: str | None) -> None:
    async def run() -> None:
        settings = Settings(embedded_dir=str(used_folder), embedded_binaries=binaries)
        async with AgentStore(settings=settings) as store:
            acknowledged: list[str] = []

            async def write(writer: int) -> None:
                number = 0
                while len(acknowledged) < 400:
                    await store._database.fetch(ADD_USER, id=f"{writer:02}-{number:04}")
                    acknowledged.append(f"{writer:02}-{number:04}")
                    number += 1

            writers = asyncio.gather(*(write(writer) for writer in range(8)), return_exceptions=True)
            while len(acknowledged) < 200:
                await asyncio.sleep(0.001)
            for process in [_supervisors(used_folder)[0], *_server_processes(used_folder)]:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            await writers
        async with AgentStore(settings=settings) as store:
            stored = {row[0] for row in await store._database.fetch(USERS)}
            assert set(acknowledged) <= stored

    asyncio.run(run())


@pytest.mark.parametrize("name", ["with space", "x" * 200, "ünïcödé 数据", "quote'\"; rm"])
def test_any_folder_name_works(tmp_path: Path, name: str, binaries: str | None) -> None:
    with EmbeddedPostgres(tmp_path / name, binaries=binaries, durable=False) as server:
        assert asyncio.run(_query(server.url, "SELECT 1")) == 1


def test_the_locale_of_the_user_has_no_effect(
    folder: Path, binaries: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LANG"):
        monkeypatch.setenv(name, "C")
    with EmbeddedPostgres(folder, binaries=binaries) as server:
        assert asyncio.run(_query(server.url, "SHOW server_encoding")) == "UTF8"
        assert asyncio.run(_query(server.url, "SELECT upper('äé')")) == "ÄÉ"


def test_a_stale_pid_file_with_the_pid_of_another_process_is_ignored(used_folder: Path, binaries: str | None) -> None:
    with EmbeddedPostgres(used_folder, binaries=binaries):
        pass
    (used_folder / "data" / "postmaster.pid").write_text(
        f"{os.getpid()}\n{used_folder}\n1\n5432\n/tmp\n\n 1 1\nready\n"
    )
    with EmbeddedPostgres(used_folder, binaries=binaries) as server:
        assert asyncio.run(_query(server.url, "SELECT 1")) == 1


def test_a_start_takes_less_time_than_creating_a_cluster(folder: Path, tmp_path: Path, binaries: str | None) -> None:
    settings = Settings(embedded_dir=str(folder), embedded_binaries=binaries)

    async def start_store() -> float:
        began = time.monotonic()
        async with AgentStore(settings=settings):
            return time.monotonic() - began

    def create_cluster() -> float:
        began = time.monotonic()
        with EmbeddedPostgres(tmp_path / "other", binaries=binaries):
            return time.monotonic() - began

    created = create_cluster()
    assert asyncio.run(start_store()) < 10 * created  # creates the cluster, and migrates
    assert min(asyncio.run(start_store()) for _ in range(3)) < created


async def test_the_timeouts_of_the_settings_apply(used_folder: Path, binaries: str | None) -> None:
    settings = Settings(
        embedded_dir=str(used_folder), embedded_binaries=binaries, lock_timeout=1.5, statement_timeout=7
    )
    async with AgentStore(settings=settings) as store, store._database.connection() as connection:
        assert await connection.fetchval("SHOW lock_timeout") == "1500ms"
        assert await connection.fetchval("SHOW statement_timeout") == "7s"


async def test_a_cancelled_start_leaves_no_process_behind(folder: Path, binaries: str | None) -> None:
    cancelled = 0
    for delay in (0.01, 0.05, 0.2, 0.4):
        server = EmbeddedPostgres(folder, binaries=binaries)
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(delay)
        starting.cancel()
        await asyncio.wait([starting])
        if starting.cancelled():
            cancelled += 1
        else:
            await server.stop()  # the start was faster
        assert not _server_processes(folder)
    assert cancelled > 0


def test_no_other_user_can_connect(folder: Path, binaries: str | None) -> None:
    with EmbeddedPostgres(folder, binaries=binaries) as server:
        sockets = Path(server.url.split("host=")[1].split("&")[0])
        assert sockets.stat().st_mode & 0o077 == 0
        assert folder.stat().st_mode & 0o077 == 0
        assert asyncio.run(_query(server.url, "SHOW listen_addresses")) == ""
    assert not sockets.exists()


def test_unusable_data_binaries_and_parameters_are_errors(tmp_path: Path, binaries: str | None) -> None:
    with pytest.raises(NotConfigured, match="not a Postgres installation"):
        EmbeddedPostgres(tmp_path / "a", binaries=tmp_path).__enter__()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotConfigured, match="cannot use"):
        EmbeddedPostgres(tmp_path / "file", binaries=binaries).__enter__()
    (tmp_path / "b" / "data").mkdir(parents=True)
    (tmp_path / "b" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(Unavailable, match="written by Postgres 9"):
        EmbeddedPostgres(tmp_path / "b", binaries=binaries).__enter__()
    with pytest.raises(Unavailable, match="no_such_setting"):
        EmbeddedPostgres(tmp_path / "c", binaries=binaries, parameters={"no_such_setting": "1"}).__enter__()
    _wait_until(lambda: not _supervisors(tmp_path / "c"))


def test_the_url_is_the_same_after_a_restart(used_folder: Path, binaries: str | None) -> None:
    urls = set()
    for _ in range(2):
        with EmbeddedPostgres(used_folder, binaries=binaries) as server:
            urls.add(server.url)
    sockets = Path(urls.pop().split("host=")[1].split("&")[0])
    assert not urls
    sockets.mkdir()
    sockets.chmod(0o777)  # as another user could have created it
    with EmbeddedPostgres(used_folder, binaries=binaries) as server:
        used = Path(server.url.split("host=")[1].split("&")[0]).stat()
        assert used.st_mode & 0o077 == 0
        assert used.st_uid == (used_folder / "data").stat().st_uid
    shutil.rmtree(sockets, ignore_errors=True)


def _with_another_tmp(folder: Path, *command: str) -> list[str]:
    """Return a command that runs with an empty /tmp, as in a systemd unit with PrivateTmp, and sees `folder` in it."""
    visible = [argument for path in (folder, _ROOT) for argument in ("--bind", str(path), str(path))]
    return ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/tmp", *visible, *command]


def test_a_server_with_its_socket_in_another_tmp_is_a_clear_error(
    tmp_path: Path, folder: Path, binaries: str | None
) -> None:
    client = [sys.executable, "-c", _CLIENT, str(folder), binaries or ""]
    elsewhere = _with_another_tmp(tmp_path, *client)
    with EmbeddedPostgres(folder, binaries=binaries) as server:  # started here, used from there
        done = subprocess.run(elsewhere, capture_output=True, text=True, check=False, cwd=_ROOT)
        assert "NotConfigured: The embedded Postgres in" in done.stderr
        assert "PrivateTmp: its socket in /tmp/agentstore-" in done.stderr
        assert asyncio.run(_query(server.url, "SELECT 1")) == 1
        sockets = json.loads((folder / "server.json").read_text())["sockets"]
    store = AgentStore(settings=Settings(embedded_dir=str(folder), embedded_binaries=binaries))
    with subprocess.Popen(elsewhere, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "connected\n"
        for left_behind in (False, True):  # by a server that was killed
            if left_behind:
                os.mkdir(sockets, mode=0o700)
            with pytest.raises(NotConfigured, match="PrivateTmp"):
                asyncio.run(store.start())
            with pytest.raises(NotConfigured, match="PrivateTmp"):
                EmbeddedPostgres(folder, binaries=binaries).__enter__()
        os.rmdir(sockets)
        started.communicate("\n")
    assert started.returncode == 0  # its server ran all the time
    with EmbeddedPostgres(folder, binaries=binaries) as server:
        assert asyncio.run(_query(server.url, "SELECT 1")) == 1


async def test_calls_during_a_restart_succeed_or_raise_unavailable_and_succeed_afterwards(
    own_server: EmbeddedPostgres,
) -> None:
    calls = {"succeeded": 0, "unavailable": 0}
    async with AgentStore(own_server.url, settings=Settings(auto_migrate="upgrade")) as store:
        running = True

        async def call(statement: Statement) -> None:
            while running:
                try:
                    await store._database.fetch(statement)
                    calls["succeeded"] += 1
                except Unavailable:
                    calls["unavailable"] += 1
                    await asyncio.sleep(0.01)

        callers = [asyncio.create_task(call(USERS)) for _ in range(20)]
        for _ in range(3):
            await asyncio.sleep(0.3)
            os.kill(_postmaster(own_server.data_dir), signal.SIGINT)
            running_server = own_server.data_dir / "data" / "postmaster.pid"
            async with asyncio.timeout(60):
                while running_server.exists():
                    await asyncio.sleep(0.01)
                while not running_server.exists():  # its supervisor may not have noticed yet that it has exited
                    await own_server.start()
                    await asyncio.sleep(0.02)
        succeeded = calls["succeeded"]
        async with asyncio.timeout(60):
            while calls["succeeded"] == succeeded:
                await asyncio.sleep(0.01)
        running = False
        await asyncio.gather(*callers)


async def _query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@pytest.mark.chaos
def test_a_full_disk_is_a_clear_error(tmp_path: Path, binaries: str | None) -> None:
    """Requires the right to mount: run it as root."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(Unavailable, match="No space left on device"):
            EmbeddedPostgres(small / "data", binaries=binaries).__enter__()
        assert not (small / "data" / "data").exists()
        _wait_until(lambda: not _supervisors(small / "data"))
    finally:
        # The command line of a process is gone before its files are closed.
        _wait_until(lambda: subprocess.run(["umount", str(small)], check=False).returncode == 0)
