"""What google-adk's own session services have stored is imported: the same as if it had been appended here."""

# pyright: reportMissingImports=false
import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore
from tests.adapters.adk.events import all_events, delta_event, text_event
from tests.support.cli import run

pytestmark = pytest.mark.adapters

_ALICE: Any = {"app_name": "weather", "user_id": "alice"}
_OTHERS: Any = ({"app_name": "a/b", "user_id": "alice"}, {"app_name": "weather", "user_id": "bob"})


@pytest.fixture(autouse=True)
def _database(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)


def _urls(kind: str, tmp_path: Path, empty_url: str) -> tuple[str, str]:
    """Return the URL of a database for google-adk, and for agentstore."""
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/other.db", f"sqlite:///{tmp_path}/other.db"
    name = empty_url.partition("?")[0].rpartition("/")[2]
    host = empty_url.partition("host=")[2].partition("&")[0]
    return f"postgresql+asyncpg://postgres@/{name}?host={host}", empty_url


@pytest.fixture(params=["sqlite", "postgresql", "SqliteSessionService"])
async def source(request: pytest.FixtureRequest, tmp_path: Path, empty_url: str) -> AsyncIterator[tuple[Any, str]]:
    """A service of google-adk, and the URL of its database for agentstore."""
    from google.adk.sessions import DatabaseSessionService
    from google.adk.sessions.sqlite_session_service import SqliteSessionService

    if request.param == "SqliteSessionService":
        yield SqliteSessionService(f"{tmp_path}/other.db"), f"sqlite:///{tmp_path}/other.db"
        return
    peer_url, url = _urls(request.param, tmp_path, empty_url)
    async with DatabaseSessionService(peer_url) as service:
        yield service, url


async def _import(url: str, *options: str, code: int = 0) -> Any:
    """Import a database, and return the counts, with what was printed to stderr as "err"."""
    done = await asyncio.to_thread(run, "import", "--from", "adk", url, "--json", *options)
    assert done.code == code, done.err
    return {**json.loads(done.out), "err": done.err}


async def _write(source: Any, app_name: str, user_id: str, id: str = "s 1") -> None:
    session = await source.create_session(
        app_name=app_name, user_id=user_id, session_id=id, state={"app:a": None, "user:u": [1], "s": {"adk": 1}}
    )
    for number, event in enumerate(all_events()):
        if "\x00" in (event.content.parts[0].text or "" if event.content and event.content.parts else ""):
            continue  # Postgres refuses it as JSONB
        event.timestamp = 1_700_000_000.25 + number
        event.actions.state_delta = {"n": number, "user:n": number}
        await source.append_event(session, event)


async def test_sessions_are_read_as_the_source_has_them(source: tuple[Any, str], store: AgentStore) -> None:
    from agentstore.adapters.adk import AgentStoreSessionService

    other, url = source
    for each in (_ALICE, *_OTHERS):
        await _write(other, **each)
    dry = await _import(url, "--dry-run")
    assert (dry["sessions"], dry["new_sessions"], dry["new_values"], dry["left_out"]) == (3, 0, 0, [])
    done = await _import(url)
    assert (done["new_sessions"], done["new_values"], done["notes"], done["left_out"]) == (3, 3 * 2 + 2 + 6, [], [])
    assert (dry["messages"], dry["values"]) == (done["messages"], done["values"]) == (done["new_messages"], 14)
    again = await _import(url)
    assert (again["new_sessions"], again["new_messages"], again["new_values"], again["left_out"]) == (0, 0, 0, [])
    assert (again["messages"], again["values"]) == (done["messages"], done["values"])
    ours: Any = AgentStoreSessionService(store)
    twin = AgentStore.in_memory()
    copied = AgentStoreSessionService(twin)
    for each in (_ALICE, *_OTHERS):
        expected: Any = await other.get_session(**each, session_id="s 1")
        found = await ours.get_session(**each, session_id="s 1")
        assert (found.events, found.state) == (expected.events, expected.state)
        assert len(found.events) > 10
        assert found.last_update_time == expected.last_update_time
        assert await ours.get_user_state(**each) == await other.get_user_state(**each)
        # The stored messages are those that append_event stores.
        session = await copied.create_session(**each, session_id="s 1")
        for event in expected.events:
            await copied.append_event(session, event)
        id = f"s%201/{each['app_name'].replace('/', '%2F')}"
        stored = await store.sessions.get_session(each["user_id"], id)
        same = await twin.sessions.get_session(each["user_id"], id)
        assert stored is not None
        assert same is not None
        assert (stored.app, stored.metadata) == (same.app, same.metadata)
        assert [message.model_dump() for message in stored.messages] == [each.model_dump() for each in same.messages]
        assert await ours.append_event(found, text_event("And now?"))


