"""The conversation store with the real agents of pydantic-ai, and several processes."""

# pyright: reportMissingImports=false
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore
from tests.adapters.pydantic_ai.test_conversations import conversations_of, texts_of
from tests.support.documents import ROOT, blocks, run_process, run_python, seed

pytestmark = pytest.mark.adapters

_WRITER = (sys.executable, "-W", "ignore", "-m", "tests.adapters.pydantic_ai.writer")


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


def scripted(*outputs: Any) -> Any:
    """Return a model that answers with these lists of parts in turn."""
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models.function import FunctionModel

    rest = list(outputs)
    return FunctionModel(lambda messages, _: ModelResponse(parts=rest.pop(0)))


async def _ask(conversations: Any, agent: Any, question: str | None, **options: Any) -> Any:
    from pydantic_ai.conversation import Conversation

    conversation = await conversations.load("trip") or Conversation(conversation_id="trip")
    result = await agent.run(question, conversation=conversation, **options)
    await conversations.save(result)
    return result


async def test_an_agent_continues_a_conversation_in_another_process(
    store: AgentStore, database_url: str, tmp_path: Path
) -> None:
    for number, question in enumerate(("Any rain in 杭州?", "And today?")):
        printed = await run_process(*_WRITER, database_url, "ask", question, environment={}, folder=tmp_path)
        assert printed == f"{2 * number}\n{2 * number + 1}: {question}\n"
    conversations = conversations_of(store)
    conversation = await conversations.load("trip")
    assert texts_of(conversation.messages) == [
        "Any rain in 杭州?",
        "1: Any rain in 杭州?",
        "And today?",
        "3: And today?",
    ]
    assert conversation.usage.requests == 2
    # A branch of this process is continued by another one.
    await conversations.branch("trip", at=2, expected_revision=conversation.revision)
    printed = await run_process(*_WRITER, database_url, "ask", "And here?", environment={}, folder=tmp_path)
    assert printed == "2\n3: And here?\n"
    assert texts_of((await conversations.load("trip")).messages)[2:] == ["And here?", "3: And here?"]
    (left,) = (await conversations.read_record("trip")).branches
    assert texts_of(await conversations.read_history(left))[2:] == ["And today?", "3: And today?"]


async def test_tools_thinking_and_usage_are_stored(any_store: Any) -> None:
    from pydantic_ai import Agent, ModelRetry
    from pydantic_ai.messages import TextPart, ThinkingPart, ToolCallPart

    call = ToolCallPart("weather", {"city": "Chengdu"}, "c1")
    model = scripted(
        [ThinkingPart("A tool has it.", signature="c2ln"), TextPart("One moment."), call],
        [ToolCallPart("weather", '{"city": "Leshan"}', "c2")],
        [TextPart("None.")],
        [TextPart("Also none.")],
    )
    agent: Any = Agent(model, instructions="Be short.")

    @agent.tool_plain  # type: ignore[untyped-decorator]
    def weather(city: str) -> dict[str, Any]:
        if city == "Chengdu":
            raise ModelRetry("another city")
        return {"rain": 0, "wind": None}

    conversations = conversations_of(any_store)
    result = await _ask(conversations, agent, "Any rain?")
    conversation = await conversations.load("trip")
    assert conversation.messages == result.conversation.messages
    assert conversation.usage == result.conversation.usage
    result = await _ask(conversations, agent, "And here?")
    assert (await conversations.load("trip")).messages == result.conversation.messages
    stored = (await any_store.sessions.get_session("alice", "trip")).messages
    assert [each.type for each in stored] == [
        "message",
        "message",
        "function_call_output",
        "function_call",
        "function_call_output",
        "message",
        "message",
        "message",
    ]


