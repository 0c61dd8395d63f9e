"""Data that other packages wrote is imported completely, and once."""

import asyncio
import json
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore, Message, TextContent
from tests.support.cli import run
from tests.support.servers import Server

pytestmark = pytest.mark.peers
_HERE = Path(__file__).parent


@pytest.fixture
def write(request: pytest.FixtureRequest) -> Callable[[str, str, str], list[Any]]:
    """Run one of the scripts in this folder in a peer's environment; it prints what it written as JSON Lines."""
    folder = request.config.getoption("--peers")
    assert folder is not None, "--peers=DIR is missing"

    def write(peer: str, script: str, url: str) -> list[Any]:
        command = [str(Path(folder).resolve() / peer / "bin" / "python"), str(_HERE / script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return write


@pytest.fixture(autouse=True)
def _database(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    server = shutil.which("redis-server")
    assert server is not None, "redis-server is needed"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "Ready to accept connections" not in process.stdout.readline():
        assert process.poll() is None
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def other_url(request: pytest.FixtureRequest, tmp_path: Path, server: Server, empty_url: str) -> tuple[str, str]:
    """A database for a peer to write: its URL for the peer, and its URL for agentstore."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/other.db", f"sqlite:///{tmp_path}/other.db"
    name = empty_url.partition("?")[0].rpartition("/")[2]
    host = empty_url.partition("host=")[2].partition("&")[0]
    return f"postgresql+asyncpg://postgres@/{name}?host={host}", empty_url


def _read(kind: str, call: str, *arguments: Any) -> Any:
    async def main() -> Any:
        async with AgentStore() as store:
            return await getattr(getattr(store, kind), call)(*arguments)

    return asyncio.run(main())


def _summary(message: Message) -> tuple[str, str, str]:
    texts = [part.text for part in message.content or () if isinstance(part, TextContent)]
    return str(message.role), str(message.type), "\n".join(text or "" for text in texts)


def test_openai_agents_sessions_are_imported_completely_and_once(
    write: Callable[[str, str, str], list[Any]], other_url: tuple[str, str]
) -> None:
    peer_url, url = other_url
    written = write("openai-agents", "write_openai_agents.py", peer_url)
    command = ("import", "--from", "openai-agents", url, "--user", "alice", "--json")
    dry = run(*command, "--dry-run").json()
    assert (dry["sessions"], dry["messages"], dry["new_sessions"]) == (3, 21, 0)
    assert run(*command).json()["new_messages"] == 21
    assert run(*command).json()["new_messages"] == 0
    for each in written:
        session = _read("sessions", "get_session", "alice", each["session"])
        assert session is not None
        assert session.created_at.utcoffset().total_seconds() == 0
        assert len(session.messages) == len(each["items"]) == 7
        assert [_summary(message) for message in session.messages] == [
            ("user", "message", "Any rain in 杭州?"), ("assistant", "function_call", ""),
            ("tool", "function_call_output", ""), ("assistant", "reasoning", "Little rain."),
            ("assistant", "message", "A little, 3 mm."), ("user", "message", "and this?"),
            ("user", "message", f"the end of {each['session']}"),
        ]  # fmt: skip
        call, output = session.messages[1].content[0].data, session.messages[2].content[0].data
        assert call == {"call_id": "c1", "name": "weather", "arguments": '{"city": "杭州"}'}
        assert output == {"call_id": "c1", "output": "3 mm"}
        assert session.messages[5].content[1].image_url == "data:image/png;base64,AA=="
    write("openai-agents", "write_openai_agents.py", peer_url)  # appends to each session
    if url.startswith("sqlite"):  # an invalid item is skipped, its session is not
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            database.execute(
                "UPDATE agent_messages SET message_data = '[' WHERE id = (SELECT max(id) FROM agent_messages)"
            )
        done = run(*command)
        assert (done.code, json.loads(done.out)["new_messages"]) == (5, 20)
        assert ": item 48: the item: not JSON" in done.err
    else:
        assert run(*command).json()["new_messages"] == 21


def test_agentscope_2_sessions_are_imported_with_their_states(
    write: Callable[[str, str, str], list[Any]], other_url: tuple[str, str]
) -> None:
    peer_url, url = other_url
    written = write("agentscope-2", "write_agentscope_2.py", peer_url)
    command = ("import", "--from", "agentscope-2", url, "--json")
    done = run(*command).json()
    assert (done["new_sessions"], done["new_messages"], done["new_states"]) == (2, 12, 2)
    again = run(*command).json()
    assert (again["new_sessions"], again["new_messages"], again["new_states"]) == (0, 0, 0)
    for each in written:
        user, id = each["user"], each["session"]
        session = _read("sessions", "get_session", user, id)
        assert session is not None
        assert session.title == f"Weather for {user}"
        assert session.metadata["agent_id"] == "agent"
        question, answer, picture = each["messages"]
        ids = [question["id"], answer["id"], *(f"{answer['id']}/{number}" for number in (1, 2, 3)), picture["id"]]
        assert [message.id for message in session.messages] == ids
        assert [_summary(message) for message in session.messages] == [
            ("user", "message", "Any rain in 杭州?"), ("assistant", "reasoning", "Ask the tool."),
            ("assistant", "function_call", ""), ("tool", "function_call_output", ""),
            ("assistant", "message", "A little:\n3 mm."), ("user", "message", "and this?"),
        ]  # fmt: skip
        call = session.messages[2].content[0].data
        assert (call["call_id"], call["name"], call["arguments"]) == ("c1", "weather", '{"city": "杭州"}')
        assert "3 mm" in session.messages[3].content[0].data["output"]
        assert session.messages[5].content[1].image_url == "data:image/png;base64,AA=="
        assert session.messages[1].metadata["mood"] == "calm"
        assert session.messages[1].metadata["agentscope"]["name"] == "Friday"
        assert _read("states", "export_state", user, id) == each["state"]


def test_redis_sessions_memories_and_states_are_imported(
    write: Callable[[str, str, str], list[Any]], redis_url: str
) -> None:
    (written,) = write("agentscope-runtime", "write_redis_services.py", redis_url)
    done = run("import", redis_url, "--json").json()
    assert (done["sessions"], done["new_messages"], done["memories"], done["new_states"]) == (3, 6, 9, 36)
    assert done["left_out"] == []
    again = run("import", redis_url, "--json").json()
    assert (again["new_sessions"], again["new_messages"], again["new_states"]) == (0, 0, 0)
    for each in written:
        user, id = each["user"], each["session"]
        session = _read("sessions", "get_session", user, id)
        assert session is not None
        assert session.messages == [Message.model_validate(message) for message in each["messages"]]
        assert _read("states", "export_state", user, id) == each["state"]
        rounds = _read("states", "list_states", user, id)
        assert [each.round_id for each in rounds] == list(range(12, 0, -1))
    for user in ("alice", "a:b"):
        memories = _read("memory", "list_memory", user, {"page_size": 100})
        expected = [each["memories"] for each in written if each["user"] == user][-1]
        assert sorted(message.id for message in memories) == sorted(message["id"] for message in expected)
    assert len(_read("memory", "search", "alice", "杭州")) > 0


def test_invalid_redis_values_are_skipped_and_reported(redis_url: str) -> None:
    import redis

    client = redis.from_url(redis_url)
    client.set("session:alice:s", '{"id": "s", "user_id": "alice", "messages": [{"role": "user"}]}')
    client.set("session:alice:t", '{"id": "t", "user_id": "alice", "messages": [{"role": "robot"}]}')
    client.set("session:alice:u", '{"id": "other", "user_id": "alice"}')
    client.set("session:alice:v", "nonsense")
    client.lpush("session:alice:w", "of something else")
    client.hset("user_state:a:b:c", "1", "{}")
    client.hset("user_state:alice:s", "x", "{}")
    client.hset("user_memory:alice", "s", "[1]")
    client.close()
    client.hset("user_state:alice:deep", "1", "[" * 100_000)
    client.set("session:alice:deep", '{"a":' * 100_000)
    client.hset("user_memory:alice", "deep", "[" * 100_000)
    done = run("import", redis_url)
    assert done.code == 5
    for place in ("session:alice:t", "session:alice:u", "session:alice:v", "session:alice:w", "user_state:a:b:c 1",
                  "user_state:alice:s x", "user_memory:alice s", "session:alice:deep",
                  "user_state:alice:deep 1", "user_memory:alice deep"):  # fmt: skip
        assert f"redis: {place}: " in done.err, done.err
    assert "New: 1 session, 1 message" in done.out


def test_invalid_sources_are_reported_without_their_password(tmp_path: Path, empty_url: str) -> None:
    for source, reason in (
        ("sqlite:///nowhere.db", "there is no file"),
        ("mysql://x:secret@h/d", "not supported as a source"),
        ("nonsense", "not a database URL"),
        ("postgresql://x:secret@h:port/d", "port"),
        ("sqlite://x:secret@h:port/d", "not a valid URL of a SQLite file"),
        (empty_url, "lacks the expected tables"),
        ("postgresql://x:secret@127.0.0.1:1/d", "could not be reached"),
    ):
        done = run("import", "--from", "openai-agents", source)
        assert done.code == (2 if source == empty_url else 1)
        assert reason in done.err, done.err
        assert "secret" not in done.err
    (tmp_path / "empty.db").write_bytes(b"")
    assert "no such table" in run("import", "--from", "agentscope-2", f"sqlite:///{tmp_path}/empty.db").err
    for source in ("redis://:secret@127.0.0.1:1/0", "redis://:sec[ret@127.0.0.1:1/0", "redis://:secret@127.0.0.1:x/0"):
        refused = run("import", source)
        assert (refused.code, "sec" in refused.err.replace("seconds", "")) == (1, False)
