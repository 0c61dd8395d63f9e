"""Checks of the values of checkpoints in an export: a part of one that is missing could not be read."""

from typing import Any

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.schemas.pieces import check_pieces, unpack
from agentstore.settings import Settings
from agentstore.transfer.checks import read_bytes

_KEY = ("user_id", "session_id", "namespace", "channel")


class CheckpointValues:
    """The values of the channels of a block, those of a channel one after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key: tuple[Any, ...] | None = None
        # By version: how many bytes of its own each has; and the pieces and sources of those that have some.
        self._sizes: dict[str, int] = {}
        self._pieces: list[tuple[str, bytes, list[str]]] = []

    def add(self, values: dict[str, Any]) -> None:
        """Read a row.

        Raises:
            InvalidContent: its data is not what it says; or a value before it lacks a part.
            LimitExceeded: it is larger than `max_state_bytes`.
        """
        key = tuple(values.get(name) for name in _KEY)
        if key != self._key:
            self.finish()
            self._key = key
        version, pieces = str(values.get("version")), values.get("pieces")
        self._sizes[version] = check_packed(values, self._settings)
        if (pieces is None) != (values.get("sources") is None):
            raise InvalidContent("expected either sources and pieces, or none of them")
        if pieces is not None:
            self._pieces.append((version, read_bytes("pieces", pieces), list(values["sources"])))

    def finish(self) -> None:
        """Check the values of the last channel.

        Raises:
            InvalidContent: the pieces of one are not valid, or have a source that is not in the file.
            LimitExceeded: a value is larger than `max_state_bytes`.
        """
        for version, pieces, sources in self._pieces:
            try:
                size = check_pieces(pieces, [version, *sources], self._sizes)
            except ValueError as error:
                raise InvalidContent(f"a value before this line lacks a part: {error}") from error
            if size > self._settings.max_state_bytes:
                raise LimitExceeded(f"a value has {size} bytes, the maximum is {self._settings.max_state_bytes}")
        self._key, self._sizes, self._pieces = None, {}, []


def check_packed(values: dict[str, Any], settings: Settings) -> int:
    """Check the data of a row, and return its size.

    Raises:
        InvalidContent: it is not what the row says.
        LimitExceeded: it is larger than `max_state_bytes`.
    """
    data, size = read_bytes("data", values.get("data")), values.get("size")
    if not isinstance(size, int):
        raise InvalidContent("size is missing")
    if size > settings.max_state_bytes:
        raise LimitExceeded(f"data has {size} bytes, the maximum is {settings.max_state_bytes}: see MAX_STATE_BYTES")
    try:
        unpack(data, size)
    except ValueError as error:
        raise InvalidContent(f"data is not valid: {error}") from error
    return size
