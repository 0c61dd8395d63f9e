"""The date tokens of texts and timestamps."""

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from agentstore.search import analysis
from agentstore.search.dates import dates_of_memory, dates_of_query
from tests.support.scaling import assert_linear

_NOW = datetime(2024, 6, 12, 10, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    "text",
    [
        *("2023-05-08", "2023/5/8", "2023.5.8", "2023-05-08T10:00:00Z", "8.5.2023", "08.05.23", "5/8/2023", "8/5/2023"),
        *(
            "8 May 2023",
            "8th of May, 2023",
            "May 8th, 2023",
            "may 8 2023",
            "on May 8, 2023, at 10",
            "Aug. 5 or 8 May 2023",
        ),
        *(
            "am 8. Mai 2023",
            "le 8 mai 2023",
            "8 de mayo de 2023",
            "8 de maio de 2023",
            "l'8 maggio 2023",
            "8 мая 2023 года",
        ),
        *(
            "2023年5月8日",
            "2023 年 5 月 8 日",
            "２０２３年５月８日",
            "2023年5月8號",
            "二〇二三年五月八日",
            "2023년 5월 8일",
        ),
    ],
)
def test_a_day_is_parsed_in_every_notation(text: str) -> None:
    memory = analysis.memory_tokens(f"we met {text} there", None, "english")
    assert {"@2023-05-08", "@--05-08", "@2023-05", "@--05", "@2023"} <= set(memory.dates)
    assert analysis.query_tokens(text, None, "english")["@2023-05-08"] == 1


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("what did I do on May 8?", {"@--05-08"}),
        ("May 2023", {"@2023-05", "@--05"}),
        ("in May", {"@--05"}),
        ("last May", {"@2024-05", "@--05"}),
        ("last July", {"@2023-07", "@--07"}),
        ("in the summer of 2023", {"@2023"}),
        ("im Dezember", {"@--12"}),
        ("в мае", {"@--05"}),
        ("5月8日", {"@--05-08"}),
        ("十二月二十五日", {"@--12-25"}),
        ("5月", {"@--05"}),
        ("5월 8일", {"@--05-08"}),
        ("2023年", {"@2023"}),
        ("on 13/5", {"@--05-13"}),
        ("yesterday", {"@2024-06-11"}),
        ("昨天", {"@2024-06-11"}),
        ("last Friday", {"@2024-06-07"}),
        ("last month", {"@2024-05"}),
        ("two Tuesdays ago", {"@2024-06-04"}),
        ("3 days ago", {"@2024-06-09"}),
        ("a month ago", {"@2024-05"}),
        ("14 months ago", {"@2023-04"}),
        ("a couple of years ago", {"@2022"}),
        ("on Monday", {"@2024-06-10"}),
        ("on Wednesday", {"@2024-06-12"}),
        ("next Wednesday", {"@2024-06-19"}),
        ("this Friday", {"@2024-06-14"}),
        ("上周二", {"@2024-06-04"}),
        ("上上周五", {"@2024-05-31"}),
        ("上个星期天", {"@2024-06-09"}),
        ("周二", {"@2024-06-11"}),
        ("大前天", {"@2024-06-09"}),
        ("三天前", {"@2024-06-09"}),
        ("两年前", {"@2022"}),
        ("2个月前", {"@2024-04"}),
        ("先週の火曜日", {"@2024-06-04"}),
        ("3日前", {"@2024-06-09"}),
        ("지난주 화요일", {"@2024-06-04"}),
        ("3일 전", {"@2024-06-09"}),
        ("去年", {"@2023"}),
    ],
)
def test_a_query_has_only_the_dates_that_it_names(text: str, tokens: set[str]) -> None:
    assert set(dates_of_query(text, _NOW)) == tokens


def test_weeks_ago_mean_the_seven_days_around() -> None:
    for text in ("two weeks ago", "两周前", "2週間前", "2주 전"):
        assert sorted(dates_of_query(text, _NOW)) == [
            *(f"@2024-05-{day}" for day in range(26, 32)), "@2024-06-01",
        ]  # fmt: skip
    assert len(dates_of_query("上周一起吃饭", _NOW)) == 7


