"""The session service with the types of google-adk: sessions, events, scopes of the state, and stale objects."""

# pyright: reportMissingImports=false
import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, InvalidContent, Message, NotConfigured, Unavailable
from tests.adapters.adk.events import all_events, delta_event, event, text_event
from tests.support.cli import run
from tests.support.traces import traces

pytestmark = pytest.mark.adapters

_ID: Any = {"app_name": "chat", "user_id": "alice"}
_S: Any = {**_ID, "session_id": "s"}


def _service(store: Any = None, **options: Any) -> Any:
    from agentstore.adapters.adk import AgentStoreSessionService

    return AgentStoreSessionService(store, **options)


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


@pytest.fixture
def service(any_store: Any) -> Any:
    return _service(any_store)


async def test_a_session_is_created_read_and_deleted(service: Any) -> None:
    from google.adk.errors.already_exists_error import AlreadyExistsError

    assert await service.get_session(**_S) is None
    session = await service.create_session(**_ID, state={"key": "value", "temp:x": 1})
    assert (session.app_name, session.user_id, session.state, session.events) == ("chat", "alice", {"key": "value"}, [])
    found = {**_ID, "session_id": session.id}
    assert await service.get_session(**found) == session
    for state in (None, {"key": "other", "app:a": 1, "user:b": 2}):
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**found, state=state)
    assert (await service.get_session(**found)).state == {"key": "value"}
    for _ in range(2):
        await service.delete_session(**found)
        assert await service.get_session(**found) is None
    again = await service.create_session(**found)
    assert again.state == {}
    await service.append_event(again, text_event("Hello"))
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**found)


async def test_ids_are_stripped_or_generated(service: Any) -> None:
    one = await service.create_session(**_ID, session_id="  s  ")
    assert one.id == "s"
    assert await service.get_session(**{**_S, "session_id": " s "}) == one
    assert len({(await service.create_session(**_ID, session_id=each)).id for each in (None, "", " ")}) == 3
    await service.delete_session(**{**_S, "session_id": " s "})
    assert await service.get_session(**_S) is None


async def test_every_event_is_read_as_it_was_appended(any_store: Any, service: Any) -> None:
    session = await service.create_session(**_S)
    for each in all_events():
        assert await service.append_event(session, each) is each
    assert session.events == all_events_with_ids_of(session)
    found = await _service(any_store).get_session(**_S)
    assert found == session
    assert found.last_update_time == session.events[-1].timestamp
    stored = await any_store.sessions.get_session("alice", "s/chat")
    assert stored.app == "chat"
    assert [each.id for each in stored.messages] == [each.id for each in session.events]


def all_events_with_ids_of(session: Any) -> list[Any]:
    """Return new events of each kind with the generated ids and times of those of a session."""
    pairs = zip(all_events(), session.events, strict=True)
    return [new.model_copy(update={"id": old.id, "timestamp": old.timestamp}) for new, old in pairs]


async def test_the_scopes_of_the_state_are_shared_as_their_prefixes_say(any_store: Any, service: Any) -> None:
    one = await service.create_session(**_S, state={"app:a": 1, "user:b": 1, "c": 1})
    await service.append_event(one, delta_event({"app:a2": 2, "user:b2": 2, "c2": 2}))
    same_user = await service.create_session(**_ID, session_id="t")
    assert same_user.state == {"app:a": 1, "app:a2": 2, "user:b": 1, "user:b2": 2}
    other_user = await service.create_session(app_name="chat", user_id="bob", session_id="s")
    assert other_user.state == {"app:a": 1, "app:a2": 2}
    other_app = await service.create_session(app_name="other", user_id="alice", session_id="s")
    assert other_app.state == {}
    found = await service.get_session(**_S)
    assert found.state == one.state == {**same_user.state, "c": 1, "c2": 2}
    assert await service.get_user_state(**_ID) == {"b": 1, "b2": 2}
    assert await service.get_user_state(app_name="other", user_id="alice") == {}
    assert await service.get_user_state(app_name="chat", user_id="carol") == {}
    await service.delete_session(**_S)
    assert await service.get_user_state(**_ID) == {"b": 1, "b2": 2}
    values = await any_store.states.get_values("alice", app="chat")
    assert (values.app, values.user) == ({"a": 1, "a2": 2}, {"b": 1, "b2": 2})


