"""Timestamps as other programs write them, parsed."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# The formats of chat logs; ISO 8601 is parsed by fromisoformat.
_FORMATS = (
    "%I:%M %p on %d %B, %Y",
    "%B %d, %Y %I:%M%p",
    "%Y/%m/%d (%a) %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
)
# RFC 2822; the parser of the standard library also accepts much that is not a date.
_RFC_2822 = re.compile(r"(?:[A-Za-z]{3},? +)?\d{1,2} [A-Za-z]{3} \d{4} \d{1,2}:\d{2}(?::\d{2})?(?: [-+A-Za-z0-9() ]+)?")
_MAX_LENGTH = 1_000  # characters of a string that is parsed
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECONDS = 10**8  # 1973
# The number from which a time is counted in the next smaller unit, which is 1973 as well; in seconds the first would be
# the year 5138. With each, the number of the unit in a second.
_UNITS = ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3))


def parse_time(value: object) -> datetime | None:
    """Parse a timestamp; return it in UTC, or None if it is not one. For the formats see :func:`local_time`."""
    time = local_time(value)
    return time and time.astimezone(UTC)


def local_time(value: object) -> datetime | None:
    """Parse a timestamp; return it in its own time zone, or None if it is not one.

    Accepted are ISO 8601, ``6:10 pm on 22 December, 2022``, ``2023/05/20 (Sat) 17:53``, ``2023/05/20`` with or without
    a time, ``June 19, 2023 2:20pm``, RFC 2822, and seconds, milliseconds, microseconds or nanoseconds since 1970, from
    1973 on, as a number or in digits. Without a time zone it is UTC. A year before 1900 or after 9000 gives None, since
    programs write such years for an unknown time.
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
        return _from_epoch(int(text))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        found = next(filter(None, (_from_format(text, each) for each in _FORMATS)), None)
        if found is None and _RFC_2822.fullmatch(text):
            return parsedate_to_datetime(text)
        return found or _from_epoch(float(text))


def _from_format(text: str, pattern: str) -> datetime | None:
    try:
        return datetime.strptime(text, pattern)
    except ValueError:
        return None


def _from_epoch(value: float) -> datetime | None:
    if abs(value) < _FIRST_SECONDS:
        return None  # a year, or a date such as 20230520
    in_second = next((each for first, each in _UNITS if abs(value) >= first), 1)
    if isinstance(value, int):  # a float would lose microseconds
        return _EPOCH + timedelta(microseconds=value * 10**6 // in_second)
    return datetime.fromtimestamp(value / in_second, UTC)


def first_and_last(times: Iterable[object]) -> tuple[datetime | None, datetime | None]:
    """Return the earliest and the latest of the timestamps that are valid, None if none is."""
    found = [time for each in times if each is not None and (time := parse_time(each)) is not None]
    return (min(found), max(found)) if found else (None, None)