async def test_what_the_source_has_added_is_imported_and_newer_values_are_kept(
    source: tuple[Any, str], store: AgentStore
) -> None:
    from agentstore.adapters.adk import AgentStoreSessionService

    other, url = source
    ours: Any = AgentStoreSessionService(store)
    first = await other.create_session(**_ALICE, session_id="s", state={"n": 1, "user:n": 1, "app:n": 1})
    assert (await _import(url))["new_values"] == 3
    first = await other.get_session(**_ALICE, session_id="s")
    await other.append_event(first, delta_event({"n": 2, "user:n": 2, "app:n": 2, "new": 1}))
    await other.append_event(first, text_event("More"))
    await other.create_session(**_ALICE, session_id="t", state={"n": 7})
    done = await _import(url)
    assert (done["new_sessions"], done["new_messages"], done["new_values"], done["left_out"]) == (1, 2, 5, [])
    found = await ours.get_session(**_ALICE, session_id="s")
    expected: Any = await other.get_session(**_ALICE, session_id="s")
    assert (found.events, found.state) == (expected.events, expected.state)
    await ours.append_event(found, delta_event({"n": 9, "user:n": 9, "app:n": 9}))
    done = await _import(url, code=5)
    assert done["new_values"] == 0
    assert [each["place"] for each in done["left_out"]] == [
        "session s of alice in weather, state", "state of alice in weather", "state of weather"
    ]  # fmt: skip
    assert "value 'n': the store has another value, which is left unchanged" in done["err"]
    kept = await ours.get_session(**_ALICE, session_id="s")
    assert kept.state == {"n": 9, "new": 1, "user:n": 9, "app:n": 9}
    # A key that the store lacks is added all the same.
    with_key = await other.get_session(**_ALICE, session_id="t")
    await other.append_event(with_key, delta_event({"user:other": 1}, timestamp=first.last_update_time))
    assert (await _import(url, code=5))["new_values"] == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_older_layout_is_read_without_its_pickles(
    tmp_path: Path, empty_url: str, store: AgentStore, kind: str
) -> None:
    import google.adk.sessions.schemas.v0 as v0
    from google.adk.events import EventActions
    from google.adk.sessions import DatabaseSessionService
    from sqlalchemy.ext.asyncio import create_async_engine

    from agentstore.adapters.adk import AgentStoreSessionService

    peer_url, url = _urls(kind, tmp_path, empty_url)
    engine = create_async_engine(peer_url)
    async with engine.begin() as connection:
        await connection.run_sync(v0.Base.metadata.create_all)
    await engine.dispose()
    async with DatabaseSessionService(peer_url) as other:
        await _write(other, **_ALICE)
        expected: Any = await other.get_session(**_ALICE, session_id="s 1")
    assert expected.events[0].actions.state_delta == {"n": 0, "user:n": 0}
    done = await _import(url)
    count = len(expected.events)
    assert (done["new_messages"], done["changed"]) == (count, count)
    assert "event every: the actions are a pickle, which is not read" in json.dumps(done["notes"])
    found: Any = await AgentStoreSessionService(store).get_session(**_ALICE, session_id="s 1")
    assert found.state == expected.state
    for each in expected.events:  # the older layout returns an empty set for None, too
        each.actions, each.long_running_tool_ids = EventActions(), each.long_running_tool_ids or None
    assert found.events == expected.events
    assert (await _import(url))["new_messages"] == 0


async def test_invalid_rows_are_reported_and_the_rest_is_stored(tmp_path: Path, store: AgentStore) -> None:
    from google.adk.sessions import DatabaseSessionService

    async with DatabaseSessionService(f"sqlite+aiosqlite:///{tmp_path}/other.db") as other:
        session = await other.create_session(**_ALICE, session_id="s", state={"user:u": 1, "": 1, "k": 1})
        for number in range(4):
            await other.append_event(session, text_event(f"text {number}", id=f"e{number}", timestamp=float(number)))
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("UPDATE events SET event_data = '[' WHERE id = 'e1'")
        database.execute("""UPDATE events SET event_data = '{"content": {"parts": 1}}' WHERE id = 'e2'""")
        database.execute("UPDATE user_states SET state = '[]'")
        database.execute("INSERT INTO events SELECT id, app_name, user_id, 'gone', '', timestamp, '{}' FROM events")
    found = await _import(f"sqlite:///{tmp_path}/other.db", code=5)
    assert (found["input_messages"], found["stored_messages"], found["skipped_messages"]) == (8, 2, 6)
    assert {each["place"] for each in found["left_out"]} == {
        "session s of alice in weather", "state of alice in weather", "session gone of alice in weather"
    }  # fmt: skip
    for reason in ("event e1: the event: not JSON", "event e2: content.parts: Input should be", "have no session"):
        assert reason in found["err"]
    values = await store.states.get_values("alice", "s/weather", app="weather")
    assert (values.session["k"], values.user) == (1, {})


async def test_sessions_without_events_and_odd_ids_and_values_are_those_of_the_service(
    source: tuple[Any, str], store: AgentStore
) -> None:
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.sessions.sqlite_session_service import SqliteSessionService

    from agentstore.adapters.adk import AgentStoreSessionService

    other, url = source
    has_json_numbers = url.startswith("postgresql") or isinstance(other, SqliteSessionService)
    odd = 1.0 if has_json_numbers else float("nan")
    for id in ("empty", " a/b % "):
        await other.create_session(**_ALICE, session_id=id, state={"odd": odd, "none": None, "adk": {"adk": 1}})
    assert (await _import(url))["new_values"] == 6
    ours: Any = AgentStoreSessionService(store)
    for id in ("empty", " a/b % "):
        found = await ours.get_session(**_ALICE, session_id=id)
        assert found.state == {"odd": 1.0 if has_json_numbers else None, "none": None, "adk": {"adk": 1}}
        with pytest.raises(AlreadyExistsError):
            await ours.create_session(**_ALICE, session_id=id)
    assert [each.id for each in (await ours.list_sessions(**_ALICE)).sessions] == ["empty", "a/b %"]
