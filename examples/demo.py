"""Show agentstore in half a minute: import, list, search, and writes that survive a killed process.

Run it with ``make demo``. It uses an embedded Postgres in the folder ``.demo``; remove the folder to start over.
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
SECONDS_TO_WRITE = 1.5

out = Console(highlight=False)


def print_heading(text: str) -> None:
    """Print the heading of a step."""
    out.print(f"\n[bold]{text}[/bold]")


def run(*arguments: str) -> None:
    """Print a command as a user types it, and run it."""
    out.print(f"[cyan]$ {shlex.join(('agentstore', *arguments))}[/cyan]", soft_wrap=True)
    subprocess.run([sys.executable, "-m", "agentstore", *arguments], check=True)


def use_embedded_postgres() -> None:
    """Configure this process, and those that it starts, to use the demo's Postgres and no other settings."""
    for name in [name for name in os.environ if name.startswith("AGENTSTORE_")]:
        del os.environ[name]
    os.environ["AGENTSTORE_EMBEDDED_DIR"] = str(FOLDER)


async def write_until_killed(session_id: str) -> None:
    """Append messages in a loop, and print the number of each once the database has acknowledged it."""
    async with AgentStore() as store:
        session = await store.sessions.create_session("writer", session_id)
        number = 0
        while True:
            thought = TextContent(text=f"thought {number}")
            await store.sessions.append_message(session, Message(role=Role.ASSISTANT, content=[thought]))
            print(number, flush=True)
            number += 1


def start_and_kill_writer(session_id: str) -> list[int]:
    """Start a process that appends messages, kill it with SIGKILL, and return the acknowledged numbers."""
    with subprocess.Popen([sys.executable, __file__, "write", session_id], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(SECONDS_TO_WRITE)
        writer.send_signal(signal.SIGKILL)
        lines = [first, *writer.stdout.read().splitlines(keepends=True)]
    return [int(line) for line in lines if line.endswith(b"\n")]


async def add_to_memory(*users: str) -> None:
    """Add the messages of these users' sessions to their memory. Messages that it has already are not duplicated."""
    async with AgentStore() as store:
        for user in users:
            for listed in await store.sessions.list_sessions(user):
                session = await store.sessions.get_session(user, listed.id)
                if session is not None:
                    await store.memory.add_memory(user, session.messages, session.id)


async def stored_thoughts(session_id: str) -> list[int]:
    """Return the numbers of the stored messages, in order."""
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
    """Run all steps; exit with 1 if an acknowledged message is missing."""
    out.print(
        f"agentstore {__version__}: durable storage for AI agents, on an embedded Postgres in {FOLDER}.", soft_wrap=True
    )

    print_heading("1. Create a database and the schema")
    run("upgrade")

    print_heading("2. Import conversations from a file, in English and Chinese")
    run("import", os.path.relpath(CONVERSATIONS))

    print_heading("3. List users and sessions, and show messages")
    run("users", "list")
    run("sessions", "list", "李雷")
    run("sessions", "show", "李雷", "天气")
    run("sessions", "show", "alice", "chengdu", "--limit", "2")

    print_heading("4. Search memory: in any language, with misspelled words")
    asyncio.run(add_to_memory("alice", "李雷"))
    run("memory", "search", "alice", "which pepers does she eat?", "--top-k", "2")
    run("memory", "search", "李雷", "要帶傘嗎", "--top-k", "2")

    print_heading("5. Kill a process with SIGKILL while it appends messages")
    session_id = f"thoughts at {time.time():.3f}"
    acknowledged = start_and_kill_writer(session_id)
    out.print(f"Before it was killed, {len(acknowledged):,} messages were acknowledged.")

    print_heading("6. Read the session in a new process, after a restart of Postgres")
    stored = asyncio.run(stored_thoughts(session_id))
    # The last append may have been committed without being acknowledged.
    is_complete = stored == list(range(len(stored))) and acknowledged == stored[: len(acknowledged)]
    is_complete = is_complete and acknowledged != [] and len(stored) - len(acknowledged) <= 1
    out.print(f"Found {len(stored):,} messages, {'in order' if stored == sorted(stored) else 'out of order'}.")
    if is_complete:
        out.print("[bold green]Every acknowledged message is stored, in order.[/bold green]")
    else:
        out.print(f"[bold red]Messages were lost:[/bold red] {json.dumps([acknowledged, stored])}", soft_wrap=True)
    out.print("\nRun it again: the conversations are still stored. To explore them:")
    program = os.path.relpath(Path(sys.executable).with_name("agentstore"))
    out.print(f"AGENTSTORE_EMBEDDED_DIR={os.path.relpath(FOLDER)} {program} sessions list alice", soft_wrap=True)
    out.print('To read them in a browser (it needs the extra "console"):')
    out.print(f"AGENTSTORE_EMBEDDED_DIR={os.path.relpath(FOLDER)} {program} console", soft_wrap=True)
    sys.exit(not is_complete)


if __name__ == "__main__":
    use_embedded_postgres()
    if sys.argv[1:2] == ["write"]:
        asyncio.run(write_until_killed(sys.argv[2]))
    else:
        main()
