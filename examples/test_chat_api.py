"""An application's tests with the fixtures of agentstore's pytest plugin: ``pytest test_chat_api.py``."""

import asyncio
from typing import Any

import chat_api
import httpx
import pytest

from agentstore import AgentStore, Message


def post(path: str, question: dict[str, str]) -> Any:
    """Send a question to the application, without a server."""

    async def send() -> Any:
        transport = httpx.ASGITransport(chat_api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return (await client.post(path, json=question)).raise_for_status().json()

    return asyncio.run(send())


@pytest.fixture
def store(agentstore: AgentStore, monkeypatch: pytest.MonkeyPatch) -> AgentStore:
    """Let the application use the store of the test: a database of its own, without rows."""
    monkeypatch.setattr(chat_api, "store", agentstore)
    return agentstore


def test_a_repeated_request_is_stored_and_answered_once(store: AgentStore) -> None:
    answers = [post("/users/alice/chats/c", {"id": "q1", "text": "Hello"}) for _ in range(2)]
    assert answers == ["You said: Hello"] * 2
    session = asyncio.run(store.sessions.get_session("alice", "c"))
    assert session is not None
    assert [message.id for message in session.messages] == ["q1", "q1-answer"]


def test_the_model_is_told_what_the_user_said_in_other_chats(
    store: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(store.memory.add_memory("alice", Message.user("I do not eat peppers."), "earlier"))
    prompts: list[list[dict[str, object]]] = []

    async def record(messages: list[dict[str, object]]) -> str:
        prompts.append(messages)
        return "No."

    monkeypatch.setattr(chat_api, "ask_model", record)
    assert post("/users/alice/chats/c", {"id": "q1", "text": "Are there peppers in it?"}) == "No."
    assert "I do not eat peppers." in str(prompts[0][0]["content"])
