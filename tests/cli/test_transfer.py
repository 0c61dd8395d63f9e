"""``agentstore export``, and ``agentstore import`` of its files."""

import asyncio
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from agentstore import AgentStore
from agentstore.testing import text
from tests.support.cli import run


@pytest.fixture(autouse=True)
def _database(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)

    async def main() -> None:
        async with AgentStore() as store:
            for user in ("alice", "bob"):
                session = await store.sessions.create_session(user, "s")
                await store.sessions.append_message(session, [text("apples"), text("红色的苹果")])
                await store.memory.add_memory(user, session.messages, session.id)
                await store.states.save_state(user, {"plan": []}, session.id)

    asyncio.run(main())


def test_export_is_restored_in_another_database(tmp_path: Path, other_url: str) -> None:
    file = tmp_path / "all.jsonl"
    done = run("export", str(file), "--json").json()
    assert (done["users"], done["rows"]["messages"], done["rows"]["state_rounds"]) == (2, 4, 2)
    assert file.stat().st_mode & 0o077 == 0  # readable by the owner only
    assert run("export", str(file), "--json").json() == {"finished_before": True}
    assert "--force" in run("export", str(file)).err
    assert run("export", str(file), "--force").code == 0
    dry = run("import", str(file), "--dry-run", "--url", other_url)
    assert dry.out.startswith("dry run, nothing was stored; the file has: 2 users, ")
    assert run("users", "list", "--url", other_url, "--json").json()["users"] == []
    printed = run("import", str(file), "--url", other_url).out
    assert printed.startswith("new: 2 users, ")
    again = run("import", str(file), "--url", other_url, "--json").json()
    assert (sum(again["rows"].values()), again["left"]) == (0, [])
    for command in (("sessions", "show", "bob", "s"), ("memory", "list", "bob"), ("states", "list", "alice", "s")):
        assert run(*command, "--url", other_url, "--json").json() == run(*command, "--json").json()
    assert "苹果" in run("memory", "search", "bob", "蘋果", "--url", other_url).out


def test_export_to_stdout_is_imported_from_stdin(other_url: str) -> None:
    exported = run("export", "-", "--user", "bob")
    assert "2 messages" in exported.err
    lines = [json.loads(each) for each in exported.out.splitlines()]
    assert (lines[0]["users"], list(lines[-1])) == (["bob"], ["finished"])
    assert run("import", "-", "--url", other_url, stdin=exported.out.encode()).code == 0
    assert [each["id"] for each in run("users", "list", "--url", other_url, "--json").json()["users"]] == ["bob"]


