"""A chat in the terminal that continues where it ended: ``python terminal_chat.py alice``. Ctrl-D ends it."""

import asyncio
import sys

from agentstore import AgentStore, Message


async def stream_answer(question: Message) -> list[str]:
    """Call your model here: it returns an answer in pieces."""
    return ["You said: ", question.text]


async def chat(user: str, session: str) -> None:
    """Print the last messages, then answer each line of the input."""
    async with AgentStore() as store:
        earlier = await store.sessions.get_session(user, session, limit=10)
        for message in earlier.messages if earlier else []:
            print(f"{message.created_at:%H:%M} {message.role}: {message.text}")
        while line := await asyncio.to_thread(sys.stdin.readline):
            if not (text := line.strip()):
                continue
            question = Message.user(text)
            await store.sessions.append(user, session, question)
            for found in await store.memory.search(user, question, {"top_k": 1}):
                print(f"(remembered: {found.message.text})")
            answer = Message.assistant("", status="in_progress")
            await store.sessions.append(user, session, answer)
            for piece in await stream_answer(question):
                print(piece, end="", flush=True)
                # In its place, while the answer grows: after a crash, what was said so far is stored.
                answer = Message.assistant(answer.text + piece, id=answer.id, status="in_progress")
                await store.sessions.replace_message(user, session, answer)
            print()
            answer = Message.assistant(answer.text, id=answer.id, status="completed")
            await store.sessions.replace_message(user, session, answer)
            await store.memory.add_memory(user, [question, answer], session)


if __name__ == "__main__":
    asyncio.run(chat(sys.argv[1], "terminal"))
