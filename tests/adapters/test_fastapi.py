"""Page and StoredMessages as responses of FastAPI, which AgentScope Runtime depends on."""

import pytest

from agentstore import Page, Session, StoredMessages

pytestmark = pytest.mark.runtime


async def _page() -> Page[Session]:
    return Page([Session(id="s", user_id="u")], "next")


async def _messages() -> dict[str, StoredMessages]:
    return {"messages": StoredMessages([b'{"id":"m1","role":"user","content":[{"type":"text","text":"a"}]}'])}


@pytest.mark.parametrize("options", [{}, {"response_model": None}], ids=["declared", "undeclared"])
def test_responses_with_and_without_a_declared_type(options: dict[str, None]) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    app.add_api_route("/page", _page, **options)
    app.add_api_route("/messages", _messages, **options)
    client = TestClient(app)
    page, (message,) = client.get("/page").json(), client.get("/messages").json()["messages"]
    assert (page["items"][0]["id"], page["next_cursor"]) == ("s", "next")
    assert (message["id"], message["content"][0]["text"]) == ("m1", "a")
    assert client.get("/openapi.json").status_code == 200
