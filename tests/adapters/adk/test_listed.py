"""A listed session, whose state is parsed late, is in every way that it is used an ordinary Session."""

# pyright: reportMissingImports=false
import copy
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from agentstore import AgentStore, ScopedValues, UnreadableRow
from tests.adapters.adk.events import delta_event, text_event

pytestmark = pytest.mark.adapters

_STATE = {"n": 2**70, "text": "é", "nested": {"list": [1.5, None, {"x": True}]}, "none": None}


def _values(parse: Callable[[], dict[str, Any]] | None = None) -> ScopedValues:
    from agentstore.schemas.values import StoredValues

    def session() -> dict[str, Any]:
        return {**copy.deepcopy(_STATE), "none": {"adk": None}}

    return StoredValues.read_by(lambda: {"unit": ["mm"]}, lambda: {"city": {"name": "Chengdu"}}, parse or session)


def _listed(values: ScopedValues | None = None) -> Any:
    from agentstore.adapters.adk.listed import listed_session

    return listed_session("chat", "alice", "s", values or _values(), 12.5, 3)


def _ordinary() -> Any:
    from google.adk.sessions import Session

    state = {**copy.deepcopy(_STATE), "app:unit": ["mm"], "user:city": {"name": "Chengdu"}}
    session = Session(app_name="chat", user_id="alice", id="s", state=state)
    session.last_update_time = 12.5
    session._storage_update_marker = "3"
    return session


class _Outer(BaseModel):
    session: Any = None


def _set_app(session: Any) -> Any:
    session.app_name = "other"
    assert session.app_name == "other"
    return session


def _delete_state(session: Any) -> Any:
    del session.state
    return session.__dict__


def _set_unknown(session: Any) -> Any:
    with pytest.raises(ValueError, match="no field") as raised:
        session.unknown = 1
    return str(raised.value)


def _get_unknown(session: Any) -> Any:
    with pytest.raises(AttributeError) as raised:
        _ = session.unknown
    return str(raised.value)


def _change(session: Any) -> Any:
    session.state["nested"]["list"].append(7)
    session.state["new"] = 1
    session.events.append(text_event("x"))
    return session.state, len(session.events)


def _matched(session: Any) -> Any:
    from google.adk.sessions import Session

    match session:
        case Session(id=id, state={"n": n}):
            return id, n


USES: list[Callable[[Any], Any]] = [
    lambda session: session.state,
    lambda session: session.events,
    lambda session: session.__dict__,
    vars,
    lambda session: session.__class__,
    lambda session: session._storage_update_marker,
    lambda session: session.model_fields_set,
    lambda session: session.model_extra,
    lambda session: session.__pydantic_private__,
    lambda session: session.model_dump(),
    lambda session: session.model_dump(by_alias=True, exclude_unset=True),
    lambda session: session.model_dump(include={"id"}),
    lambda session: session.model_dump_json(),
    lambda session: _Outer(session=session).model_dump_json(),
    lambda session: TypeAdapter(Any).dump_python(session, mode="python"),
    lambda session: json.dumps(session.model_dump(mode="json", exclude={"state"})),
    repr,
    str,
    "{}".format,
    list,
    dict,
    lambda session: [*session.__rich_repr__()],
    lambda session: [*session.__repr_args__()],
    copy.copy,
    copy.deepcopy,
    lambda session: copy.deepcopy([session, session])[1],
    lambda session: type(session).__copy__(session),
    lambda session: session.model_copy(),
    lambda session: session.model_copy(deep=True, update={"id": "t"}),
    lambda session: pickle.loads(pickle.dumps(session)),
    lambda session: pickle.dumps(session),
    lambda session: session.__getstate__(),
    lambda session: session.copy(update={"id": "t"}),
    lambda session: hasattr(session, "__hash__") and session.__hash__,
    lambda session: dir(session),
    lambda session: getattr(session, "missing", "default"),
    lambda session: type(session).model_validate(session).state,
    lambda session: session.model_validate(session, strict=True),
    _set_app,
    _delete_state,
    _set_unknown,
    _get_unknown,
    _change,
    _matched,
]


@pytest.mark.filterwarnings("ignore:The `copy` method is deprecated")
@pytest.mark.parametrize("use", USES, ids=range(len(USES)))
def test_each_use_gives_what_an_ordinary_session_gives(use: Callable[[Any], Any]) -> None:
    from google.adk.sessions import Session

    listed, ordinary = _listed(), _ordinary()
    found: Any = use(listed)
    expected: Any = use(ordinary)
    if isinstance(found, Session):
        assert type(found) is Session
        assert (found, found.__dict__) == (expected, expected.__dict__)
        assert list(found.__dict__) == list(expected.__dict__)
        assert found.model_fields_set == expected.model_fields_set
    elif not (isinstance(found, list) and found and isinstance(found[0], str) and "model_dump" in found):
        assert found == expected
    else:
        assert sorted(found) == sorted(expected)
    assert type(listed) is Session


def test_ids_and_the_time_are_known_without_parsing() -> None:
    from google.adk.sessions import Session

    def parse() -> dict[str, Any]:
        raise AssertionError("the state was parsed")

    listed = _listed(_values(parse))
    assert isinstance(listed, Session)
    assert (listed.app_name, listed.user_id, listed.id, listed.last_update_time) == ("chat", "alice", "s", 12.5)


def test_they_equal_ordinary_ones_and_each_other() -> None:
    other = _ordinary()
    other.state["n"] = 1
    assert _listed() == _ordinary()
    assert _ordinary() == _listed()
    assert _listed() == _listed()
    assert (_listed() != _listed(), _ordinary() != _listed()) == (False, False)
    assert _listed() != other
    assert other != _listed()
    assert _listed() != "s"
    assert _ordinary() in [_listed()]
    assert _Outer(session=_listed()) == _Outer(session=_ordinary())
    with pytest.raises(TypeError):
        hash(_listed())


