"""The fields of a conversation besides its messages, whatever their types."""

from datetime import datetime
from typing import Any

from agentstore.importing.notes import Notes
from agentstore.schemas.parts import add_rest, json_type, quote
from agentstore.schemas.payload import MAX_TITLE
from agentstore.schemas.times import parse_time


class Head:
    """Reads the fields of a conversation; what has no valid value goes to the metadata unchanged, with a note."""

    def __init__(self, value: dict[str, Any], notes: Notes) -> None:
        """Read the fields of `value`."""
        self._value = value
        self._notes = notes
        self.unused: set[str] = set()
        """The names of fields that have no valid value."""

    def title(self) -> str | None:
        """Return the title, without characters that cannot be stored, and not longer than the limit."""
        title = self._value.get("title")
        if title is None:
            return None
        if not isinstance(title, str):
            self._drop("title", f"expected a string, got {json_type(title)}")
            return None
        repaired = title.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
        if repaired != title:
            self._notes.changed("title", "a character that Postgres cannot store became U+FFFD")
        if len(repaired) > MAX_TITLE:
            self._drop("title", f"cut after {MAX_TITLE:,} of {len(repaired):,} characters")
        return repaired[:MAX_TITLE]

    def time(self, name: str) -> datetime | None:
        """Return the timestamp in a field."""
        time = self._value.get(name)
        if time in (None, ""):
            return None
        found = parse_time(time)
        if found is None:
            self._drop(name, f"{quote(time)} is not a valid timestamp")
        return found

    def metadata(self, rest: dict[str, Any]) -> dict[str, Any]:
        """Return the metadata, and the other fields `rest`."""
        metadata = self._value.get("metadata") or {}
        if not isinstance(metadata, dict):
            self._drop("metadata", f"expected an object, got {json_type(metadata)}")
            rest, metadata = {"metadata": metadata, **rest}, {}
        return add_rest(metadata, rest, "conversation")

    def _drop(self, name: str, reason: str) -> None:
        self.unused.add(name)
        self._notes.changed(name, f"{reason}: stored in the metadata")
