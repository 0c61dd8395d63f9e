"""Read all pages of a list, whose rows may be large."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from agentstore.errors import LimitExceeded
from agentstore.schemas import Page

T = TypeVar("T")


async def rows_of(read: Callable[[int, str | None], Awaitable[Page[T]]], size: int) -> AsyncIterator[T]:
    """Yield the rows of all pages, which `read` returns for a size and a cursor.

    Where a page of `size` rows is too large for one response, it and those that follow are smaller.

    Raises:
        LimitExceeded: one row is too large by itself.
    """
    cursor: str | None = None
    while True:
        try:
            page = await read(size, cursor)
        except LimitExceeded:
            if size == 1:
                raise
            size = max(1, size // 10)
            continue
        for row in page:
            yield row
        if (cursor := page.next_cursor) is None:
            return