async def test_any_value_of_the_state_is_read_as_it_was_set(service: Any) -> None:
    values: list[Any] = [
        None,
        False,
        0,
        "",
        [],
        {},
        {"adk": None},
        {"adk": {"adk": 1}},
        {"adk": 1, "x": None},
        2**70,
        "\x00\ud800",
    ]
    state = {f"{prefix}{number}": each for prefix in ("app:", "user:", "") for number, each in enumerate(values)}
    session = await service.create_session(**_S, state=state)
    assert session.state == state
    await service.append_event(session, delta_event(dict(zip(state, reversed(state.values()), strict=True))))
    assert (
        (await service.get_session(**_S)).state
        == session.state
        == dict(zip(state, reversed(state.values()), strict=True))
    )
    expected = {key.removeprefix("user:"): each for key, each in session.state.items() if key.startswith("user:")}
    assert await service.get_user_state(**_ID) == expected


async def test_temporary_state_is_not_stored(service: Any) -> None:
    session = await service.create_session(**_S)
    given = delta_event({"temp:k": 1, "k": 2})
    await service.append_event(session, given)
    assert session.state == {"temp:k": 1, "k": 2}
    assert given.actions.state_delta == {"k": 2}
    found = await service.get_session(**_S)
    assert found.state == {"k": 2}
    assert found.events == [given]


async def test_partial_events_are_not_stored(service: Any) -> None:
    session = await service.create_session(**_S)
    partial = text_event("A li", "weather", partial=True, actions={"state_delta": {"k": 1, "temp:k": 1}})
    assert await service.append_event(session, partial) is partial
    assert (session.events, session.state) == ([], {})
    assert await service.get_session(**_S) == session


async def test_recent_events_and_those_after_a_time_are_selected(any_store: Any, service: Any) -> None:
    from google.adk.sessions.base_session_service import GetSessionConfig

    session = await service.create_session(**_S, state={"k": 1})
    for number in (1, 2, 3, 5, 4):  # the clock was set back
        await service.append_event(session, text_event(str(number), timestamp=float(number)))
    await any_store.sessions.append("alice", "s/chat", [Message.user("of another program")])
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [1, 2, 3, 5, 4]),
        ({"num_recent_events": 0}, []),
        ({"num_recent_events": 1}, [4]),
        ({"num_recent_events": 3}, [3, 5, 4]),
        ({"num_recent_events": 9}, [1, 2, 3, 5, 4]),
        ({"after_timestamp": 0.0}, [1, 2, 3, 5, 4]),
        ({"after_timestamp": 3.0}, [3, 5, 4]),
        ({"after_timestamp": 5.0}, [5]),
        ({"after_timestamp": 9.0}, []),
        ({"after_timestamp": 2.0, "num_recent_events": 2}, [5, 4]),
        ({"after_timestamp": 5.0, "num_recent_events": 2}, [5]),
        ({"after_timestamp": 2.0, "num_recent_events": 0}, []),
    ]
    for options, expected in cases:
        found = await service.get_session(**_S, config=GetSessionConfig(**options))
        assert [each.timestamp for each in found.events] == expected, options
        assert found.state == {"k": 1}
        assert found.last_update_time == 4.0
        await service.append_event(found.model_copy(deep=True), event("a call").model_copy(update={"id": "x"}))
        await any_store.sessions.delete_messages("alice", "s/chat", ["x"])


