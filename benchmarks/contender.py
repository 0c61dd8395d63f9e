"""What a contender is, and the cases in which it is measured.

This runs in each contender's own environment, so it needs the standard library alone. A contender is a class named
``Contender`` in a module of ``benchmarks.contenders``; it has those of the methods below for which its package has a
call, and each makes that call as the package's own documentation has it made.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# What a message says: about 500 bytes, some of them not ASCII.
WORDS = "The quick brown fox jumps over the lazy dog, and 敏捷的棕色狐狸跳过了懒狗. " * 6
USER = "bench"


@dataclass(frozen=True, slots=True)
class Said:
    """One message, as plain as it gets: the ``text`` is another one for each."""

    id: str
    role: str
    text: str


class Contender(Protocol):
    """A package's calls for one user, who is called ``bench``. Whatever it cannot do it does not have."""

    name: str
    version: str
    durable: bool
    """Whether what it has acknowledged survives the end of every process."""

    def __init__(self, url: str, redis_url: str | None) -> None:
        """`url` is a database of this contender's own, as ``postgresql://...``; nothing is opened yet."""

    async def start(self) -> None:
        """Connect, and make the tables; a pool has ten connections, where the package lets one say so."""

    async def stop(self) -> None:
        """Close everything."""

    async def create(self, session: str) -> None:
        """Make a session without messages."""

    def make(self, said: Sequence[Said]) -> list[Any]:
        """Return messages of the package's own kind; not timed."""

    async def append(self, session: str, messages: list[Any]) -> None:
        """Add new messages to the end of a session, and return when they are acknowledged."""

    async def read(self, session: str) -> Any:
        """Return the session with all its messages, as the package's own objects."""

    def texts(self, found: Any) -> list[str]:
        """Return what the messages say that :meth:`read` returned, in order; not timed."""

    async def list_sessions(self) -> int:
        """List all sessions of the user as the package's own objects, without messages, and return how many."""

    async def save_state(self, session: str, state: dict[str, Any]) -> None:
        """Save an agent's state as the next round or checkpoint of a session."""

    async def load_state(self, session: str) -> dict[str, Any]:
        """Return the last state of a session."""

    async def add_memory(self, session: str, messages: list[Any]) -> None:
        """Add new messages of a session to what is searched by their words."""


def say(first: int, count: int, writer: int = 0) -> list[Said]:
    """Return messages that nobody has said yet: ``first`` and ``writer`` tell them apart."""
    return [
        Said(f"m-{writer}-{number}", "assistant" if number % 2 else "user", f"{writer} {number} {WORDS}")
        for number in range(first, first + count)
    ]


def remember(first: int, count: int) -> list[Said]:
    """Return messages of ten words each, of which few are frequent, as in every language (Zipf)."""
    rng = random.Random(first)
    return [
        Said(f"m-{number}", "user", f"{number} " + " ".join(f"word{int(rng.paretovariate(0.7))}" for _ in range(10)))
        for number in range(first, first + count)
    ]


def state(number: int, messages: int = 50) -> dict[str, Any]:
    """Return a state as agents keep it, of 20 KB for 50 messages: what was said, and a plan."""
    rng = random.Random(messages)
    said = [
        {
            "id": f"{rng.getrandbits(128):032x}",
            "role": "assistant" if index % 2 else "user",
            "content": [{"type": "text", "text": " ".join(_word(rng) for _ in range(90))}],
            "timestamp": f"2026-11-23 10:{index % 60:02}:{rng.randrange(60):02}.{rng.randrange(1000):03}",
        }
        for index in range(messages)
    ]
    steps = [{"name": f"step {index}", "state": "todo"} for index in range(8)]
    return {"number": number, "memory": {"content": said}, "plan": {"steps": steps}}


def _word(rng: random.Random) -> str:
    """A made-up word; few of them are frequent."""
    rank = int(rng.paretovariate(0.7))
    word = ""
    while rank or not word:
        rank, letter = divmod(rank, 19)
        word += "etaoinshrdlcumwfgyp"[letter]
    return word
