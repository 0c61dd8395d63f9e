"""Times as other programs write them."""

from datetime import UTC, datetime

# Beyond ISO 8601, which fromisoformat reads: what chat logs hold.
_FORMATS = ("%I:%M %p on %d %B, %Y", "%Y/%m/%d (%a) %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d")
_FIRST_SECONDS = 1e8  # 1973
_MILLISECONDS = 1e11  # as seconds it would be the year 5138


def parse_time(value: object) -> datetime | None:
    """Return the time, in UTC, that a string or a number means, or None if it means none: see :func:`local_time`."""
    time = local_time(value)
    return time and time.astimezone(UTC)


def local_time(value: object) -> datetime | None:
    """Return the time, in its own zone, that a string or a number means, or None if it means none.

    ISO 8601, ``6:10 pm on 22 December, 2022``, ``2023/05/20 (Sat) 17:53``, and the seconds or milliseconds since
    1970, from 1973 on, as a number or in digits. A time without a zone is UTC. One before 1900 or after 9000 is none:
    it is how programs write that they know of none.
    """
    try:
        time = _read(value)
        if time is None:
            return None
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
        year = time.astimezone(UTC).year
    except (ValueError, OverflowError, OSError):
        return None
    return time if 1900 <= year <= 9000 else None


def _read(value: object) -> datetime | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _of_epoch(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    # A digit may stand between date and time for fromisoformat, so it would read milliseconds as a date.
    if text.isdecimal() and len(text) != 8:
        return _of_epoch(float(text))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        found = next(filter(None, (_of_format(text, each) for each in _FORMATS)), None)
        return found or _of_epoch(float(text))


def _of_format(text: str, pattern: str) -> datetime | None:
    try:
        return datetime.strptime(text, pattern)
    except ValueError:
        return None


def _of_epoch(seconds: float) -> datetime | None:
    if abs(seconds) < _FIRST_SECONDS:
        return None  # a year, or a day as 20230520
    return datetime.fromtimestamp(seconds / 1000 if abs(seconds) >= _MILLISECONDS else seconds, UTC)
