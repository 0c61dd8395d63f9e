"""Dates as tokens, so that a query for "May 8" matches memories of that day, or about it, in any notation.

The tokens begin with "@", unlike those of words: ``@2023-05-08`` is a day, ``@2023-05`` a month, ``@2023`` a year, and
``@--05-08`` and ``@--05`` are a day and a month of any year. A memory has the tokens of its dates and of the months and
years that contain them; a query has only the tokens of the dates it names.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import chain
from typing import NamedTuple

SIGN = "@"
# The maximum number of date tokens for one text, so that a calendar does not match every date.
_MAX_TOKENS = 60
_HALF_YEAR = 186
# The weight of the same day in any year, when the query names the year.
_ANY_YEAR_WEIGHT = 0.3

_LANGUAGES = (
    "january february march april may june july august september october november december",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "januari februari maart april mei juni juli augustus september oktober november december",
    "januari februari mars april maj juni juli augusti september oktober november december",
    "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
    "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "январе феврале марте апреле мае июне июле августе сентябре октябре ноябре декабре",
    "січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня",
    "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
    "ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim kasım aralık",
)
# Abbreviations, which are a month only next to a day or a year.
_SHORT = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTHS = {
    "sept": 9,
    "okt": 10,
    "dez": 12,
    "janv": 1,
    "févr": 2,
    "fevrier": 2,
    "aout": 8,
    "decembre": 12,
    "marz": 3,
    **{name: number for number, name in enumerate(_SHORT.split(), 1)},
    **{name: number for names in _LANGUAGES for number, name in enumerate(names.split(), 1)},
}
_FULL = {name for names in _LANGUAGES for name in names.split()}
# Words that are also something else: a month only next to a day or a year, or after a word that precedes months.
_AMBIGUOUS = {
    "may",
    "march",
    "mars",
    "mai",
    "mei",
    "maj",
    "maja",
    "mayo",
    "ekim",
    "mart",
    "ocak",
    "april",
    "june",
    "august",
}
_BEFORE_MONTH = re.compile(
    r"\b(?:in|last|next|since|until|till|during|early|late|mid|every|im|letzten|seit|bis|en|em|depuis|de|du|di|nel|"
    r"i|w|в|с|до)\s$"
)

_LAST = re.compile(r"(?<!\w)(?:last|letzten|прошлом)\s$")
_NAME = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(_MONTHS, key=len, reverse=True))})(?!\w)")
_DAY_BEFORE = re.compile(r"(?<![\w.,:/])(\d{1,2})(?:st|nd|rd|th|er|º|\.)?\s{1,2}(?:of\s|de\s)?$")
_DAY_AFTER = re.compile(r"\.?\s{1,2}(?:the\s)?(\d{1,2})(?:st|nd|rd|th)?(?![\w:%]|\.\d)")
_YEAR_AFTER = re.compile(r"\.?,?\s{1,2}(?:de\s|del\s|of\s)?((?:19|20)\d\d)(?!\w)")

_NUMERIC = re.compile(
    r"(?<![\w./-])(?:"
    r"(?P<year>(?:19|20)\d\d)(?P<by>[-/.])(?P<month>\d{1,2})(?:(?P=by)(?P<day>\d{1,2}))?(?!\d|[-/]\d)"
    r"|(?P<one>\d{1,2})(?P<between>[-/.])(?P<two>\d{1,2})(?P=between)(?P<last>(?:19|20)\d\d|\d\d)(?!\w|[-/.]\d)"
    r"|(?P<alone>(?:19|20)\d\d)(?![\w%年년]|[-/.:,]\d)"
    r")"
)
# Two numbers without a year may be anything: they are a date only after a word that precedes dates.
_NO_YEAR = re.compile(
    r"\b(?:on|since|until|before|after|am|vom|zum|bis|seit|le|el|il|em|del|dal)\s(\d{1,2})([/.])(\d{1,2})(?!\d|[/.]\d)"
)
_NUMERALS = "一二三四五六七八九十"
_EAST = re.compile(
    rf"(?:(?<!\d)(?P<year>\d{{4}}|[〇零一二三四五六七八九]{{4}})\s?[年년])"
    rf"|(?<![\d{_NUMERALS}])(?P<month>\d{{1,2}}|[{_NUMERALS}]{{1,2}})\s?[月월]"
    rf"(?:份|\s?(?P<day>\d{{1,2}}|[{_NUMERALS}]{{1,3}})\s?[日号號일])?"
)

# Without "today", which is the date of the message itself, and which in a query ("what to do today") does not ask for
# memories of that day; and without ambiguous words such as "hier" and "mañana".
_DAYS = {
    **dict.fromkeys(["yesterday", "gestern", "ayer", "ontem", "ieri", "вчера", "昨天", "昨日", "어제"], -1),
    **dict.fromkeys(["tomorrow", "demain", "amanhã", "domani", "завтра", "明天", "明日", "내일"], 1),
    **dict.fromkeys(["vorgestern", "avant-hier", "anteayer", "позавчера", "前天", "一昨日", "그저께"], -2),
    "the day before yesterday": -2,
    "大前天": -3,
}
_SPANS = {
    "last week|letzte woche|semana pasada|semana passada|semaine dernière|прошлой неделе|上周|上週|上星期|先週"
    "|지난주": "week",
    "last month|letzten monat|mes pasado|mês passado|mois dernier|прошлом месяце|上个月|上個月|先月|지난달": "month",
    "last year|letztes jahr|año pasado|ano passado|année dernière|прошлом году|去年|昨年|작년": "year",
}
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_DAYS_OF_WEEK = ("一月월", "二火화", "三水수", "四木목", "五金금", "六土토", "日天일")
# Not 上周一起, "last week together".
_DAY_OF_WEEK = rf"[{''.join(_DAYS_OF_WEEK)}](?![起直个個样樣])"
_RELATIVE = re.compile(
    rf"(?<![a-zа-я])(?:(?P<days>{'|'.join(sorted(_DAYS, key=len, reverse=True))})"
    # Not 上上周, and not 上周二, which is one day of it.
    + "".join(rf"|(?<!上)(?P<{span}>{words})(?!(?:の|\s)?{_DAY_OF_WEEK})" for words, span in _SPANS.items())
    + rf"|last (?P<weekday>{'|'.join(_WEEKDAYS)}))(?![a-zа-я])"
)
# "3 days ago", "two Tuesdays ago", 三天前, 2週間前, 3일 전.
_COUNTS = {
    **dict.fromkeys(["a", "an", "one", "last"], 1),
    **dict.fromkeys(["two", "a couple of", "两", "兩"], 2),
    **dict(zip(["three", "four", "five", "six", "seven", "eight", "nine", "ten"], range(3, 11), strict=True)),
}
_UNITS = {
    **dict.fromkeys(["day", "天", "日", "일"], "day"),
    **dict.fromkeys(["week", "周", "週", "个星期", "個星期", "星期", "个礼拜", "週間", "주", "주일"], "week"),
    **dict.fromkeys(["month", "个月", "個月", "ヶ月", "か月", "カ月", "개월", "달"], "month"),
    **dict.fromkeys(["year", "年", "년"], "year"),
}
_LONGEST_FIRST = sorted(_UNITS, key=len, reverse=True)
_AGO = re.compile(
    rf"(?<!\w)(?P<count>\d{{1,3}}|{'|'.join(each for each in _COUNTS if each.isascii())})"
    rf" (?:(?P<unit>{'|'.join(each for each in _LONGEST_FIRST if each.isascii())})|(?P<weekday>{'|'.join(_WEEKDAYS)}))"
    r"s? ago(?!\w)"
    rf"|(?<![\d{_NUMERALS}月월])(?P<many>\d{{1,3}}|[{_NUMERALS}]{{1,3}}|[两兩])\s?"
    rf"(?P<of>{'|'.join(each for each in _LONGEST_FIRST if not each.isascii())})\s?[之以]?(?:前|전)"
)
# "next Tuesday", "on Tuesday", 周二, 上周二, 先週の火曜日, 지난주 화요일. A plural, as in "on Tuesdays", is no date.
_WEEKS = {
    **dict.fromkeys(["上上周", "上上週", "上上星期", "先々週", "지지난주"], -2),
    **dict.fromkeys(["上周", "上週", "上星期", "上个星期", "上個星期", "上礼拜", "先週", "지난주", "지난 주"], -1),
    **dict.fromkeys(["这周", "這週", "这星期", "本周", "本週", "今週", "이번 주", "이번주"], 0),
    **dict.fromkeys(["下周", "下週", "下星期", "下个星期", "下個星期", "下礼拜", "来週", "다음 주", "다음주"], 1),
}
_WEEKDAY = re.compile(
    rf"(?<!\w)(?P<which>on|next|this|last|since) (?P<weekday>{'|'.join(_WEEKDAYS)})(?!\w)"
    rf"|(?P<week>{'|'.join(sorted(_WEEKS, key=len, reverse=True))})(?:の|\s)?(?P<day>{_DAY_OF_WEEK})"
    rf"|(?<![{_NUMERALS}\d两每])(?:周|週|星期|礼拜)(?P<bare>{_DAY_OF_WEEK})"
)
_AGO_HINTS, _WEEKDAY_HINTS = (" ago", "前", "전"), (*_WEEKDAYS, "周", "週", "期", "拜", "주")
_ALPHABETIC = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")
# A text without any of these words has no date in words, so most texts need no further parsing. Checked for ASCII text
# only, since other text may have no spaces between words.
_HINTS = frozenset(
    _ALPHABETIC.findall(each)[0]
    for each in [*_MONTHS, *_DAYS, *(each for words in _SPANS for each in words.split("|")), "last", "ago", *_WEEKDAYS]
    if not each.startswith("the ")
)


class _Date(NamedTuple):
    """A year, a month or a day; a month or a day may be without a year."""

    year: int | None
    month: int | None = None
    day: int | None = None

    def tokens(self) -> list[str]:
        """Return the token of the date, then that of any year, and then those of its month and year."""
        year = f"{self.year:04}" if self.year else None
        month = f"{self.month:02}" if self.month else None
        found = []
        if month and self.day:
            found += [f"{year}-{month}-{self.day:02}"] if year else []
            found += [f"--{month}-{self.day:02}"]
        if month:
            found += [f"{year}-{month}"] if year else []
            found += [f"--{month}"]
        return [f"{SIGN}{each}" for each in [*found, *([year] if year else [])]]


def dates_of_memory(text: str, time: datetime | None) -> list[str]:
    """Return the date tokens of a memory: of its timestamp, in its own time zone, and of the dates in its text.

    A day or month without a year is assigned to the year in which it is closest to `time`.
    """
    found = dict.fromkeys(_Date(time.year, time.month, time.day).tokens() if time else ())
    lower = text.lower()
    is_worded = _is_worded(lower)
    for each in chain(_dates(lower, time, is_worded), _relative_dates(lower, time, is_worded, of_query=False)):
        if not each.year and time and each.month:
            each = each._replace(year=_nearest(each, time))
        found.update(dict.fromkeys(each.tokens()))
        if len(found) > _MAX_TOKENS:
            break
    return list(found)[:_MAX_TOKENS]


def dates_of_query(text: str, time: datetime | None) -> dict[str, float]:
    """Return the date tokens of a query with their weights. Words such as "yesterday" are relative to `time`."""
    found: dict[str, float] = {}
    lower = text.lower()
    is_worded = _is_worded(lower)
    for each in _dates(lower, time, is_worded):
        if not each.year and not each.month:
            continue  # there is no year 0
        own, *wider = each.tokens()
        found[own] = 1.0
        if each.year and each.month:
            found.setdefault(wider[0], _ANY_YEAR_WEIGHT)
        if len(found) > _MAX_TOKENS:
            return found
    for each in _relative_dates(lower, time, is_worded, of_query=True):
        found[each.tokens()[0]] = 1.0  # never of another year
        if len(found) > _MAX_TOKENS:
            break
    return found


def _is_worded(lower: str) -> bool:
    """Return whether a text in lower case may have a date in words."""
    return not lower.isascii() or not _HINTS.isdisjoint(_ALPHABETIC.findall(lower))


def _dates(lower: str, time: datetime | None, is_worded: bool) -> Iterator[_Date]:
    """Yield the dates that a text in lower case names, besides those of :func:`_relative_dates`."""
    years: set[int] = set()
    if is_worded:
        yield from _worded(lower, time, years)
    if _DIGIT.search(lower):
        yield from _numeric(lower, years)
    if not lower.isascii():
        yield from _eastern(lower)


def _relative_dates(lower: str, time: datetime | None, is_worded: bool, *, of_query: bool) -> Iterator[_Date]:
    """Yield the dates that a text in lower case names relative to `time`.

    Weeks, and days of a week that may be the past or the next one, only in a query.
    """
    if time is None or not is_worded:
        return
    today = time.date()
    try:
        yield from _relative(lower, today, of_query)
        # In most texts there is neither, and searching for a character is faster.
        if any(each in lower for each in _AGO_HINTS):
            yield from _ago(lower, today, of_query)
        if any(each in lower for each in _WEEKDAY_HINTS):
            yield from _weekdays(lower, today, of_query)
    except OverflowError:  # before the year 1 or after 9999
        return


def _worded(text: str, time: datetime | None, years: set[int]) -> Iterator[_Date]:
    """Yield the dates with the name of a month, and add the positions of their years to `years`."""
    for name in _NAME.finditer(text):
        month, end = _MONTHS[name.group()], name.end()
        before = text[max(0, name.start() - 12) : name.start()]
        day = _DAY_BEFORE.search(before)
        if not day and (day := _DAY_AFTER.match(text, end)):
            end = day.end()
        year = _YEAR_AFTER.match(text, end)
        if year:
            years.add(year.start(1))
        if day or year:
            yield from _valid(year and year.group(1), month, day and day.group(1))
        elif _LAST.search(before) and time:
            yield _Date(time.year - (month >= time.month), month)
        elif name.group() in _FULL and (name.group() not in _AMBIGUOUS or _BEFORE_MONTH.search(before)):
            yield _Date(None, month)


def _numeric(text: str, years: set[int]) -> Iterator[_Date]:
    for found in _NUMERIC.finditer(text):
        if found["year"]:
            yield from _valid(found["year"], found["month"], found["day"])
        elif found["alone"]:
            if found.start() not in years:
                yield _Date(int(found["alone"]))
        else:
            year = found["last"] if len(found["last"]) == 4 else f"20{found['last']}"
            yield from _either(year, found["one"], found["two"], found["between"])
    for found in _NO_YEAR.finditer(text):
        yield from _either(None, found[1], found[3], found[2])


def _either(year: str | None, one: str, two: str, between: str) -> Iterator[_Date]:
    """Yield the date with the day first, and with the month first unless the separator is a dot."""
    yield from _valid(year, two, one)
    if between != ".":
        yield from _valid(year, one, two)


def _eastern(text: str) -> Iterator[_Date]:
    year, end = None, -1
    for found in _EAST.finditer(text):
        if found["year"]:
            if year:
                yield _Date(int(year))
            year, end = _arabic(found["year"]), found.end()
            continue
        together = year if year and found.start() - end <= 1 else None
        if year and not together:
            yield _Date(int(year))
        yield from _valid(together, _arabic(found["month"]), found["day"] and _arabic(found["day"]))
        year = None
    if year:
        yield _Date(int(year))


def _arabic(numeral: str) -> str:
    """Convert a number below 100 or a year to digits, if it is written in Han numerals."""
    if numeral.isdecimal():
        return numeral
    if len(numeral) == 4:
        return "".join(str("〇一二三四五六七八九".find(each.replace("零", "〇"))) for each in numeral)
    tens, ten, ones = numeral.rpartition("十")
    value = _NUMERALS.find(ones) + 1
    return str((_NUMERALS.find(tens) + 1 if tens else 1) * 10 + value) if ten else str(value)


def _relative(text: str, today: date, weeks: bool) -> Iterator[_Date]:
    for found in _RELATIVE.finditer(text):
        if found["days"]:
            yield _of(today + timedelta(_DAYS[found["days"]]))
        elif found["weekday"]:
            back = (today.weekday() - _WEEKDAYS.index(found["weekday"]) - 1) % 7 + 1
            yield _of(today - timedelta(back))
        elif found["month"]:
            last = today.replace(day=1) - timedelta(1)
            yield _Date(last.year, last.month)
        elif found["year"]:
            yield from _year(today.year - 1)
        elif weeks:
            monday = today - timedelta(today.weekday() + 7)
            yield from (_of(monday + timedelta(day)) for day in range(7))


def _ago(text: str, today: date, of_query: bool) -> Iterator[_Date]:
    for found in _AGO.finditer(text):
        word = found["count"] or found["many"]
        count = _COUNTS.get(word) or int(_arabic(word))
        unit = _UNITS.get(found["unit"] or found["of"], "")
        if found["weekday"]:
            back = (today.weekday() - _WEEKDAYS.index(found["weekday"]) - 1) % 7 + 1
            yield _of(today - timedelta(back + 7 * (count - 1)))
        elif unit == "day":
            yield _of(today - timedelta(count))
        elif unit == "month":
            months = today.year * 12 + today.month - 1 - count
            yield from _valid(str(months // 12), months % 12 + 1, None)
        elif unit == "year":
            yield from _year(today.year - count)
        elif of_query:
            yield from (_of(today - timedelta(7 * count + day)) for day in range(-3, 4))


def _weekdays(text: str, today: date, of_query: bool) -> Iterator[_Date]:
    monday = today - timedelta(today.weekday())
    for found in _WEEKDAY.finditer(text):
        if found["day"]:
            day = next(number for number, names in enumerate(_DAYS_OF_WEEK) if found["day"] in names)
            yield _of(monday + timedelta(7 * _WEEKS[found["week"]] + day))
            continue
        if found["bare"]:
            day = next(number for number, names in enumerate(_DAYS_OF_WEEK) if found["bare"] in names)
        else:
            day = _WEEKDAYS.index(found["weekday"])
        if found["which"] == "next":
            yield _of(today + timedelta((day - today.weekday() - 1) % 7 + 1))
        elif found["which"] == "this":
            yield _of(monday + timedelta(day))
        elif of_query and found["which"] != "last":  # that is a relative date already
            yield _of(today - timedelta((today.weekday() - day) % 7))


def _year(year: int) -> Iterator[_Date]:
    """Yield the year if it exists, as does each from 1 on."""
    if year > 0:
        yield _Date(year)


def _of(day: date) -> _Date:
    return _Date(day.year, day.month, day.day)


def _valid(year: str | None, month: str | int, day: str | None) -> Iterator[_Date]:
    """Yield the date if it exists; without a year, 29 February does."""
    try:
        made = date(int(year) if year else 2000, int(month), int(day) if day else 1)
    except ValueError:
        return
    yield _Date(made.year if year else None, made.month, made.day if day else None)


def _nearest(when: _Date, time: datetime) -> int:
    behind = ((when.month or 1) - time.month) * 31 + (when.day or time.day) - time.day
    return time.year + (behind < -_HALF_YEAR) - (behind > _HALF_YEAR)
