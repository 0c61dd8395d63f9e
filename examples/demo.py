"""What agentstore is for, in half a minute: conversations that outlive the process that writes them.

Run by ``make demo``. Everything happens on an embedded Postgres in the folder ``.demo``; remove it to begin anew.
"""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from agentstore import AgentStore, Message, Role, TextContent, __version__

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".demo"
CONVERSATIONS = HERE / "conversations.jsonl"
SECONDS_OF_WRITING = 1.5

out = Console(highlight=False)


def say(words: str) -> None:
    """Print a line that stands above what follows."""
    out.print(f"\n[bold]{words}[/bold]")


def command(*arguments: str) -> None:
    """Show a command as a user types it, and run it."""
    out.print(f"[cyan]$ {shlex.join(('agentstore', *arguments))}[/cyan]", soft_wrap=True)
    subprocess.run([sys.executable, "-m", "agentstore", *arguments], check=True)


def use_the_demos_own_postgres() -> None:
    """Set the environment of this process and of those that it starts."""
    for name in [name for name in os.environ if name.startswith("AGENTSTORE_")]:
        del os.environ[name]
    os.environ["AGENTSTORE_EMBEDDED_DIR"] = str(FOLDER)


async def write_for_ever(session_id: str) -> None:
    """Append message after message, and say the number of each once the database has acknowledged it."""
    async with AgentStore() as store:
        session = await store.sessions.create_session("writer", session_id)
        number = 0
        while True:
            words = TextContent(text=f"thought {number}")
            await store.sessions.append_message(session, Message(role=Role.ASSISTANT, content=[words]))
            print(number, flush=True)
            number += 1


def killed_writer(session_id: str) -> list[int]:
    """Start a process that appends, kill it in the middle of that, and return what was acknowledged to it."""
    with subprocess.Popen([sys.executable, __file__, "write", session_id], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(SECONDS_OF_WRITING)
        writer.send_signal(signal.SIGKILL)
        lines = [first, *writer.stdout.read().splitlines(keepends=True)]
    return [int(line) for line in lines if line.endswith(b"\n")]


async def remember(*users: str) -> None:
    """Add what these users' sessions hold to their memory; what is there already stays once."""
    async with AgentStore() as store:
        for user in users:
            for listed in await store.sessions.list_sessions(user):
                session = await store.sessions.get_session(user, listed.id)
                if session is not None:
                    await store.memory.add_memory(user, session.messages, session.id)


async def stored_thoughts(session_id: str) -> list[int]:
    """Return the numbers of the messages that a new process finds, in their order."""
    async with AgentStore() as store:
        session = await store.sessions.get_session("writer", session_id)
    if session is None:
        return []
    return [
        int((part.text or "").removeprefix("thought "))
        for message in session.messages
        for part in message.content or ()
        if isinstance(part, TextContent)
    ]


def main() -> None:
    """Show the whole story; exit with 1 if a message is missing at its end."""
    out.print(f"agentstore {__version__}: what AI agents must not forget, on a Postgres in {FOLDER}.", soft_wrap=True)

    say("1. A database, and the schema in it")
    command("upgrade")

    say("2. Conversations from a file, in English and Chinese")
    command("import", os.path.relpath(CONVERSATIONS))

    say("3. Whose are they, and what was said?")
    command("users", "list")
    command("sessions", "list", "李雷")
    command("sessions", "show", "李雷", "天气")
    command("sessions", "show", "alice", "chengdu", "--limit", "2")

    say("4. What was said is found again: in any language, whatever is misspelt")
    asyncio.run(remember("alice", "李雷"))
    command("memory", "search", "alice", "which pepers does she eat?", "--top-k", "2")
    command("memory", "search", "李雷", "要帶傘嗎", "--top-k", "2")

    say("5. A process that appends as fast as it can is killed with SIGKILL")
    session_id = f"thoughts at {time.time():.3f}"
    acknowledged = killed_writer(session_id)
    out.print(f"Before it died it was told of {len(acknowledged):,} messages that they are stored.")

    say("6. A new process, on a Postgres that has started again")
    stored = asyncio.run(stored_thoughts(session_id))
    # The last append may have been committed when the kill came before the word of it.
    kept = stored == list(range(len(stored))) and acknowledged == stored[: len(acknowledged)]
    kept = kept and acknowledged != [] and len(stored) - len(acknowledged) <= 1
    out.print(f"It finds {len(stored):,} messages, {'in order' if stored == sorted(stored) else 'out of order'}.")
    if kept:
        out.print("[bold green]Every acknowledged message is there, in order.[/bold green]")
    else:
        out.print(f"[bold red]Something was lost:[/bold red] {json.dumps([acknowledged, stored])}", soft_wrap=True)
    out.print("\nRun it again: the conversations are still there. To look around:")
    program = os.path.relpath(Path(sys.executable).with_name("agentstore"))
    out.print(f"AGENTSTORE_EMBEDDED_DIR={os.path.relpath(FOLDER)} {program} sessions list alice", soft_wrap=True)
    sys.exit(not kept)


if __name__ == "__main__":
    use_the_demos_own_postgres()
    if sys.argv[1:2] == ["write"]:
        asyncio.run(write_for_ever(sys.argv[2]))
    else:
        main()