def test_export_to_a_named_pipe_is_imported_from_it(tmp_path: Path, other_url: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "agentstore", "export", str(pipe)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, stderr=subprocess.DEVNULL) as process:
        assert run("import", str(pipe), "--url", other_url).out.startswith("new: 2 users, ")
    assert process.returncode == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert run("export", os.devnull).code == 0
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_forced_export_replaces_a_file_only_when_complete(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    file.touch(0o644)
    assert run("export", str(file)).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("previous content")
    file.chmod(0o644)
    for wrong in (("--user", "nobody"), ("--url", "postgresql://127.0.0.1:1/x")):
        assert run("export", str(file), "--force", *wrong).code == 1
        assert file.read_text() == "previous content"
    assert run("export", str(file), "--force").code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["all.jsonl"]
    file.write_bytes(file.read_bytes()[:-50])
    with file.open("r+b") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        refused = run("export", str(file))
    assert (refused.code, "another export is writing to this file" in refused.err) == (2, True)
    assert run("export", str(file)).code == 0


def test_database_url_without_from_is_refused_and_not_echoed() -> None:
    done = run("import", "postgresql://alice:secret@db.example.com/app")
    assert (done.code, "--from" in done.err, "secret" in done.err) == (2, True, False)


def test_differing_data_is_reported_and_left_unchanged(tmp_path: Path) -> None:
    file = str(tmp_path / "all.jsonl")
    run("export", file)
    run("sessions", "rewind", "bob", "s", "--first", "1", "--no-keep", "-y")
    done = run("import", file)
    assert done.code == 5
    assert "user 'bob', session 's': differs from the file, left unchanged" in done.err
    assert run("import", file, "--json").code == 5


def test_invalid_export_files_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    run("export", str(file))
    data = file.read_bytes()
    for damaged, reason in (
        (data[:-20], "truncated"),
        (data.replace(b"apples", b"spplea", 1), "changed before this line"),
        (data.replace(b'"version":1', b'"version":9', 1), "version 9"),
    ):
        file.write_bytes(damaged)
        done = run("import", str(file))
        assert (done.code, str(file) in done.err, reason in done.err) == (2, True, True), done.err
    file.write_text("notes\n")
    assert "--force" in run("export", str(file)).err
    assert file.read_text() == "notes\n"
    assert run("export", str(file), "--user", "nobody", "--force").code == 1
    (tmp_path / "chat.jsonl").write_text('{"role": "user", "content": "hi"}\n')
    file.write_bytes(data)
    assert run("import", str(file), str(tmp_path / "chat.jsonl")).code == 2


@pytest.mark.slow
def test_killed_export_and_import_resume(tmp_path: Path, direct_url: str, other_url: str) -> None:
    """Each is killed twice with SIGKILL before it completes; the copy equals the original."""
    asyncio.run(_fill(direct_url))
    file = tmp_path / "all.jsonl"

    def written() -> int:
        return file.stat().st_size if file.exists() else 0

    def stored() -> int:
        return asyncio.run(_count(other_url))

    for command, progress, step in (
        (["export", str(file)], written, 100_000),
        (["import", str(file), "--url", other_url], stored, 400),
    ):
        for kill in (1, 2, None):
            process = subprocess.Popen(
                [sys.executable, "-m", "agentstore", *command],
                env={**os.environ, "PYTHONPATH": os.getcwd()},
                stderr=subprocess.DEVNULL,
            )
            while kill is not None and process.poll() is None and progress() < kill * step:
                time.sleep(0.002)
            if kill is not None:
                process.send_signal(signal.SIGKILL)
            assert process.wait() == (0 if kill is None else -signal.SIGKILL)
    original, copy = (asyncio.run(_messages(url)) for url in (direct_url, other_url))
    assert len(original) > 20_000
    assert original == copy


async def _count(url: str) -> int:
    connection = await asyncpg.connect(url)
    (row,) = await connection.fetch("SELECT count(*) FROM agentstore.users")
    await connection.close()
    return int(row[0])


async def _fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO agentstore.users (id) SELECT 'u' || n FROM generate_series(1, 1200) n;"
        "INSERT INTO agentstore.sessions (user_id, id, next_seq)"
        " SELECT 'u' || n, 's', 21 FROM generate_series(1, 1200) n;"
        "INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload)"
        " SELECT 'u' || n, 's', m, 'm' || m, json_build_object('id', 'm' || m, 'role', 'user')"
        " FROM generate_series(1, 1200) n, generate_series(1, 20) m"
    )
    await connection.close()


async def _messages(url: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    rows: list[asyncpg.Record] = await connection.fetch(
        "SELECT user_id, session_id, seq, id, payload::text, created_at FROM agentstore.messages ORDER BY 1, 2, 3"
    )
    await connection.close()
    return rows


def test_an_export_is_restored_under_its_own_ids_only(tmp_path: Path, other_url: str) -> None:
    file = tmp_path / "all.jsonl"
    assert run("export", str(file)).code == 0
    for option in ("--user", "--session"):
        refused = run("import", str(file), option, "carol", "--url", other_url)
        assert refused.code == 2
        assert option in refused.err
        assert "--only-user" in refused.err
    assert run("users", "list", "--url", other_url, "--json").json()["users"] == []


def test_files_from_outside_are_limited_to_users(tmp_path: Path, other_url: str) -> None:
    file = tmp_path / "all.jsonl"
    assert run("export", str(file)).code == 0
    refused = run("import", str(file), "--only-user", "alice", "--url", other_url)
    assert refused.code == 2
    assert f"{file}: line " in refused.err
    assert "'bob'" in refused.err
    assert run("users", "list", "--url", other_url, "--json").json()["users"] == []
    assert run("import", str(file), "--only-user", "alice", "--only-user", "bob", "--url", other_url).code == 0
    sessions = tmp_path / "sessions.jsonl"
    lines = [run("sessions", "export", user).out.strip() for user in ("alice", "bob")]
    sessions.write_text("\n".join(lines).replace('"id": "s"', '"id": "t"'))
    done = run("import", str(sessions), "--only-user", "bob", "--url", other_url)
    assert done.code == 5
    assert "belongs to user 'alice'" in done.err
    found = {user: run("sessions", "list", user, "--url", other_url, "--json").json() for user in ("alice", "bob")}
    assert [each["id"] for each in found["alice"]["sessions"]] == ["s"]
    assert {each["id"] for each in found["bob"]["sessions"]} == {"s", "t"}
    assert run("import", "redis://127.0.0.1:1", "--only-user", "bob").code == 2
