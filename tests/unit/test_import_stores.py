"""Reading other stores, in the layouts of their packages; ``make peers`` reads data that the packages wrote."""

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from agentstore import Message
from agentstore.errors import InvalidContent, NotConfigured
from agentstore.importing import Note, adk, agentscope2, openai_agents, redis_services
from agentstore.importing.databases import OtherDatabase, parse_utc
from agentstore.importing.notes import Kind
from agentstore.importing.records import MemoriesRecord, Reader, SessionRecord, StateRecord, ValuesRecord
from tests.support.cli import run
from tests.support.key_values import KeyValues


async def _records(reader: Reader) -> list[Any]:
    return [record async for record in reader]


def _write(file: Path, *statements: str) -> str:
    with sqlite3.connect(file) as database:
        for statement in statements:
            database.execute(statement)
    return f"sqlite:///{file}"


async def test_agentscope_2_messages_are_split_by_blocks(tmp_path: Path) -> None:
    content = [
        {"type": "thinking", "thinking": "Ask."},
        {"type": "tool_call", "id": "c1", "name": "rain", "input": "{}"},
        {"type": "tool_result", "id": "c1", "output": [{"type": "text", "text": "3 mm"}]},
        {"type": "text", "text": "A little:"},
        {"type": "data", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}, "name": "sky.png"},
    ]
    said = {"id": "m", "role": "assistant", "name": "Friday", "created_at": "2024-01-02T03:04:05", "content": content}
    message = {**said, "metadata": {"mood": "calm"}}
    session = {"config": {"name": "Rain"}, "state": {"summary": "rain"}}
    url = _write(
        tmp_path / "agents.db",
        "CREATE TABLE sessions (id, user_id, agent_id, created_at, updated_at, payload)",
        "CREATE TABLE messages (session_id, msg_id, created_at, payload)",
        f"INSERT INTO sessions VALUES ('s', 'alice', 'a', '2024-01-02 03:04:05', NULL, '{json.dumps(session)}')",
        "INSERT INTO sessions VALUES ('t', 'alice', 'a', NULL, NULL, '[')",
        f"INSERT INTO messages VALUES ('s', 'm', '2024-01-02', '{json.dumps(message)}')",
        f"INSERT INTO messages VALUES ('t', 'n', '2024-01-02', '{json.dumps(message)}'), ('t', 'o', NULL, NULL)",
    )
    async with OtherDatabase(url) as database:
        found, state, other = await _records(agentscope2.read(database))
    assert isinstance(found, SessionRecord)
    assert (found.translated.session.title, found.translated.session.metadata["agent_id"]) == ("Rain", "a")
    assert found.translated.session.created_at == parse_utc("2024-01-02T03:04:05+00:00")
    assert [(each.id, each.type, each.role) for each in found.translated.session.messages] == [
        ("m", "reasoning", "assistant"),
        ("m/1", "function_call", "assistant"),
        ("m/2", "function_call_output", "tool"),
        ("m/3", "message", "assistant"),
    ]
    assert [part.type for part in found.translated.session.messages[3].content or ()] == ["text", "image"]
    assert found.translated.session.messages[0].metadata == {
        "mood": "calm",
        "agentscope": {"name": "Friday", "created_at": "2024-01-02T03:04:05"},
        "timestamp": "2024-01-02T03:04:05",
    }
    for each in found.translated.session.messages[1:]:
        assert each.metadata == {"timestamp": "2024-01-02T03:04:05"}
    assert state == StateRecord(
        "session s, state", "alice", "s", None, {"summary": "rain"}, {"agent_id": "a"}, "agentscope-2"
    )
    assert isinstance(other, SessionRecord)
    assert [each.id for each in other.translated.session.messages] == ["n", "n/1", "n/2", "n/3"]
    assert [(each.place, each.messages) for each in other.translated.notes] == [("payload", 0), ("message o", 1)]
    assert other.translated.notes[0].reason.startswith("the session: not JSON")


async def test_openai_agents_items_become_messages(tmp_path: Path) -> None:
    item = json.dumps({"role": "user", "content": "Any rain?"})
    url = _write(
        tmp_path / "agents.db",
        "CREATE TABLE agent_sessions (session_id, created_at, updated_at)",
        "CREATE TABLE agent_messages (id, session_id, message_data, created_at)",
        "INSERT INTO agent_sessions VALUES ('s', '2024-01-02', '2024-01-02')",
        f"INSERT INTO agent_messages VALUES (1, 's', '{item}', '2024-01-02'), (2, 's', '[', '2024-01-02')",
    )
    async with OtherDatabase(url) as database:
        (found,) = await _records(openai_agents.read(database, "alice"))
    assert found.place == "session s"
    assert [(each.place, each.messages) for each in found.translated.notes] == [("item 2", 1)]
    assert (found.translated.session.user_id, found.translated.session.id) == ("alice", "s")
    (message,) = found.translated.session.messages
    assert message.id == "msg_7f8e87be-10be-546e-81fe-ac5fd7fdf070"  # another id would import everything again
    assert message.metadata == {"timestamp": "2024-01-02T00:00:00+00:00"}


