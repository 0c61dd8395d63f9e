"""Questions: the weights of their tokens, whom they ask about, and how much of a text asks."""

from collections.abc import Callable

import pytest

from agentstore.search import ranking
from agentstore.search.question import name_tokens, question_share, read_question
from tests.support.scaling import assert_linear


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0),
        ("I have three bikes.", 0),
        ("Any tips?", 100),
        ("?", 100),
        ("I have three bikes now. Any tips?", 29),
        ("Any tips? I have three bikes now.", 29),
        ('One two. Three four?\nfive six! Seven eight? "Nine ten?" he said', 50),
        ("See https://example.com/a?id=7 and a?b", 0),
        ("Is 3.5 enough? Yes", 80),
        ("我养了三只猫。它们可爱吗？", 45),
        ("هل هذا جيد؟", 100),
    ],
)
def test_share_of_the_words_in_sentences_that_ask(text: str, share: int) -> None:
    assert question_share(text) == share


@pytest.mark.parametrize("function", [question_share, lambda text: read_question(text, None, "english")])
@pytest.mark.parametrize("piece", ["?", "a b? ", "did you ", "你我说"])
def test_questions_are_read_in_linear_time(function: Callable[[str], object], piece: str) -> None:
    assert_linear(function, piece)


@pytest.mark.parametrize(
    "text",
    [
        "What did you recommend?",
        "Which book did you just suggest to me?",
        "You told me about a dessert shop",
        "what have you said about it",
        "the restaurant you've mentioned",
        "What was your first suggestion?",
        "I'm going back to our previous conversation",
        "the shop that we talked about",
        "Can you remind me of the shop?",
        "你给我推荐过哪些画家？",
        "你告诉过我哪些方法？",
        "5月3号你向我介绍了什么",
    ],
)
def test_a_question_about_the_assistant_prefers_its_messages(text: str) -> None:
    assert read_question(text, None, "english").other_speaker == ranking.ASKED_SPEAKER


@pytest.mark.parametrize(
    "text",
    [
        "What do you recommend?",
        "Can you suggest a book?",
        "What did I tell you?",
        "Did your sister call?",
        "Remind me when my flight leaves",
        "我和你说过什么？",
        "我曾经给你推荐过一部电影",
        "你有什么推荐",
        "",
    ],
)
def test_other_questions_prefer_messages_of_the_user(text: str) -> None:
    assert read_question(text, None, "english").other_speaker == ranking.OTHER_SPEAKER


def test_words_that_say_how_a_question_asks_weigh_less() -> None:
    tokens = read_question("How many bikes did I mention last week?", None, "english").tokens
    assert tokens == {"mani": 0.6, "bike": 1.0, "mention": 0.6, "last": 0.6, "week": 0.6}
    tokens = read_question("什么猫", None, "english").tokens
    assert (tokens["什么"], tokens["么猫"], tokens["猫"]) == (0.5, 1.0, 1.0)


def test_in_text_without_spaces_days_weigh_more_and_the_share_of_matches_counts() -> None:
    question = read_question("5月8日我去了公园", None, "english")
    assert (question.tokens["@--05-08"], question.coverage) == (3.0, 0.5)
    question = read_question("the park on May 8", None, "english")
    assert (question.tokens["@--05-08"], question.coverage) == (1.0, 0.0)
    assert read_question("ฉันชอบแมว", None, "english").coverage == 0.5
    assert read_question("Peking 北京 on the map of China", None, "english").coverage == 0.0


def test_a_speaker_is_named_by_the_first_name() -> None:
    assert name_tokens("Melanie Smith", "english") == "melani"
    assert name_tokens("小明", "english") == "小 明 小明"
    assert name_tokens("", "english") is None
    assert name_tokens(" \n", "english") is None
