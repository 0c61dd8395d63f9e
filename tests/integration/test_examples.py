"""The programs in examples/ run, twice on the same database."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from agentstore import AgentStore
from tests.support import terminal
from tests.support.documents import ROOT, run_process, run_pytest
from tests.support.servers import Server

pytestmark = pytest.mark.slow

_EXAMPLES = ROOT / "examples"


def test_each_is_short() -> None:
    for path in _EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60 or path.name == "demo.py", path.name


def test_the_animated_terminal_shows_what_the_demo_prints() -> None:
    lines = terminal.record()
    for theme in terminal.THEMES:
        shown = terminal.text_of((terminal.FOLDER / f"demo-{theme}.svg").read_text(encoding="utf-8"))
        printed = terminal.text_of(terminal.draw(lines, theme))
        assert terminal.without_figures(shown) == terminal.without_figures(printed), "run make demo-pictures"


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    return {"AGENTSTORE_DATABASE_URL": database_url}


def _load(name: str) -> ModuleType:
    """Import an example, with a store of its own."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", _EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks names up in it
    spec.loader.exec_module(module)
    return module


async def test_a_chat_api_remembers_other_chats_and_stores_a_repeated_request_once(
    environment: dict[str, str], store: AgentStore
) -> None:
    for turn in range(2):
        example = _load("chat_api")
        transport = httpx.ASGITransport(example.app)
        async with (
            example.lifespan(example.app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            for id, chat, said in (("q1", "monday", "I do not eat peppers."), ("q2", "tuesday", "Any pepper in this?")):
                answer = await client.post(f"/users/alice/chats/{chat}", json={"id": id, "text": said})
                assert (answer.status_code, answer.json()) == (200, f"You said: {said}"), turn
            chats = (await client.get("/users/alice/chats")).json()
            assert {each["id"] for each in chats["items"]} == {"monday", "tuesday"}
            stored = (await client.get("/users/alice/chats/monday")).json()
            assert [each["id"] for each in stored] == ["q1", "q1-answer"]
            assert (await client.get("/users/alice/chats/unknown")).json() is None
    assert len(await store.memory.list_memory("alice")) == 4


async def test_the_tests_of_the_chat_api_pass(server: Server, tmp_path: Path) -> None:
    for name in ("chat_api.py", "test_chat_api.py"):
        shutil.copy(_EXAMPLES / name, tmp_path)
    for _ in range(2):
        assert "2 passed" in await run_pytest(tmp_path / "test_chat_api.py", server)


async def test_a_terminal_chat_continues(environment: dict[str, str], tmp_path: Path) -> None:
    program = str(_EXAMPLES / "terminal_chat.py")
    first = await run_process(
        sys.executable, program, "alice", environment=environment, folder=tmp_path, stdin="你好\n"
    )
    assert first.endswith("You said: 你好\n")
    second = await run_process(
        sys.executable, program, "alice", environment=environment, folder=tmp_path, stdin="Bye\n\n"
    )
    assert [line.partition(" ")[2] for line in second.splitlines()[:2]] == ["user: 你好", "assistant: You said: 你好"]
    assert second.endswith("You said: Bye\n")


async def test_a_nightly_job_backs_up_and_prunes(
    environment: dict[str, str], store: AgentStore, tmp_path: Path
) -> None:
    await store.sessions.append("alice", "s", {"role": "user", "content": "Hello"})
    program = (sys.executable, str(_EXAMPLES / "nightly.py"), str(tmp_path))
    first = await run_process(*program, environment=environment, folder=tmp_path)
    assert "bytes\ndeleted: Pruned(sessions=0" in first
    assert "complete already" in await run_process(*program, environment=environment, folder=tmp_path)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.glob("*.jsonl")] == [0o600]  # noqa: ASYNC240


def test_a_flask_view_stores_finds_and_erases_notes(environment: dict[str, str]) -> None:
    example = _load("flask_view")
    client = example.app.test_client()
    with example.store:
        for _ in range(2):
            for _ in range(2):
                note = {"id": "n1", "text": "我不吃辣"}
                assert client.post("/notes/alice", json=note).json == {"number": 1}
            assert client.get("/notes/alice?q=辣的可以吗").json == [note]
            assert [each["id"] for each in client.get("/notes/alice/all").json] == ["n1"]
            refused = client.post("/notes/alice", json={"id": "n2", "text": 7})
            assert refused.status_code == 400, refused.json
            assert client.delete("/notes/alice").json == {"deleted": True}
            assert client.get("/notes/alice/all").status_code == 404