def _message(fields: Any) -> Message:
    """Return a message with the fields of an event as its metadata; the tests of the adapter have the real ones."""
    if "author" not in fields:
        raise InvalidContent("author: Field required")
    return Message.model_validate({"id": fields["id"], "role": "user", "metadata": {"event": fields}})


_CONVERSION = adk.Conversion(lambda app, id: (f"{id}/{app}", {"id": id}), _message, dict)
_STATES = (
    "CREATE TABLE app_states (app_name, state, update_time)",
    "CREATE TABLE user_states (app_name, user_id, state, update_time)",
    "CREATE TABLE sessions (app_name, user_id, id, state, create_time, update_time)",
    "INSERT INTO app_states VALUES ('weather', '{\"a\": 1}', '2024-01-02'), ('broken', '[', '2024-01-02')",
    "INSERT INTO user_states VALUES ('weather', 'alice', '{\"u\": null}', '2024-01-02'), ('weather', NULL, '{}', NULL)",
    "INSERT INTO sessions VALUES ('weather', 'alice', 's', '{\"k\": 1}', '2024-01-02 03:04:05.000006', 1704164645.5)",
)


async def test_adk_events_are_read_in_the_layout_with_json(tmp_path: Path) -> None:
    rows = {"e1": {"author": "user", "timestamp": 7.25}, "e2": {"author": "user"}, "e3": {}}
    url = _write(
        tmp_path / "adk.db",
        *_STATES,
        "CREATE TABLE events (id, app_name, user_id, session_id, invocation_id, timestamp, event_data)",
        *(
            f"INSERT INTO events VALUES ('{id}', 'weather', 'alice', 's', 'i', '2024-01-02', '{json.dumps(data)}')"
            for id, data in rows.items()
        ),
        "INSERT INTO events VALUES ('e0', 'weather', 'alice', 's', 'i', '2024-01-02', '[')",
        "INSERT INTO events VALUES ('e4', 'weather', 'alice', 's', 'i', NULL, '{\"author\": \"user\"}')",
        "INSERT INTO events VALUES ('x', 'weather', 'bob', 's', 'i', '2024-01-02', '{}')",
    )
    async with OtherDatabase(url) as database:
        session, values, no_user, user, broken, app, lost = await _records(adk.read(database, _CONVERSION))
    place = "session s of alice in weather"
    assert isinstance(session, SessionRecord)
    found = session.translated.session
    assert (found.user_id, found.id, found.app, session.place) == ("alice", "s/weather", "weather", place)
    assert found.metadata == {"id": "s"}
    assert found.created_at == parse_utc("2024-01-02T03:04:05.000006+00:00")
    assert found.updated_at == parse_utc("2024-01-02T03:04:05.500000+00:00")
    assert [each.metadata for each in found.messages] == [
        {"event": {"author": "user", "timestamp": 7.25, "id": "e1", "invocation_id": "i"}},
        {"event": {"author": "user", "timestamp": 1704153600.0, "id": "e2", "invocation_id": "i"}},
    ]
    assert session.translated.messages == 5
    reasons = {each.place: (each.reason, each.messages) for each in session.translated.notes}
    assert reasons.pop("event e0")[0].startswith("the event: not JSON")
    assert reasons == {"event e3": ("author: Field required", 1), "event e4": ("the event has no time", 1)}
    assert values == ValuesRecord(f"{place}, state", "weather", "alice", "s/weather", {"k": 1}, found.updated_at)
    assert user == ValuesRecord("state of alice in weather", "weather", "alice", None, {"u": None}, found.updated_at)
    assert app == ValuesRecord("state of weather", "weather", None, None, {"a": 1}, found.updated_at)
    assert (no_user.place, broken.place) == ("state of None in weather", "state of broken")
    assert lost == Note("session s of bob in weather", "its events have no session", messages=1)


@pytest.mark.parametrize("has_all_columns", [True, False])
async def test_adk_events_are_read_in_the_layout_with_pickles(tmp_path: Path, has_all_columns: bool) -> None:
    columns = {
        "id": "'e'", "app_name": "'weather'", "user_id": "'alice'", "session_id": "'s'", "invocation_id": "'i'",
        "timestamp": "'2024-01-02 00:00:00.5'", "author": "'user'", "actions": "x'8004'",
        "content": """'{"parts": []}'""", "turn_complete": "1", "error_code": "NULL",
    }  # fmt: skip
    if has_all_columns:  # releases have added them
        columns |= {
            "long_running_tool_ids_json": """'["c1"]'""", "usage_metadata": "'null'", "branch": "NULL",
            "citation_metadata": """'{"citations": []}'""",
        }  # fmt: skip
    rows = [columns, columns | {"id": "'f'", "content": "'['"}, columns | {"id": "'g'", "actions": "NULL"}]
    url = _write(
        tmp_path / "adk.db",
        *_STATES,
        f"CREATE TABLE events ({', '.join(columns)})",
        *(f"INSERT INTO events VALUES ({', '.join(row.values())})" for row in rows),
    )
    async with OtherDatabase(url) as database:
        session, *_ = await _records(adk.read(database, _CONVERSION))
    message, without_actions = session.translated.session.messages
    fields = {
        "author": "user", "turn_complete": 1, "content": {"parts": []}, "timestamp": 1704153600.5, "id": "e",
        "invocation_id": "i",
    }  # fmt: skip
    if has_all_columns:
        fields |= {"long_running_tool_ids": ["c1"], "citation_metadata": {"citations": []}}
    assert (message.metadata or {})["event"] == fields
    assert without_actions.id == "g"
    pickled, broken = session.translated.notes
    assert (pickled.place, pickled.kind, pickled.messages) == ("event e", Kind.CHANGED, 0)
    assert "the actions are a pickle, which is not read" in pickled.reason
    assert (broken.place, broken.messages) == ("event f", 1)


