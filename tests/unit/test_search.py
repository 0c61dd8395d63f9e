"""The analysis of texts into tokens, snippets, and the form of lexemes."""

import random

import pytest

from agentstore.search import analysis, ranking
from agentstore.search.analysis import tokens
from agentstore.search.snippets import Highlighter
from tests.support.scaling import assert_linear


@pytest.mark.parametrize(
    ("memory", "query"),
    [
        ("She was running late", "run"),
        ("naïve Café", "naive cafe"),
        ("ＡＢＣ １２３", "abc 123"),
        ("call getUserById()", "user"),
        ("the user_id column", "user id"),
        ("mail jane.doe@example.com", "jane.doe@example.com"),
        ("mail jane.doe@example.com", "example"),
        ("version v2.10.3 is out", "2.10.3"),
        ("see https://example.com/docs?id=7", "docs"),
        ("my e-bike", "ebike"),
        ("my ebike", "e-bike"),
        ("state-of-the-art", "art"),
        ("Anna's house", "Anna"),
        ("שָׁלוֹם לך", "שלום"),
        ("don’t panic", "don't"),
        ("I write C++ and C#", "c++"),
        ("party 🎉👍🏽", "🎉"),
        ("我对虾过敏", "虾"),
        ("我对虾过敏", "过敏"),
        ("東京タワー", "タワー"),
        ("我對蝦過敏", "对虾过敏"),
        ("对虾过敏", "對蝦"),
        ("気分が悪い", "氣"),
        ("한국어를 공부해요", "한국어"),
        ("ฉันชอบแมว", "แมว"),
        ("красивые дома", "дом"),
        ("Ёлка", "елка"),
        ("μεγάλη πόλη", "μεγαλη"),
        ("كتابٌ جميل", "كتاب"),
        ("हिन्दी में", "हिन्दी"),
        ("İstanbul", "istanbul"),
        ("Straße", "strasse"),
        ("Łódź", "lodz"),
        ("order 1,000 pieces", "1000"),
        ("order 1 000 pieces", "1000"),
        ("order 1.000 pieces", "1,000"),
        ("it costs 3.5k", "3500"),
        ("it costs $1,200.50", "1200"),
        ("invoice 000123", "123"),
        ("room 7", "007"),
        ("call +49 170 1234567", "0170/1234567"),
        ("call +1 (555) 123-4567", "555-123-4567"),
        ("commit 3f2a9bc8d7e6f5a4b3c2", "3f2a9bc"),
        ("Python3.11.4", "3.11"),
        ("https://example.com/docs?id=7", "example.com"),
        ("Müller", "Mueller"),
        ("Mueller", "Müller"),
        ("the O’Brien file", "obrien"),
        ("don't", "dont"),
        ("м’яч", "м'яч"),
        ("e\u2011bike", "ebike"),
        ("co\u00adoperate", "cooperate"),
        ("в школі", "школа"),
        ("בספרים", "ספר"),
        ("שלום", "שלומ"),
        ("বাংলাদেশের", "বাংলাদেশ"),
        ("المدرسة", "مدرسه"),
        ("كتـــاب", "كتاب"),
        ("کتاب", "كتاب"),
        ("٢٠٢٣", "2023"),
        ("To be, or not to be", "to be or not to be"),
        ("I heard The Who play", "The Who"),
        ("The Who are loud", "who"),
        ("my brother Will", "Will"),
        ("Will moved to Oslo.", "What did Will do?"),
        ("Will's house", "Will"),
        ("the US economy", "US"),
        ("WHO declared it", "What is the WHO?"),
        ("I work in IT, mostly", "IT"),
        ("it's mine", "its mine"),
        ("Wo sind die Häuser und was ist das?", "Haus"),
        ("¿Dónde están las canciones?", "canción"),
    ],
)
def test_query_and_memory_share_a_token(memory: str, query: str) -> None:
    assert set(tokens(memory, "english")) & set(tokens(query, "english"))


@pytest.mark.parametrize(
    ("memory", "query"),
    [
        ("Who am I? A nurse.", "who am i"),
        ("Who am I?", "Who am I?"),
        ('He said: "To be or not to be", aloud', "To be or not to be?"),
        ("That's it.", "that's it"),
    ],
)
def test_a_question_of_function_words_finds_sentences_of_these(memory: str, query: str) -> None:
    wanted = set(tokens(query, "english"))
    assert wanted
    assert wanted <= set(analysis.memory_tokens(memory, None, "english").words)
    assert not wanted & set(analysis.memory_tokens("What he said to me was a lie, she is there", None, "english").words)


@pytest.mark.parametrize(
    ("memory", "query"),
    [
        ("aa bb", "ab"),
        ("Anna's", "Bob's"),
        ("🇨🇳", "🇨🇦"),
        ("the end of", "the"),
        ("tell us what it is", "US"),
        ("DO NOT TOUCH IT", "IT"),
        ("They say who it was. Will you come?", "Will"),
        ("a.b", ""),
        ("\0\ud800 \u200b", "\0"),
        ("?!.", "?"),
    ],
)
def test_unrelated_texts_share_no_token(memory: str, query: str) -> None:
    assert not set(tokens(memory, "english")) & set(tokens(query, "english"))


def _highlighted(query: str, text: str, length: int = 200) -> str:
    mark = Highlighter(tokens(query, "english"), "english", most=1_000)
    return "".join(f"[{part}]" if is_match else part for part, is_match in mark(text, length))