async def test_sessions_are_listed_with_their_state(service: Any) -> None:
    assert (await service.list_sessions(app_name="chat")).sessions == []
    for user in ("bob", "alice"):
        for id in ("t", "s"):
            session = await service.create_session(
                app_name="chat", user_id=user, session_id=id, state={"k": f"{user} {id}", f"user:{id}": user}
            )
            await service.append_event(session, text_event("Hello"))
    await service.create_session(app_name="other", user_id="alice", session_id="s")
    first = await service.get_session(app_name="chat", user_id="bob", session_id="s")
    await service.append_event(first, delta_event({"app:a": 1}))
    listed = (await service.list_sessions(app_name="chat")).sessions
    assert [(each.user_id, each.id) for each in listed] == [("bob", "t"), ("alice", "t"), ("alice", "s"), ("bob", "s")]
    for each in listed:
        shared = {"app:a": 1, "user:t": each.user_id, "user:s": each.user_id}
        assert each.state == {"k": f"{each.user_id} {each.id}", **shared}
        assert each.events == []
    mine = (await service.list_sessions(app_name="chat", user_id="alice")).sessions
    assert mine == listed[1:3]
    await service.append_event(mine[0], text_event("to a listed session"))
    assert (await service.list_sessions(app_name="chat", user_id="carol")).sessions == []


