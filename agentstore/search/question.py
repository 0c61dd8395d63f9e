"""Questions: what a query searches for, with weights, whom it asks about, and how much of a memory asks.

What each step is worth is in :mod:`agentstore.search.ranking`, with its parameters.
"""

import re
from datetime import datetime
from functools import lru_cache
from itertools import islice

from agentstore.search import analysis, dates, ranking

# The words of a question that say how it asks, and not about what: quantities, times, the conversation itself.
_FILLERS = """
    much many more most long often several number total amount average order kind type sort name thing something
    anything specific exactly different same one two three four five six
    time day week month year hour minute date today ago old before after since during between when
    first last next past latest earlier early late recent recently current currently previous previously
    mention say tell talk discuss ask answer question conversation chat remind remember recall suggest recommend
    know think want need like use find help try look see get got go went come take took make made give gave happen
    new good best please
"""
_FILLER_PAIRS = """
    什么 哪些 哪里 哪儿 哪个 哪位 哪天 怎么 怎样 如何 多少 多久 几个 几次 时候 何时 为何 为什么 是否 有没有 曾经 之前
    以前 最近 提到 提过 告诉 说过 记得 名字 我曾经 你曾经
"""
_SAID = (
    "recommended|suggested|told|said|mentioned|gave|given|listed|provided|described|explained|wrote|written|shared|"
    "advised|proposed|showed|shown|sent|taught|offered|generated|created|named|picked|chose|answered|planned|"
    "brought up|came up with|pointed out|referred|talked"
)
_SAY = (
    "recommend|suggest|tell|say|mention|give|list|provide|describe|explain|write|share|advise|propose|show|send|teach|"
    "offer|generate|create|name|pick|choose|answer|plan|bring up|come up with|point out|refer|talk"
)
# Questions about what the assistant said, in the past tense: an answer is then its message.
_ASKS_ASSISTANT = re.compile(
    rf"\bdid you (?:\w+ )?(?:{_SAY})\b|\b(?:have|had) you (?:\w+ )?(?:{_SAID})\b"
    rf"|\byou(?:['’]ve|['’]d| have| had)?(?: just| also| once| first| already| previously| originally| earlier)?"
    rf" (?:{_SAID})\b"
    r"|\byour (?:\w+ )?(?:recommendation|suggestion|advice|explanation|answer|response)s?\b"
    r"|\b(?:our|the) (?:previous|last|earlier|past|recent) (?:conversation|chat|discussion|session)s?\b"
    r"|\bwe (?:\w+ )?(?:talked|discussed|spoke|chatted)\b"
    r"|\bremind me\b(?![^.?!]{0,200}\bmy\b)"
    # Not 我给你推荐过, "what I recommended to you".
    r"|(?<![和给跟向对与问让为同])[你您][^，。？！,?!]{0,14}?"
    r"(?:推荐|建议|告诉|说|提到|提|介绍|分享|教|讲|列|写|回答|解释|提供)(?:过|了|的)",
    re.IGNORECASE,
)
# Characters of a name that are read.
_MAX_NAME = 100
_JOINED = re.compile(f"[{analysis.JOINED}]")
_DAY = re.compile(rf"{dates.SIGN}(?:\d{{4}}|-)-\d\d-\d\d")
_SENTENCE = re.compile(
    rf"(?P<word>[{analysis.JOINED}]|[^\W{analysis.JOINED}]+)"
    # Not the end of a sentence: the question mark of a URL, the point of a decimal.
    r"|(?P<asks>[?？؟](?![\w=&]))|[。！…\n]|[.!](?![\w])"
)


def read_question(text: str, time: datetime | None, language: str) -> ranking.Question:
    """Return what a query searches for, and how it is ranked. `time` is the current time for the query."""
    found = analysis.query_tokens(text, time, language)
    tokens = dict(islice(found.items(), ranking.MAX_TOKENS))
    words = [token for token in tokens if not token.startswith(dates.SIGN)]
    is_joined = 2 * sum(_JOINED.match(token) is not None for token in words) > len(words)
    for token in tokens:
        if token in _fillers(language):
            tokens[token] *= ranking.FILLER
        elif token in _filler_pairs():
            tokens[token] *= ranking.FILLER_PAIR
        elif is_joined and _DAY.fullmatch(token):
            tokens[token] *= ranking.DAY_AMONG_PAIRS
    return ranking.Question(
        tokens,
        ranking.ASKED_SPEAKER if _ASKS_ASSISTANT.search(text) else ranking.OTHER_SPEAKER,
        ranking.PAIRS_COVERAGE if is_joined else 0.0,
    )


def question_share(text: str) -> int:
    """Return the percentage of a text's words that are in sentences that end with a question mark."""
    if "?" not in text and "？" not in text and "؟" not in text:
        return 0
    asked = words = in_sentence = 0
    for found in _SENTENCE.finditer(text):
        if found.lastgroup == "word":
            in_sentence += 1
            continue
        words += in_sentence
        if found.lastgroup == "asks":
            asked += in_sentence
        in_sentence = 0
    words += in_sentence
    return round(100 * asked / words) if words else 100


def name_tokens(name: str, language: str) -> str | None:
    """Return the tokens of a speaker's first name, separated by spaces; None if there are none.

    A question names the speaker if it has all of them.
    """
    return _name_tokens(name[:_MAX_NAME], language) if name else None


@lru_cache(maxsize=1_000)
def _name_tokens(name: str, language: str) -> str | None:
    return " ".join(analysis.tokens("".join(name.split()[:1]), language)) or None


@lru_cache
def _fillers(language: str) -> frozenset[str]:
    return frozenset(token for token in analysis.tokens(_FILLERS, language) if not _JOINED.match(token))


@lru_cache
def _filler_pairs() -> frozenset[str]:
    return frozenset(token for token in analysis.tokens(_FILLER_PAIRS, "simple") if len(token) == 2)