@pytest.mark.parametrize(
    ("query", "text", "highlighted"),
    [
        ("shrimp?", "No shrimps, please.", "No [shrimps], please."),
        ("过敏吗", "我对虾过敏。", "我对虾[过敏]。"),
        ("虾", "我对虾过敏。", "我对[虾]过敏。"),
        ("แมว", "ฉันชอบแมวมาก", "ฉันชอบ[แมว]มาก"),
        ("ＡＢＣ", "the abc song", "the [abc] song"),
        ("🎉", "party 🎉!", "party [🎉]!"),
        ("example", "mail jane@example.com today", "mail [jane@example.com] today"),
        ("nothing", "of that", "of that"),
        ("किताब", "मेरी किताब कहाँ है", "मेरी [किताब] कहाँ है"),
        ("كتاب", "هذا كِتَاب", "هذا [كِتَاب]"),
        ("AT&T", "call AT&T now", "call [AT&T] now"),
        ("🇩🇪", "go 🇩🇪 now", "go [🇩🇪] now"),
        ("café", "the cafe\u0301 there", "the [cafe\u0301] there"),
        ("👩‍👧", "see 👩‍👧 here", "see [👩‍👧] here"),
        ("x", "", ""),
    ],
)
def test_matches_are_highlighted(query: str, text: str, highlighted: str) -> None:
    assert _highlighted(query, text) == highlighted


def test_snippet_of_a_long_text_is_the_part_with_most_matches() -> None:
    text = "red " + "and so on " * 30 + "a red apple " + "and so on " * 30
    snippet = _highlighted("red apple", text, 80)
    assert "[red] [apple]" in snippet
    assert snippet.startswith("… ")
    assert snippet.endswith(" …")
    assert len(snippet) < 100


@pytest.mark.parametrize(
    ("query", "text"),
    [("哈哈", "哈" * 900), ("foo", "foo-" * 200 + "foo"), ("kiwi", "e\u0301" * 200 + " kiwi" * 40)],
)
def test_snippet_has_the_requested_length_and_splits_no_grapheme(query: str, text: str) -> None:
    snippet = _highlighted(query, text, 100).replace("[", "").replace("]", "")
    assert len(snippet) < 110
    assert not any(part.strip("… ").startswith("\u0301") for part in snippet.split())


def test_tokens_are_unique_short_and_in_order() -> None:
    found = tokens("zebra apple zebra " + "x" * 1_000, "english")
    assert found[:2] == ["zebra", "appl"]
    assert len(found) == len(set(found)) == 3
    assert max(map(len, found)) <= 100


def test_words_are_stemmed_in_the_configured_language() -> None:
    assert tokens("Häuser", "german") == ["haus"]
    assert tokens("Häuser", "simple") == ["hauser", "haeuser"]
    assert tokens("дома", "german") == tokens("дома", "simple") == ["дом"]


def test_tokens_of_this_version_do_not_change() -> None:
    """Other tokens would not match memories that are indexed already: increase VERSION when they change."""
    text = "Jane's e-bikes, snake_case, getHTTP v1.2: 我爱 東京 한국 ไทย 😀 дома x@y.com"
    assert analysis.VERSION == 6
    assert tokens(text, "english") == [
        *("jane", "e-bikes", "ebik", "e", "bike", "snake_case", "snakecas", "snake", "case", "gethttp", "get"),
        *(
            "http",
            "v1.2",
            "v12",
            "1.2",
            "v1",
            "v",
            "1",
            "2",
            "我",
            "爱",
            "我爱",
            "东",
            "京",
            "东京",
            "한",
            "국",
            "한국",
        ),
        *("ไท", "ทย", "ไทย", "😀", "дом", "x@y.com", "xycom", "x", "y.com", "y", "com"),
    ]


def test_simplified_and_traditional_have_the_same_tokens() -> None:
    assert tokens("我對蝦過敏，請記住", "english") == tokens("我对虾过敏，请记住", "english")


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a.",
        "a-",
        "@",
        "'",
        "A1",
        "词",
        "ไ",
        "👍",
        "\u0301",
        "\u0301\u0316",
        "a\u0301",
        "\0",
        "_",
        "/.",
        "a b ",
        "111 ",
        "1,111,",
        "1.2.",
        "1-",
        "(1",
        "🇨",
        "א",
        "0",
        "0 01 ",
        "Will ",
        "so The, ",
        "itIT",
        "to be. ",
    ],
)
def test_analysis_takes_linear_time(piece: str) -> None:
    assert_linear(lambda text: analysis.memory_tokens(text, None, "english"), piece)


def test_tokens_of_random_unicode_can_be_stored() -> None:
    rng = random.Random(5)
    for _ in range(300):
        text = "".join(chr(rng.choice([rng.randint(0, 0x2FF), rng.randint(0, 0x10FFFF)])) for _ in range(200))
        for token in tokens(text, "english"):
            assert token
            assert "\0" not in token
            token.encode()


def test_lexemes_differ_between_users() -> None:
    assert ranking.lexemes("alice", ["a'b\\c"]).startswith("'")
    one, other = (ranking.queries(user, ["apple"]) for user in ("alice", "bob"))
    assert one != other


def test_tokens_are_truncated_to_the_size_of_a_tsvector() -> None:
    many = [f"token{number}" for number in range(200_000)]
    indexed = ranking.truncate(many)
    assert many[: len(indexed)] == indexed
    assert 20_000 < len(indexed) < 100_000