async def test_adk_sessions_are_read_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adk, "_PAGE", 2)
    ids = [(app, user, id) for app in ("a", "b") for user in ("x", "y") for id in ("1", "2", "3")]
    url = _write(
        tmp_path / "adk.db",
        *_STATES[:3],
        "CREATE TABLE events (id, app_name, user_id, session_id, invocation_id, timestamp, event_data)",
        *(f"INSERT INTO sessions VALUES ('{app}', '{user}', '{id}', '{{}}', NULL, NULL)" for app, user, id in ids),
    )
    async with OtherDatabase(url) as database:
        records = await _records(adk.read(database, _CONVERSION))
    found = [each.translated.session for each in records if isinstance(each, SessionRecord)]
    assert [(each.app, each.user_id, each.id.partition("/")[0]) for each in found] == ids


async def test_a_database_of_another_application_is_not_read_as_adk_s(tmp_path: Path) -> None:
    url = _write(tmp_path / "other.db", *_STATES, "CREATE TABLE events (id, data)")
    async with OtherDatabase(url) as database:
        with pytest.raises(InvalidContent, match="lacks the expected columns"):
            await _records(adk.read(database, _CONVERSION))


def test_adk_s_package_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("agentstore.adapters.adk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google.adk", None)  # as if it were not installed
    done = run("import", "--from", "adk", _write(tmp_path / "adk.db", *_STATES), "--dry-run")
    assert done.code == 1
    assert "google-adk is not installed: run pip install 'agentstore-postgres[adk]'" in done.err


async def test_database_without_the_tables_is_refused(tmp_path: Path) -> None:
    async with OtherDatabase(_write(tmp_path / "empty.db", "SELECT 1")) as database:
        with pytest.raises(InvalidContent, match="no such table"):
            await _records(agentscope2.read(database))


@pytest.mark.parametrize(
    "url", ["sqlite:///nowhere.db", "mysql://x:secret@h/d", "nonsense", "sqlite://x:secret@h:port/d"]
)
def test_invalid_source_urls_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(NotConfigured) as refused:
        OtherDatabase(url)
    assert "secret" not in str(refused.value)


async def test_redis_sessions_memories_and_states_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Any rain?"}]}
    redis = KeyValues(
        {
            "session:a:b:c": json.dumps({"id": "c", "user_id": "a:b", "messages": [message, message], "k": 1}),
            "session:alice:s": json.dumps({"id": "other", "user_id": "alice"}),
            "session:alice:t": json.dumps({"id": "t", "user_id": "alice", "messages": {"x": 1}}),
            "user_memory:a:b": {"c": json.dumps([message]), "d": json.dumps([1, message]), "e": "{}"},
            "user_state:a:b:c": {"2": '{"n": 2}', "x": "{}"},
            "user_state:x:y:z": {"1": "{}"},
        }
    )
    monkeypatch.setattr("redis.asyncio.from_url", lambda *_, **__: redis)
    session, *problems, memories, invalid, no_list, state, no_round, ambiguous = await _records(
        redis_services.read("redis://h")
    )
    assert isinstance(session, SessionRecord)
    found = session.translated.session
    assert (found.user_id, found.id, found.metadata) == ("a:b", "c", {"k": 1})
    assert len({each.id for each in found.messages}) == 2
    assert [each.place for each in problems] == ["session:alice:s", "session:alice:t"]
    assert "does not match its value, which names user 'alice' and session 'other'" in problems[0].reason
    assert problems[1].reason == "messages: expected a list, got an object"
    assert isinstance(memories, MemoriesRecord)
    assert (memories.translated.session.user_id, memories.translated.session.id) == ("a:b", "c")
    assert [len(each.translated.session.messages) for each in (memories, invalid)] == [1, 1]
    assert invalid.place == "user_memory:a:b d"
    assert [(each.place, each.messages) for each in invalid.translated.notes] == [("messages[0]", 1)]
    assert no_list.reason == "messages: expected a list, got an object"
    assert (state.user_id, state.session_id, state.round_id, state.state) == ("a:b", "c", 2, {"n": 2})
    assert isinstance(no_round, Note)
    assert "ambiguous" in ambiguous.reason
