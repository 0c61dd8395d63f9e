"""A chat API with history, memory and a token window: ``uvicorn chat_api:app``."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from agentstore import AgentStore, Message, Page, Session, StoredMessages

store = AgentStore()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    async with store:
        yield


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    id: str  # the client's: a request that is sent again is stored once
    text: str


async def ask_model(messages: list[dict[str, object]]) -> str:
    """Call your model here, with messages in the format of OpenAI's chat completions."""
    return f"You said: {messages[-1]['content']}"


@app.post("/users/{user}/chats/{chat}")
async def ask(user: str, chat: str, question: Question) -> str:
    """Store the question, answer it with what is known about the user, and store the answer."""
    asked = Message.user(question.text, id=question.id)
    known = await store.memory.search_memory(user, asked, {"top_k": 3, "exclude_session_id": chat})
    await store.sessions.append(user, chat, asked)
    window = await store.sessions.window(user, chat, max_tokens=3000, count=lambda each: len(each.text) // 4 + 4)
    for message in window:
        if message.id == f"{question.id}-answer":  # the request was sent again
            return message.text
    prompt = Message.system("From earlier chats:\n" + "\n".join(each.text for each in known))
    answer = Message.assistant(await ask_model(Message.to_openai_all([prompt, *window])), id=f"{question.id}-answer")
    await store.sessions.append(user, chat, answer)
    await store.memory.add_memory(user, [asked, answer], chat)
    return answer.text


@app.get("/users/{user}/chats")
async def chats(user: str, cursor: str | None = None) -> Page[Session]:
    """Return a page of the user's chats, last used first."""
    return await store.sessions.list_sessions(user, limit=20, cursor=cursor)


@app.get("/users/{user}/chats/{chat}")
async def messages(user: str, chat: str) -> StoredMessages | None:
    """Return the last messages of a chat, as they are stored."""
    return await store.sessions.read_messages(user, chat, limit=50)