async def test_a_run_that_waits_for_approval_is_continued(any_store: Any) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.messages import TextPart, ToolCallPart
    from pydantic_ai.tools import DeferredToolRequests

    model = scripted([ToolCallPart("pay", {"amount": 3}, "c1")], [TextPart("Paid.")])
    agent: Any = Agent(model, output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)  # type: ignore[untyped-decorator]
    def pay(amount: int) -> str:
        return f"paid {amount}"

    conversations = conversations_of(any_store)
    result = await _ask(conversations, agent, "Pay 3.")
    waiting = (await conversations.load("trip")).deferred_tool_requests
    assert waiting == result.output
    approved = waiting.build_results(approve_all=True)
    result = await _ask(conversations, agent, None, deferred_tool_results=approved)
    assert result.output == "Paid."
    conversation = await conversations.load("trip")
    assert conversation.deferred_tool_requests is None
    assert conversation.messages == result.conversation.messages


async def test_the_stored_conversation_grows_when_the_history_is_trimmed(any_store: Any) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.capabilities import ProcessHistory
    from pydantic_ai.messages import TextPart

    agent = Agent(
        scripted(*([TextPart(f"answer {number}")] for number in range(4))),
        capabilities=[ProcessHistory(lambda messages: messages[-1:])],
    )
    conversations = conversations_of(any_store)
    for number in range(4):
        await _ask(conversations, agent, f"question {number}")
    texts = texts_of((await conversations.load("trip")).messages)
    assert texts == [f"{kind} {number}" for number in range(4) for kind in ("question", "answer")]
    assert texts_of((await conversations.load("trip", limit=3)).messages) == texts[-3:]


async def test_a_killed_process_leaves_the_turn_before_or_after(
    store: AgentStore, database_url: str, tmp_path: Path
) -> None:
    """It is killed after each message that it sends to the server."""
    conversations = conversations_of(store)
    outcomes = []
    for number in range(1, 40):
        process = await asyncio.create_subprocess_exec(
            *(*_WRITER, database_url, "kill", str(number)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        await process.communicate()
        session = await store.sessions.get_session("alice", "trip")
        conversation = await conversations.load("trip")
        assert session is not None
        texts = [f"{kind} {turn}" for turn in range(2) for kind in ("question", "answer")]
        assert texts_of(conversation.messages) in (texts[:2], texts)
        assert [each.text for each in session.messages] == texts_of(conversation.messages)
        outcomes.append(len(session.messages))
        # Whatever was stored, it can be continued, and deleted.
        conversation.messages += conversation.messages[:1]
        await conversations.save(conversation)
        await conversations.delete("trip")
        assert await store.sessions.get_session("alice", "trip") is None
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    else:
        pytest.fail("the turn takes more messages than the process was killed after")
    assert outcomes == sorted(outcomes)
    assert (outcomes[0], outcomes[-1]) == (2, 4)
    assert len(outcomes) > 4


async def test_the_example_runs_twice(store: AgentStore, database_url: str, tmp_path: Path) -> None:
    program = (sys.executable, str(ROOT / "examples" / "pydantic_ai_branches.py"), "alice")
    environment = {"AGENTSTORE_DATABASE_URL": database_url}
    first = await run_process(*program, environment=environment, folder=tmp_path)
    assert first.startswith("0 messages so far\n")
    assert first.endswith("branches that were left: 1\n2 messages, and as many in the fork: 2\n")
    second = await run_process(*program, environment=environment, folder=tmp_path)
    assert second.startswith("2 messages so far\n")
    assert len(await store.sessions.list_sessions("alice")) == 3


async def test_the_python_of_the_page_runs_twice(
    store: AgentStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydantic_ai.models.test import TestModel

    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    page = [each for each in blocks(ROOT / "docs/pydantic-ai.md") if each.language == "python"]
    assert len(page) >= 3
    for _ in range(2):
        names = {**await seed(store), "store": store, "model": TestModel(call_tools=[])}
        for block in page:
            await run_python(block, names)
        await names["conversations"].delete("weather")
        await names["conversations"].delete("copy")
