"""The calls of a Redis client that an import makes, on a dict: ``make peers`` reads a real Redis."""

from collections.abc import AsyncIterator
from typing import Any


class KeyValues:
    """A client of a database with these keys; a hash is a dict."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data

    async def scan_iter(self, match: str, count: int) -> AsyncIterator[str]:
        for key in self._data:
            if key.startswith(match.rstrip("*")):
                yield key

    async def get(self, key: str) -> Any:
        return self._data[key]

    async def hscan_iter(self, key: str, count: int) -> AsyncIterator[tuple[str, str]]:
        for field, value in self._data[key].items():
            yield field, value

    async def aclose(self) -> None:
        pass
