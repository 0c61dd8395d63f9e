"""What agentstore is for, in half a minute: conversations that outlive the process that writes them.

Run by ``make demo``. Everything happens on an embedded Postgres in the folder ``.demo``; remove it to begin anew.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agentstore import AgentStore, Message, Role, Session, Settings, TextContent, __version__

FOLDER = Path(__file__).parents[1] / ".demo"
SECONDS_OF_WRITING = 1.5

CONVERSATIONS = {
    ("alice", "trip", "A week in Chengdu"): [
        (Role.USER, "I have a week in Chengdu in May. What should I not miss?"),
        (Role.ASSISTANT, "The panda base early in the morning, and an evening of tea and opera in People's Park."),
        (Role.USER, "I do not eat peppers, so please remember that for the restaurants."),
        (Role.ASSISTANT, "Noted: no peppers. I will look for places that cook Huaiyang dishes."),
    ],
    ("李雷", "体检", "体检报告"): [
        (Role.USER, "我的体检报告说血脂有点高, 平时应该怎么吃?"),
        (Role.ASSISTANT, "少吃油炸食品和动物内脏, 多吃蔬菜, 每周吃两次鱼. 三个月以后再查一次."),
        (Role.USER, "好的. 我对虾过敏, 请记住."),
        (Role.ASSISTANT, "记住了: 您对虾过敏, 我推荐的菜单里不会有虾."),
    ],
}

out = Console(highlight=False)


def open_store() -> AgentStore:
    """Return a store on the demo's own Postgres."""
    return AgentStore(settings=Settings(database_url=None, embedded_dir=str(FOLDER)))


async def converse(store: AgentStore) -> None:
    """Write the conversations. The ids make it safe to run again: what is there is not written twice."""
    for (user, name, title), turns in CONVERSATIONS.items():
        session = await store.sessions.create_session(user, name, title=title)
        messages = [
            Message(id=f"{name}-{number}", role=role, content=[TextContent(text=words)])
            for number, (role, words) in enumerate(turns)
        ]
        await store.sessions.append_message(session, messages)


async def show(store: AgentStore) -> None:
    """Print every conversation of every user."""
    for user in await store.users.list_users():
        for listed in await store.sessions.list_sessions(user.id):
            if listed.title is None:
                continue
            session = await store.sessions.get_session(user.id, listed.id)
            assert session is not None  # noqa: S101
            table = Table(title=f"{user.id}: {session.title}", title_justify="left", show_header=False, min_width=72)
            for message in session.messages:
                words = " ".join(part.text or "" for part in message.content or () if isinstance(part, TextContent))
                table.add_row(f"[bold]{message.role}[/bold]", words)
            out.print(table)


async def write_for_ever(session_id: str) -> None:
    """Append message after message, and say the number of each once the database has acknowledged it."""
    async with open_store() as store:
        session = await store.sessions.create_session("writer", session_id)
        number = 0
        while True:
            words = TextContent(text=f"thought {number}")
            await store.sessions.append_message(session, Message(role=Role.ASSISTANT, content=[words]))
            print(number, flush=True)  # noqa: T201
            number += 1


async def kill_a_writer() -> bool:
    """Kill a process in the middle of its appends; return whether everything acknowledged is there, in order."""
    session_id = f"thoughts at {time.time():.3f}"
    writer = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "write", session_id, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None  # noqa: S101
    first = await writer.stdout.readline()
    await asyncio.sleep(SECONDS_OF_WRITING)
    writer.send_signal(signal.SIGKILL)
    lines = [first, *(await writer.stdout.read()).splitlines(keepends=True)]
    await writer.wait()
    acknowledged = [int(line) for line in lines if line.endswith(b"\n")]
    out.print(f"\nA process appended for {SECONDS_OF_WRITING} s and was killed with SIGKILL in the middle of it.")
    async with open_store() as store:
        session: Session | None = await store.sessions.get_session("writer", session_id)
    stored = [
        int((part.text or "").removeprefix("thought "))
        for message in (session.messages if session else ())
        for part in message.content or ()
        if isinstance(part, TextContent)
    ]
    kept = acknowledged == list(range(len(acknowledged))) and stored == list(range(len(stored)))
    kept = kept and len(acknowledged) <= len(stored) <= len(acknowledged) + 1
    out.print(
        f"Acknowledged before it died: {len(acknowledged)} messages. In the store now, in order: {len(stored)}. "
        + ("[green]Nothing acknowledged was lost.[/green]" if kept else "[red]Something was lost.[/red]")
    )
    return kept


async def main() -> None:
    """Show the whole story."""
    began = time.monotonic()
    async with open_store() as store:
        seconds = time.monotonic() - began
        out.print(f"agentstore {__version__}: a Postgres in {FOLDER} was ready after {seconds:.1f} s.\n")
        await converse(store)
        await show(store)
    kept = await kill_a_writer()
    out.print("\nThe conversations are still there the next time: run it again.")
    sys.exit(not kept)


if __name__ == "__main__":
    asyncio.run(write_for_ever(sys.argv[2]) if sys.argv[1:2] == ["write"] else main())
