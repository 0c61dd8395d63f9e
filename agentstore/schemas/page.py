"""What lists and deletions answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

T = TypeVar("T")


class Page(Sequence[T]):
    """Part of a list, in order.

    ``next_cursor`` is None on the last page; else give it as ``cursor`` to the same call for the page after.
    """

    __slots__ = ("_items", "next_cursor")

    def __init__(self, items: Iterable[T] = (), next_cursor: str | None = None) -> None:
        self._items = list(items)
        self.next_cursor = next_cursor

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Page):
            return self._items == other._items and self.next_cursor == other.next_cursor
        return self._items == other if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"Page({self._items!r}, next_cursor={self.next_cursor!r})"


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows a deletion removed, by kind; true if it removed any."""

    sessions: int = 0
    messages: int = 0
    memories: int = 0
    state_rounds: int = 0

    def __bool__(self) -> bool:
        return any((self.sessions, self.messages, self.memories, self.state_rounds))
