"""The artifact service with the types of google-adk."""

# pyright: reportMissingImports=false
import asyncio
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, InvalidContent, LimitExceeded
from tests.adapters.adk.test_sdk import ask, runner_of
from tests.support.traces import traces

pytestmark = pytest.mark.adapters

_ID: Any = {"app_name": "chat", "user_id": "alice"}
_S: Any = {**_ID, "session_id": "s"}
_PARTS: dict[str, Any] = {
    "an image": {"inlineData": {"mimeType": "image/png", "data": "__4-", "displayName": "a"}},
    "no content": {"inlineData": {"mimeType": "image/png", "data": ""}},
    "a text": {"text": "杭州\x00"},
    "an empty text": {"text": ""},
    "a file": {"fileData": {"fileUri": "gs://bucket/a", "mimeType": "text/csv"}},
}


def _part(name: str) -> Any:
    from google.genai.types import Part

    return Part.model_validate(_PARTS[name])


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


@pytest.fixture
def service(any_store: Any) -> Any:
    return _service(any_store)


def _service(store: Any = None, **options: Any) -> Any:
    from agentstore.adapters.adk import AgentStoreArtifactService

    return AgentStoreArtifactService(store, **options)


@pytest.mark.parametrize("name", _PARTS)
async def test_an_artifact_is_loaded_as_it_was_saved(service: Any, name: str) -> None:
    ids = {**_S, "filename": "a b/c"}
    assert await service.load_artifact(**ids) is None
    assert await service.save_artifact(**ids, artifact=_part(name)) == 0
    assert await service.save_artifact(**ids, artifact=_PARTS[name], custom_metadata={"x": None}) == 1
    for version in (None, 0, 1):
        assert await service.load_artifact(**ids, version=version) == _part(name)
    assert await service.load_artifact(**ids, version=2) is None
    one, two = await service.list_artifact_versions(**ids)
    assert (one.version, one.custom_metadata, two.version, two.custom_metadata) == (0, {}, 1, {"x": None})
    assert two == await service.get_artifact_version(**ids)
    assert one == await service.get_artifact_version(**ids, version=0)
    assert await service.get_artifact_version(**ids, version=2) is None
    expected = {"a text": "text/plain", "an empty text": "text/plain", "a file": "text/csv"}
    assert one.mime_type == expected.get(name, "image/png")
    assert one.create_time <= two.create_time


async def test_artifacts_belong_to_a_session_or_a_user_of_an_application(service: Any) -> None:
    from google.adk.errors.input_validation_error import InputValidationError

    for app in ("chat", "other"):
        for user in ("alice", "bob"):
            for session in ("s", "default"):
                for name in ("x", "user:x"):
                    ids = {"app_name": app, "user_id": user, "session_id": session, "filename": name}
                    await service.save_artifact(**ids, artifact={"text": f"{app} {user} {session} {name}"})
    found = await service.load_artifact(**_S, filename="x")
    assert found.text == "chat alice s x"
    assert (await service.load_artifact(**_ID, filename="user:x")).text == "chat alice default user:x"
    assert await service.list_versions(**_S, filename="user:x") == [0, 1]
    assert await service.list_artifact_keys(**_S) == ["user:x", "x"]
    assert await service.list_artifact_keys(**_ID) == ["user:x"]
    assert await service.list_artifact_keys(**{**_S, "session_id": "t"}) == ["user:x"]
    for _ in range(2):
        await service.delete_artifact(**_S, filename="x")
        assert await service.list_artifact_keys(**_S) == ["user:x"]
        assert await service.list_versions(**_S, filename="x") == []
        assert await service.list_artifact_versions(**_S, filename="x") == []
    await service.delete_artifact(**_ID, filename="user:x")
    assert await service.list_artifact_keys(**{**_S, "session_id": "default"}) == ["x"]
    assert await service.list_artifact_keys(**{**_S, "app_name": "other"}) == ["user:x", "x"]
    with pytest.raises(InputValidationError):
        await service.load_artifact(**_ID, filename="x")


