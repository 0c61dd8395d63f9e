"""Timestamps as other programs write them, parsed."""

from datetime import UTC, datetime

# The formats of chat logs; ISO 8601 is parsed by fromisoformat.
_FORMATS = ("%I:%M %p on %d %B, %Y", "%Y/%m/%d (%a) %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d")
_FIRST_SECONDS = 1e8  # 1973
_MILLISECONDS = 1e11  # in seconds it would be the year 5138
_MAX_LENGTH = 1_000  # characters of a string that is parsed


def parse_time(value: object) -> datetime | None:
    """Parse a timestamp; return it in UTC, or None if it is not one. For the formats see :func:`local_time`."""
    time = local_time(value)
    return time and time.astimezone(UTC)


def local_time(value: object) -> datetime | None:
    """Parse a timestamp; return it in its own time zone, or None if it is not one.

    Accepted are ISO 8601, ``6:10 pm on 22 December, 2022``, ``2023/05/20 (Sat) 17:53``, ``2023/05/20`` with or without
    a time, and seconds or milliseconds since 1970, from 1973 on, as a number or in digits. Without a time zone it is
    UTC. A year before 1900 or after 9000 gives None, since programs write such years for an unknown time.
    """
    try:
        time = _parse(value)
        if time is None:
            return None
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
        year = time.astimezone(UTC).year
    except (ValueError, OverflowError, OSError):
        return None
    return time if 1900 <= year <= 9000 else None


def _parse(value: object) -> datetime | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _from_epoch(value)
    if not isinstance(value, str) or len(value) > _MAX_LENGTH:
        return None
    text = value.strip()
    # fromisoformat accepts any character between date and time, also a digit, and would parse milliseconds as a date.
    if text.isdecimal() and len(text) != 8:
        return _from_epoch(float(text))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        found = next(filter(None, (_from_format(text, each) for each in _FORMATS)), None)
        return found or _from_epoch(float(text))


def _from_format(text: str, pattern: str) -> datetime | None:
    try:
        return datetime.strptime(text, pattern)
    except ValueError:
        return None


def _from_epoch(seconds: float) -> datetime | None:
    if abs(seconds) < _FIRST_SECONDS:
        return None  # a year, or a date such as 20230520
    return datetime.fromtimestamp(seconds / 1000 if abs(seconds) >= _MILLISECONDS else seconds, UTC)