def test_they_are_fields_of_other_models() -> None:
    from google.adk.sessions import Session
    from google.adk.sessions.base_session_service import ListSessionsResponse

    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        session: Session
        sessions: list[Session] = []
        either: Session | dict[str, Any] | None = None

    class Revalidating(Session):  # type: ignore[misc]
        model_config = ConfigDict(revalidate_instances="always")

    def fields(session: Callable[[], Any]) -> list[Any]:
        response = ListSessionsResponse(sessions=[session(), session()])
        made = Strict(session=session(), sessions=[session()], either=session())
        return [
            response,
            response.model_dump(),
            ListSessionsResponse(sessions=[session()]).model_dump_json(by_alias=True),
            made,
            Strict(session=session(), either=session()).model_dump(mode="python", warnings="error"),
            ListSessionsResponse.model_validate({"sessions": [session()]}),
            ListSessionsResponse.model_validate(response, from_attributes=True),
            TypeAdapter(list[Session], config=None).dump_python([session()], exclude_unset=True),
            Revalidating.model_validate(session(), from_attributes=True),
            copy.deepcopy(ListSessionsResponse(sessions=[session()])),
            ListSessionsResponse(sessions=[session()]).model_copy(deep=True),
            pickle.loads(pickle.dumps(ListSessionsResponse(sessions=[session()]))),
        ]

    for found, expected in zip(fields(_listed), fields(_ordinary), strict=True):
        assert found == expected
        assert repr(found) == repr(expected)
    kept = _listed()
    assert ListSessionsResponse(sessions=[kept]).sessions[0] is kept
    with pytest.raises(ValidationError):
        Revalidating.model_validate(_listed())


async def test_fastapi_returns_them_as_json() -> None:
    import httpx
    from fastapi import FastAPI
    from google.adk.sessions import Session
    from google.adk.sessions.base_session_service import ListSessionsResponse

    app = FastAPI()

    @app.get("/list")
    async def sessions(kind: str) -> list[Session]:
        return [_listed() if kind == "listed" else _ordinary()]

    @app.get("/response", response_model_exclude_none=True)
    async def response(kind: str) -> ListSessionsResponse:
        values = ScopedValues({"unit": 1}, {}, {"key": [1, None]})
        session = Session(app_name="chat", user_id="alice", id="s", state={"key": [1, None], "app:unit": 1})
        session.last_update_time = 12.5
        return ListSessionsResponse(sessions=[_listed(values) if kind == "listed" else session])

    @app.get("/plain", response_model=None)
    async def plain(kind: str) -> Any:
        return {"session": _listed() if kind == "listed" else _ordinary()}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app") as client:
        for path in ("/list", "/response", "/plain"):
            listed, ordinary = [await client.get(path, params={"kind": kind}) for kind in ("listed", "ordinary")]
            assert listed.status_code == 200
            assert listed.content == ordinary.content
            assert b"unit" in listed.content


def test_threads_see_one_state() -> None:
    for _ in range(50):
        listed = _listed()
        barrier = threading.Barrier(8)
        seen: list[Any] = []

        def use(listed: Any = listed, barrier: Any = barrier, seen: Any = seen) -> None:
            barrier.wait()
            listed.state.setdefault("threads", []).append(threading.get_ident())
            seen.append(listed.state)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(each) for each in seen}) == 1
        assert len(listed.state["threads"]) == 8


async def test_listed_sessions_are_as_those_that_are_read(store: AgentStore) -> None:
    from agentstore.adapters.adk import AgentStoreSessionService

    service = AgentStoreSessionService(store)
    for user_id in ("alice", "bob"):
        for id in ("s", "t"):
            state = {**_STATE, "lone": "\ud800", "app:unit": ["mm"], "user:city": {user_id: []}, "of": [user_id, id]}
            session = await service.create_session(app_name="chat", user_id=user_id, session_id=id, state=state)
            await service.append_event(session, text_event("Hello"))
    for owner, count in (("alice", 2), (None, 4)):
        listed = (await service.list_sessions(app_name="chat", user_id=owner)).sessions
        assert len(listed) == count
        for each in listed:
            read = await service.get_session(app_name="chat", user_id=each.user_id, session_id=each.id)
            assert read is not None
            assert repr(each.state) == repr(read.state)
            assert each._storage_update_marker == read._storage_update_marker
            each.state["app:unit"].append("m")  # in this object only
    (one, _) = (await service.list_sessions(app_name="chat", user_id="bob")).sessions
    await service.append_event(one, delta_event({"k": 1}))
    assert one.state["k"] == 1


async def test_a_state_that_cannot_be_parsed_fails_when_it_is_looked_at(store: AgentStore, direct_url: str) -> None:
    from agentstore.adapters.adk import AgentStoreSessionService

    service = AgentStoreSessionService(store)
    for id in ("s", "t"):
        await service.create_session(app_name="chat", user_id="alice", session_id=id, state={"key": 1})
    connection = await asyncpg.connect(direct_url)
    await connection.execute("UPDATE agentstore.session_values SET value = $1 WHERE session_id = 's/chat'", "9" * 4_301)
    await connection.close()
    damaged, whole = (await service.list_sessions(app_name="chat", user_id="alice")).sessions
    assert (damaged.id, whole.state) == ("s", {"key": 1})
    for _ in range(2):
        with pytest.raises(UnreadableRow, match=r"session_values cannot be read .*'alice'.*'s/chat'"):
            _ = damaged.state
    await service.delete_session(app_name="chat", user_id="alice", session_id=damaged.id)
