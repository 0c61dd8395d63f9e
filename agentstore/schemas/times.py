"""Times as other programs write them."""

import math
from datetime import UTC, datetime

# Beyond ISO 8601, which fromisoformat reads: what chat logs hold.
_FORMATS = ("%I:%M %p on %d %B, %Y", "%Y/%m/%d (%a) %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d")
_MILLISECONDS = 1e11  # as seconds it would be the year 5138


def parse_time(value: object) -> datetime | None:
    """Return the time, in UTC, that a string or a number means, or None if it means none.

    ISO 8601, ``6:10 pm on 22 December, 2022``, ``2023/05/20 (Sat) 17:53``, and the seconds or milliseconds since
    1970, as a number or in digits. A time without a zone is UTC.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _of_epoch(value)
    if not isinstance(value, str) or not (text := value.strip()):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        other = next(filter(None, (_of_format(text, each) for each in _FORMATS)), None)
        if other is None:
            return _of_digits(text)
        time = other
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        return None


def _of_format(text: str, pattern: str) -> datetime | None:
    try:
        return datetime.strptime(text, pattern)
    except ValueError:
        return None


def _of_digits(text: str) -> datetime | None:
    try:
        return _of_epoch(float(text))
    except ValueError:
        return None


def _of_epoch(seconds: float) -> datetime | None:
    try:
        if not math.isfinite(seconds):
            return None
        return datetime.fromtimestamp(seconds / 1000 if abs(seconds) >= _MILLISECONDS else seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