def test_last_week_means_its_seven_days() -> None:
    found = [token for token, weight in dates_of_query("what did I say last week?", _NOW).items() if weight == 1]
    assert found == [f"@2024-06-{day:02}" for day in range(3, 10)]
    assert dates_of_query("what did I say last week?", None) == {}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "may I ask",
            "it may rain",
            "march on",
            "three 3/4 cups",
            "v2.10.3",
            "1.2.3.4",
            "10:30",
            "31/2/2023",
            "三个月",
        ),
        *(
            "call 555-0123",
            "1,999",
            "the 2023-99 list",
            "Mayor 8",
            "order 20235",
            "May 8:30",
            "what to do today",
            "on Tuesdays",
            "一周一次",
            "long ago",
            "@2023"[:1],
        ),
    ],
)
def test_text_without_a_date_has_no_date_tokens(text: str) -> None:
    assert not dates_of_query(text, _NOW)


def test_a_memory_has_the_day_of_its_timestamp_in_its_own_zone() -> None:
    late = datetime(2023, 5, 8, 23, 30, tzinfo=timezone(timedelta(hours=-7)))
    assert dates_of_memory("hello", late) == ["@2023-05-08", "@--05-08", "@2023-05", "@--05", "@2023"]
    assert dates_of_memory("hello", None) == []


def test_a_day_without_a_year_is_assigned_to_the_closest_year() -> None:
    assert "@2023-12-30" in dates_of_memory("we left on December 30", datetime(2024, 1, 5, tzinfo=UTC))
    assert "@2024-01-05" in dates_of_memory("we leave on January 5", datetime(2023, 12, 30, tzinfo=UTC))
    assert "@2024-06-11" in dates_of_memory("we left yesterday", _NOW)
    assert "@2024-06-09" in dates_of_memory("we left three days ago", _NOW)
    assert "@2024-06-10" not in dates_of_memory("we meet on Monday", _NOW)


def test_date_tokens_are_distinct_from_words() -> None:
    memory = analysis.memory_tokens("@2023-05-08 @--05 May 8", _NOW, "english")
    assert not any(word.startswith("@") for word in memory.words)
    assert all(date.startswith("@") for date in memory.dates)


@pytest.mark.parametrize(
    "piece",
    [
        "may ",
        "8 may ",
        "2023-",
        "5/",
        "1 ",
        "в ",
        "5月",
        "年",
        "last ",
        "2023 ",
        "  ",
        "8.",
        "一",
        "İ",
        "in may 8 ",
        "two days ago ",
        "上上周",
        "周",
    ],
)
def test_dates_are_limited_and_parsed_in_linear_time(piece: str) -> None:
    assert len(dates_of_memory(piece * (30_000 // len(piece)), _NOW)) <= 60
    assert_linear(lambda text: dates_of_memory(text, _NOW), piece)


@pytest.mark.parametrize("text", ["2 years ago", "999 years ago", "24 months ago", "999 months ago"])
def test_there_is_no_year_0(text: str) -> None:
    assert dates_of_query(text, datetime(2, 1, 1)) == {}


def test_no_text_or_timestamp_raises_an_error() -> None:
    rng = random.Random(6)
    pieces = [
        "may",
        "8",
        "2023",
        "29",
        "february",
        "last week",
        "last year",
        "999 years ago",
        " months ago",
        "on monday",
        "上周二",
        "天前",
        "昨天",
        "月",
        "年",
        "日",
        "/",
        "-",
        ".",
        " ",
        "²",
        "٣",
    ]
    for moment in (datetime(2, 1, 1), datetime(1900, 1, 1), datetime.max.replace(year=9000), _NOW, None):
        for _ in range(500):
            text = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
            dates_of_memory(text, moment)
            dates_of_query(text, moment)
