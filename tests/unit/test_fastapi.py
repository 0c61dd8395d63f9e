"""Page and StoredMessages as responses of FastAPI."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from agentstore import Page, Session, StoredMessages


async def _page() -> Page[Session]:
    return Page([Session(id="s", user_id="u")], "next")


async def _messages() -> dict[str, StoredMessages]:
    return {"messages": StoredMessages([b'{"id":"m1","role":"user","content":[{"type":"text","text":"a"}]}'])}


@pytest.mark.parametrize("options", [{}, {"response_model": None}], ids=["declared", "undeclared"])
async def test_responses_with_and_without_a_declared_type(options: dict[str, Any]) -> None:
    app = FastAPI()
    app.add_api_route("/page", _page, **options)
    app.add_api_route("/messages", _messages, **options)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        page, (message,) = (await client.get("/page")).json(), (await client.get("/messages")).json()["messages"]
        assert (await client.get("/openapi.json")).status_code == 200
    assert (page["items"][0]["id"], page["next_cursor"]) == ("s", "next")
    assert (message["id"], message["content"][0]["text"]) == ("m1", "a")