async def test_long_lists_are_read_in_pages(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentstore.adapters.adk import sessions

    monkeypatch.setattr(sessions, "_PAGE", 3)
    for number in range(8):
        await service.create_session(**_ID, session_id=str(number), state={"n": number})
    listed = (await service.list_sessions(**_ID)).sessions
    assert [each.state for each in listed] == [{"n": number} for number in range(8)]


async def test_applications_with_the_same_ids_never_meet(any_store: Any, service: Any) -> None:
    """So do sessions of other programs in the same application."""
    apps, ids = ("a", "a/s", "a%2Fs", "A", "密", " a"), ("s", "s/a", "s%2Fa", "%20s", "s\ts", "密")
    for app in apps:
        for id in ids:
            await service.create_session(
                app_name=app, user_id="u", session_id=id, state={"k": [app, id], "user:app": app, "app:app": app}
            )
    await any_store.sessions.create_session("u", "s", app="a", messages=False)
    await any_store.sessions.create_session("u", "s/A", app="a", exist_ok=True, messages=False)
    for app in apps:
        for id in ids:
            found = await service.get_session(app_name=app, user_id="u", session_id=id)
            assert found.state == {"k": [app, id], "user:app": app, "app:app": app}
        listed = (await service.list_sessions(app_name=app, user_id="u")).sessions
        assert [each.id for each in listed] == list(ids)
    await service.delete_session(app_name="a", user_id="u", session_id="s")
    assert len((await service.list_sessions(app_name="a")).sessions) == len(ids) - 1
    assert len((await service.list_sessions(app_name="A")).sessions) == len(ids)


async def test_a_stale_object_is_refused_and_nothing_is_written(service: Any) -> None:
    from google.adk.errors._stale_session_error import StaleSessionError

    stale = await service.create_session(**_S)
    await service.append_event(stale, delta_event({"k1": 1}))
    current = await service.get_session(**_S)
    await service.append_event(current, delta_event({"k2": 2}))
    for number in range(2):
        with pytest.raises(StaleSessionError, match="modified in storage"):
            await service.append_event(stale, delta_event({"k3": 3, "app:k": 3, "user:k": 3, "temp:k": number}))
    assert len(stale.events) == 1
    assert "k3" not in stale.state
    found = await service.get_session(**_S)
    assert found.state == {"k1": 1, "k2": 2}
    assert len(found.events) == 2
    await service.append_event(found, text_event("after reading it again"))


async def test_an_object_is_not_stale_without_a_reason(any_store: Any, service: Any) -> None:
    """Titles, times, other sessions and the state of the user do not count."""
    session = await service.create_session(**_S)
    other = await service.create_session(**_ID, session_id="other")
    for number in range(3):
        await service.append_event(session, text_event(str(number), timestamp=float(-number)))
        await service.append_event(other, delta_event({"user:k": number, "app:k": number}))
        await any_store.sessions.set_title("alice", "s/chat", str(number))
        session.last_update_time = -1e9
        session = session.model_copy(deep=True)
    assert len((await service.get_session(**_S)).events) == 3


async def test_objects_without_a_marker_are_compared_by_their_last_event(service: Any) -> None:
    from google.adk.errors._stale_session_error import StaleSessionError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.sessions import Session

    with pytest.raises(SessionNotFoundError):
        await service.append_event(Session(id="s", **_ID), text_event("Hello"))
    session = await service.create_session(**_S)
    await service.append_event(Session(id="s", **_ID), text_event("first"))
    with pytest.raises(StaleSessionError):
        await service.append_event(Session(id="s", **_ID), text_event("stale"))
    with pytest.raises(StaleSessionError):
        await service.append_event(session, text_event("stale"))
    sent = Session.model_validate_json((await service.get_session(**_S)).model_dump_json())
    await service.append_event(sent, text_event("second"))
    await service.append_event(sent, text_event("third"))
    times = (await service.get_session(**_S)).last_update_time
    await service.append_event(Session(id="s", **_ID, last_update_time=times), text_event("fourth"))
    texts = [each.content.parts[0].text for each in (await service.get_session(**_S)).events]
    assert texts == ["first", "second", "third", "fourth"]


async def test_of_concurrent_appends_to_copies_one_succeeds(service: Any) -> None:
    from google.adk.errors._stale_session_error import StaleSessionError

    await service.create_session(**_S)
    for number in range(5):
        latest = await service.get_session(**_S)
        copies = [latest.model_copy(deep=True) for _ in range(4)]
        events = [delta_event({f"{number}-{each}": each, "app:last": each}) for each in range(4)]
        pairs = zip(copies, events, strict=True)
        results = await asyncio.gather(*(service.append_event(*pair) for pair in pairs), return_exceptions=True)
        (winner,) = [each for each in results if not isinstance(each, BaseException)]
        assert sum(isinstance(each, StaleSessionError) for each in results) == 3
        found = await service.get_session(**_S)
        assert found.events[-1] == winner
        assert found.state["app:last"] == next(iter(winner.actions.state_delta.values()))
        assert len([key for key in found.state if key.startswith(f"{number}-")]) == 1


async def test_concurrent_appends_to_one_object_all_succeed(service: Any) -> None:
    """As parallel agents of one run do."""
    session = await service.create_session(**_S)
    await asyncio.gather(*(service.append_event(session, delta_event({f"k{n}": n})) for n in range(20)))
    found = await service.get_session(**_S)
    assert found == session
    assert found.state == {f"k{n}": n for n in range(20)}


async def test_an_event_is_stored_once(service: Any) -> None:
    session = await service.create_session(**_S)
    given = delta_event({"k": 1, "app:n": 1})
    await service.append_event(session, given)
    await service.append_event(session, given)
    await service.append_event(session, given.model_copy(deep=True))
    assert len(session.events) == 1
    await service.append_event(session, delta_event({"app:n": 2}))
    await service.append_event(session, given)
    found = await service.get_session(**_S)
    assert found == session
    assert found.state == {"k": 1, "app:n": 2}
    with pytest.raises(Conflict):
        await service.append_event(session, text_event("other", id=given.id))
    assert await service.get_session(**_S) == session


async def test_a_call_whose_response_was_lost_can_be_repeated(
    any_store: Any, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = any_store.sessions.append
    session = await service.create_session(**_S)
    for error in (Unavailable("the response was lost"), asyncio.CancelledError()):

        async def lose_response(*args: Any, error: BaseException = error, **kwargs: Any) -> Any:
            await append(*args, **kwargs)
            raise error

        given = delta_event({"k": 1})
        monkeypatch.setattr(any_store.sessions, "append", lose_response)
        with pytest.raises(type(error)):
            await service.append_event(session, given)
        monkeypatch.setattr(any_store.sessions, "append", append)
        await service.append_event(session, given)
        assert await service.get_session(**_S) == session
        await service.append_event(session, text_event("next"))
    assert len((await service.get_session(**_S)).events) == 4


async def test_invalid_input_is_refused_before_anything_is_written(any_store: Any, service: Any) -> None:
    from google.adk.errors.session_not_found_error import SessionNotFoundError

    long = "x" * 600
    for arguments in ({"user_id": long}, {"app_name": long}, {"session_id": long}, {"app_name": 7}, {"session_id": 7}):
        with pytest.raises(InvalidContent):
            await service.create_session(**{**_S, **arguments})
        with pytest.raises(InvalidContent):
            await service.get_session(**{**_S, **arguments})
    with pytest.raises(InvalidContent, match="values"):
        await service.create_session(**_S, state={f"app:{long}": 1})
    assert list(await any_store.sessions.list_sessions()) == []
    session = await service.create_session(**_S)
    with pytest.raises(InvalidContent, match="values"):
        await service.append_event(session, delta_event({"k": 1, f"user:{long}": 1}))
    with pytest.raises(InvalidContent, match="id"):
        await service.append_event(session, text_event("Hello", id=long))
    assert await service.get_session(**_S) == session
    await service.append_event(session, text_event("Hello"))
    await service.delete_session(**_S)
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, text_event("Hello"))
    assert await service.get_session(**_S) is None


async def test_values_that_json_cannot_represent_become_their_repr(service: Any) -> None:
    """As in ADK's own services, which log it."""
    session = await service.create_session(**_S, state={"f": len})
    assert session.state == {"f": repr(len)}
    await service.append_event(session, delta_event({"g": len}))
    assert (await service.get_session(**_S)).state == {"f": repr(len), "g": repr(len)}


async def test_an_append_is_one_statement_without_a_change_of_the_state(
    store: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[str] = []
    fetch, execute = asyncpg.Connection.fetch, asyncpg.Connection.execute

    async def count_fetch(self: asyncpg.Connection, query: str, *args: Any, **kwargs: Any) -> Any:
        executed.append(query)
        return await fetch(self, query, *args, **kwargs)

    async def count_execute(self: asyncpg.Connection, query: str, *args: Any, **kwargs: Any) -> Any:
        executed.append(query)
        return await execute(self, query, *args, **kwargs)

    service = _service(store)
    session = await service.create_session(**_S)
    await service.append_event(session, delta_event({"app:a": 1}))
    monkeypatch.setattr(asyncpg.Connection, "fetch", count_fetch)
    monkeypatch.setattr(asyncpg.Connection, "execute", count_execute)
    calls: list[tuple[Callable[[], Any], int]] = [
        (lambda: service.append_event(session, text_event("Hello")), 1),
        # A transaction: the lock of the session, the append, the values of the session and those of the application.
        (lambda: service.append_event(session, delta_event({"k": 1, "app:a": 2})), 6),
        (lambda: service.get_session(**_S), 2),
        (lambda: service.get_user_state(**_ID), 1),
        (lambda: service.delete_session(**_S), 1),
    ]
    for number, (call, expected) in enumerate(calls):
        executed.clear()
        await call()
        assert len(executed) <= expected, (number, executed)


async def test_a_url_is_used_by_one_pool(database_url: str, direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotConfigured, match="a store or a url"):
        _service()
    if database_url != direct_url:
        monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", direct_url)
    async with _service(url=database_url) as one, _service(url=database_url) as two:
        session = await one.create_session(**_S, state={"app:a": 1})
        await one.append_event(session, text_event("Hello"))
        await one.close()
        assert await two.get_session(**_S) == session
        assert len((await one.list_sessions(**_ID)).sessions) == 1


async def test_erasing_a_user_leaves_nothing_of_the_sessions(store: AgentStore, observer: asyncpg.Connection) -> None:
    service = _service(store)
    for user, word in (("aardvark", "zyzzyva"), ("bob", "quokka")):
        session = await service.create_session(app_name="chat", user_id=user, session_id=word, state={word: word})
        await service.append_event(session, text_event(f"the {word}", actions={"state_delta": {f"user:{word}": word}}))
    assert await traces(observer, "zyzzyva", "aardvark")
    assert await store.users.delete_user("aardvark")
    assert await traces(observer, "zyzzyva", "aardvark") == []
    assert await traces(observer, "quokka")


async def test_the_command_line_shows_sessions(
    store: AgentStore, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    service = _service(store)
    session = await service.create_session(**_S)
    for each in all_events():
        await service.append_event(session, each)
    shown = await asyncio.to_thread(run, "sessions", "show", "alice", "s/chat")
    assert "Any rain in 杭州?" in shown.out
    assert "A little." in shown.out