async def test_references_are_followed_within_their_session(service: Any) -> None:
    from google.adk.artifacts.artifact_util import get_artifact_uri
    from google.adk.errors.input_validation_error import InputValidationError

    def reference(name: str, app: str = "chat", session: str = "s") -> Any:
        return {"fileData": {"fileUri": get_artifact_uri(app, "alice", name, 0, session)}}

    await service.save_artifact(**_S, filename="x", artifact={"text": "here"})
    await service.save_artifact(**_S, filename="y", artifact=reference("x"))
    await service.save_artifact(**_S, filename="z", artifact=reference("y"))
    assert (await service.load_artifact(**_S, filename="z")).text == "here"
    await service.save_artifact(**_S, filename="loop", artifact=reference("loop"))
    with pytest.raises(InputValidationError, match="recursion"):
        await service.load_artifact(**_S, filename="loop")
    uri = {"fileData": {"fileUri": "artifact://x"}}
    for artifact in (reference("x", app="other"), reference("x", session="t"), uri, {}):
        with pytest.raises(InputValidationError):
            await service.save_artifact(**_S, filename="bad", artifact=artifact)
    assert await service.list_versions(**_S, filename="bad") == []


async def test_concurrent_saves_get_different_versions(service: Any) -> None:
    saves = [service.save_artifact(**_S, filename="x", artifact={"text": str(n)}) for n in range(10)]
    versions = await asyncio.gather(*saves)
    assert sorted(versions) == list(range(10))
    for number, version in enumerate(versions):
        assert (await service.load_artifact(**_S, filename="x", version=version)).text == str(number)


async def test_invalid_input_is_refused_before_anything_is_written(any_store: Any, service: Any) -> None:
    long = "x" * 600
    for ids in ({"app_name": long}, {"user_id": long}, {"session_id": long}, {"filename": long}):
        with pytest.raises(InvalidContent):
            await service.save_artifact(**{**_S, "filename": "x", **ids}, artifact={"text": "x"})
    with pytest.raises((InvalidContent, LimitExceeded)):
        await service.save_artifact(**_S, filename="x", artifact={"text": "x"}, custom_metadata={"x": object()})
    assert await service.list_artifact_keys(**_S) == []
    await any_store.blobs.put("alice", "of another program", b"x", "s/chat", app="chat")
    found = await service.load_artifact(**_S, filename="of another program")
    assert (found.inline_data.data, found.inline_data.mime_type) == (b"x", "application/octet-stream")


async def test_a_rewind_removes_an_artifact_that_did_not_exist(store: AgentStore) -> None:
    from google.adk.tools import ToolContext

    async def weather(city: str, tool_context: ToolContext) -> str:
        """Return the weather."""
        await tool_context.save_artifact("map.txt", _part("a text"))
        return "3 mm"

    runner = runner_of(store, "One.", {"city": "Chengdu"}, "Two.", tools=[weather])
    runner.artifact_service = service = _service(store)
    await ask(runner, "first")
    await ask(runner, "second")
    assert await service.load_artifact(**_S, filename="map.txt") == _part("a text")
    session = await runner.session_service.get_session(**_S)
    turn = session.events[-1].invocation_id
    await runner.rewind_async(user_id="alice", session_id="s", rewind_before_invocation_id=turn)
    assert await service.load_artifact(**_S, filename="map.txt") is None
    assert await service.list_versions(**_S, filename="map.txt") == [0, 1]


async def test_erasing_a_user_leaves_nothing_of_the_artifacts(store: AgentStore, observer: asyncpg.Connection) -> None:
    service = _service(store)
    for user, word in (("aardvark", "zyzzyva"), ("bob", "quokka")):
        ids = {**_S, "user_id": user, "session_id": word}
        for name in (word, f"user:{word}"):
            await service.save_artifact(**ids, filename=name, artifact={"text": word}, custom_metadata={word: word})
    assert await traces(observer, "zyzzyva", "aardvark")
    assert await store.users.delete_user("aardvark")
    assert await traces(observer, "zyzzyva", "aardvark") == []
    assert await traces(observer, "quokka")


async def test_a_url_is_used_by_one_pool(database_url: str, direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if database_url != direct_url:
        monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", direct_url)
    async with _service(url=database_url) as one, _service(url=database_url) as two:
        await one.save_artifact(**_S, filename="x", artifact={"text": "x"})
        await one.close()
        assert (await two.load_artifact(**_S, filename="x")).text == "x"
