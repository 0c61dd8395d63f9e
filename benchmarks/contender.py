"""The interface of a contender, and the data that it is measured with.

This module is imported in each contender's environment, so it uses only the standard library. A contender is a class
named ``Contender`` in a module of ``benchmarks.contenders``. It has those of the methods below that its package
supports, and each makes the call as the documentation of the package recommends.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

# The text of a message: about 500 bytes, some of them not ASCII.
TEXT = "The quick brown fox jumps over the lazy dog, and 敏捷的棕色狐狸跳过了懒狗. " * 6
USER = "bench"


@dataclass(frozen=True, slots=True)
class PlainMessage:
    """A message that depends on no package. Each has a different ``text``."""

    id: str
    role: Literal["user", "assistant"]
    text: str


class Contender(Protocol):
    """The calls of a package, all for the user ``bench``. Methods that the package does not support are missing."""

    name: str
    version: str
    durable: bool
    """Whether acknowledged writes survive a crash of every process."""

    def __init__(self, url: str, redis_url: str | None) -> None:
        """`url` is ``postgresql://...``, a database that only this contender uses. Opens no connection yet."""

    async def start(self) -> None:
        """Connect and create the tables. A pool has ten connections if the package has a setting for that."""

    async def stop(self) -> None:
        """Close everything."""

    async def create(self, session: str) -> None:
        """Create a session without messages."""

    async def create_with_state(self, session: str, kilobytes: int) -> None:
        """Create a session without messages whose state is :func:`session_state`."""

    def convert(self, messages: Sequence[PlainMessage]) -> list[Any]:
        """Return the messages as objects of the package. Not timed."""

    async def append(self, session: str, messages: list[Any]) -> None:
        """Append new messages to a session, and return when they are acknowledged."""

    async def read(self, session: str) -> Any:
        """Return the session with all its messages, as objects of the package."""

    def texts(self, found: Any) -> list[str]:
        """Return the texts of the messages that :meth:`read` returned, in order. Not timed."""

    async def list_sessions(self) -> int:
        """List all sessions of the user as objects of the package, without messages. Return their number."""

    async def list_with_state(self, kilobytes: int, look_at: bool) -> int:
        """List all sessions with a state of this size, and perhaps look at each state. Return their number."""

    async def save_state(self, session: str, state: dict[str, Any]) -> None:
        """Save an agent's state as the next round or checkpoint of a session."""

    async def load_state(self, session: str) -> dict[str, Any]:
        """Return the latest state of a session."""

    async def add_memory(self, session: str, messages: list[Any]) -> None:
        """Add new messages of a session to the memory that can be searched by words."""

    async def put_item(self, key: str, value: dict[str, Any]) -> None:
        """Insert or replace an item of a store of values by key."""

    async def get_item(self, key: str) -> dict[str, Any] | None:
        """Return the value of an item."""

    async def search_items(self, condition: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the values of ten items with these values of their keys."""


def session_state(kilobytes: int) -> dict[str, Any]:
    """Return what an application keeps about a conversation: 32 tasks of steps, in as many kilobytes of JSON."""
    step = {"name": "look it up", "cost": 1.5, "done": True, "note": "checked and found to be fine"}  # 90 bytes
    return {
        f"key {number}": {
            "title": f"item {number}",
            "tags": ["a", "b"],
            "steps": [step] * (kilobytes * 1000 // 32 // 90),
        }
        for number in range(32 * bool(kilobytes))
    }


def new_messages(first: int, count: int, writer: int = 0) -> list[PlainMessage]:
    """Return messages that are unique by ``writer`` and a number, which starts at ``first``."""
    return [
        PlainMessage(f"m-{writer}-{number}", "assistant" if number % 2 else "user", f"{writer} {number} {TEXT}")
        for number in range(first, first + count)
    ]


def short_messages(first: int, count: int) -> list[PlainMessage]:
    """Return messages of ten words. As in natural languages, a few words are frequent (Zipf)."""
    rng = random.Random(first)
    return [
        PlainMessage(
            f"m-{number}", "user", f"{number} " + " ".join(f"word{int(rng.paretovariate(0.7))}" for _ in range(10))
        )
        for number in range(first, first + count)
    ]


def memory_item(number: int) -> dict[str, Any]:
    """Return what an agent remembers: a text of thirty words and two fields, by the first of which items are found."""
    words = " ".join(each.text for each in short_messages(number * 3, 3))
    return {"topic": f"topic {number % 100}", "text": words, "number": number}


def agent_state(number: int, messages: int = 50) -> dict[str, Any]:
    """Return a typical state of an agent, 20 KB for 50 messages: its conversation and a plan."""
    rng = random.Random(messages)
    conversation = [
        {
            "id": f"{rng.getrandbits(128):032x}",
            "role": "assistant" if index % 2 else "user",
            "content": [{"type": "text", "text": " ".join(_word(rng) for _ in range(90))}],
            "timestamp": f"2026-11-23 10:{index % 60:02}:{rng.randrange(60):02}.{rng.randrange(1000):03}",
        }
        for index in range(messages)
    ]
    steps = [{"name": f"step {index}", "state": "todo"} for index in range(8)]
    return {"number": number, "memory": {"content": conversation}, "plan": {"steps": steps}}


def _word(rng: random.Random) -> str:
    """Return an invented word. A few of them are frequent."""
    rank = int(rng.paretovariate(0.7))
    word = ""
    while rank or not word:
        rank, letter = divmod(rank, 19)
        word += "etaoinshrdlcumwfgyp"[letter]
    return word
