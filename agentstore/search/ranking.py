"""The order in which memories fit a question: what is multiplied by what, and the numbers that were measured.

BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) over the tokens that a
memory has, each counted once, since an index of words knows no more. What was said around a memory in the same
session counts too: in a conversation the answer often has none of the question's words, and the turn before it has
them. The numbers were chosen on labelled conversations in English, Chinese and Japanese.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from agentstore.search.dates import SIGN
from agentstore.search.spelling import BEGINNING

K1, B = 0.9, 0.65
# A token that is in more memories than this, and than this many times the root of how many the user has, is left out,
# unless fewer than FEW others are in the question: it would cost much and tell little. That is 7 % of 10,000
# memories and 0.7 % of a million; the root, so that a search costs little more as they grow.
COMMON, COMMON_ROOT = 700, 7.0
FEW = 2
# So many hits are looked at in all, where a question has few tokens: those of a token beyond its part of them, and
# beyond COMMON, are passed over, and it counts as if every memory had it.
HITS = 20_000
# Where nothing is asked of who said it, so many of the best are looked at, or this many times as many as are wanted:
# who said it, and how, changes their order, and reaches no further.
LOOKED_AT, TIMES = 500, 4
# So many memories with the best scores of their own lend them to those around them.
LENDERS = 500
# A token is telling that is in no more than this part of the memories, where they are so many that it costs something
# to look for other spellings of a question's unknown words.
MANY, TELLING = 300, 0.01
# What a token counts so many turns after the memory that has it, and before.
AFTER, BEFORE = (0.7, 0.45, 0.25), (0.5, 0.25)
# Long messages speak for themselves: where a user's have more tokens than this on average, neighbours lend less.
TURN = 40.0
# What others than the user say, and questions, answer less often.
NOT_THE_USERS, QUESTION = 0.7, 0.7
# What a fact's score is multiplied by where its importance is 0; it is 1 at 0.5, and as much above 1 at 1.
LEAST_IMPORTANT = 0.75

# So many memories of the nearest meaning are looked at in a hybrid search, beside all that have words of the question.
NEAREST = 1_000

NEIGHBOURS = {
    0: 1.0,
    **dict(enumerate(AFTER, 1)),
    **{-step: weight for step, weight in enumerate(BEFORE, 1)},
}


# Of a question that is a whole text the beginning is looked for.
MOST_TOKENS = 300


# A tsvector has at most 1 MB, in which each lexeme takes some bytes beside its own.
_MOST_BYTES = 1_000_000
_BESIDE = 10
# Of a token of 100 characters, each of four bytes, with its user's mark.
_MOST_OF_ONE = 420


class Memory(NamedTuple):
    """What the order of a memory depends on."""

    session_id: str
    seq: int
    tokens: frozenset[str]
    length: int
    role: str | None
    is_question: bool
    # Of a fact; None: a message.
    importance: float | None = None


def is_question(text: str) -> bool:
    """Whether a text ends as a question does."""
    return text.rstrip().endswith(("?", "？", "؟"))


def lexeme(user_id: str, token: str) -> str:
    """Return the token as the index has it, where each is one user's."""
    return f"{_mark(user_id)}{token}"


def lexemes(user_id: str, tokens: Sequence[str]) -> str:
    """Return tokens in the form of a tsvector."""
    mark = _mark(user_id)
    together = "".join(tokens)
    if tokens and "'" not in together and "\\" not in together:
        return f"'{mark}" + f"' '{mark}".join(tokens) + "'"
    return " ".join(_quoted(f"{mark}{token}") for token in tokens)


def fitting(tokens: Sequence[str]) -> list[str]:
    """Return as many of the first tokens as one memory can be indexed by."""
    if len(tokens) * _MOST_OF_ONE < _MOST_BYTES:
        return list(tokens)
    found, size = [], 0
    for token in tokens:
        size += _BESIDE + 8 + (len(token) if token.isascii() else len(token.encode()))
        if size > _MOST_BYTES:
            break
        found.append(token)
    return found


def queries(user_id: str, tokens: Iterable[str]) -> list[str]:
    """Return a tsquery for each token: for the token itself, or for all that begin with it."""
    mark = _mark(user_id)
    return [
        f"{_quoted(f'{mark}{token.removesuffix(BEGINNING)}')}{':*' if token.endswith(BEGINNING) else ''}"
        for token in tokens
    ]


def beginnings(tokens: Iterable[str]) -> dict[str, float]:
    """Return what the words begin with that are looked for when none is found whole: two thirds, at least three."""
    words = (token for token in tokens if len(token) >= 3 and not token.startswith(SIGN))
    return {f"{word[: max(3, len(word) * 2 // 3)]}{BEGINNING}": 1.0 for word in words}


def rounded(score: float) -> float:
    """Return a score as it is compared: sums of the same numbers in another order are equal."""
    return round(score, 9)


def scores(
    memories: Sequence[Memory], tokens: Mapping[str, float], among: Callable[[Memory], bool], *, best: int | None = None
) -> dict[tuple[str, int], float]:
    """Return the score of each memory of a user that fits, by its session and number: what Postgres computes.

    `tokens` are those of the question, with what each counts; `best` is how many of the best are looked at.
    Only memories `among` those that are wanted are looked at, but all of the user's say what is long.
    """
    count = len(memories)
    all_tokens = sum(memory.length for memory in memories)
    if not count:
        return {}
    average = all_tokens / count or 1.0
    most = common(count)
    having = {token: [memory for memory in memories if among(memory) and has(memory, token)] for token in tokens}
    having = {token: found for token, found in having.items() if found}
    rare = sum(len(found) <= most for found in having.values())
    own: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for token, found in having.items():
        if len(found) > most and rare >= FEW:
            continue
        df = count if len(found) >= looked_through(count, len(tokens)) else len(found)
        idf = math.log(1 + (count - df + 0.5) / (df + 0.5)) * tokens[token]
        for memory in found:
            length = 1 - B + B * memory.length / average
            own[memory.session_id, memory.seq][token] = idf * (1 + K1) / (1 + K1 * length)
    totals = sorted((rounded(sum(each.values())) for each in own.values()), reverse=True)
    least = totals[:LENDERS][-1] if totals else 0.0
    lent: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    facts = {memory[:2] for memory in memories if memory.importance is not None}
    for (session, seq), found_tokens in own.items():
        lends = rounded(sum(found_tokens.values())) >= least
        for step, weight in NEIGHBOURS.items():
            if step and not (lends and (session, seq) not in facts):
                continue
            weight = weight if step == 0 else weight * min(1.0, TURN / average)
            there = lent[session, seq + step]
            for token, score in found_tokens.items():
                there[token] = max(there.get(token, 0.0), score * weight)
    if best is not None:
        totals = sorted((rounded(sum(got.values())) for got in lent.values()), reverse=True)
        least = totals[:best][-1] if totals else 0.0
        lent = defaultdict(dict, {place: got for place, got in lent.items() if rounded(sum(got.values())) >= least})
        own = defaultdict(dict, {place: got for place, got in own.items() if place in lent})
    return {
        memory[:2]: rounded(sum(got.values()) * prior(memory))
        for memory in memories
        if among(memory) and (got := (lent if memory.importance is None else own).get(memory[:2]))
    }


def fused(
    words: Mapping[tuple[str, int], float],
    meaning: Mapping[tuple[str, int], float],
    among: Callable[[tuple[str, int]], bool],
    priors: Mapping[tuple[str, int], float],
    weight: float,
    count: int,
) -> dict[tuple[str, int], float]:
    """Return the scores of a hybrid search, by the places of the memories.

    `words` are the scores of those `among` the wanted, `meaning` the similarities of all of the user's. Each is brought
    to a scale from 0 to 1: words from none at all to the most that a memory has, meaning from the least to the most
    similar. A memory that has no vector counts by its words.
    """
    near = sorted(filter(among, meaning), key=lambda place: (-meaning[place], place))[: max(NEAREST, count)]
    most = max(words.values(), default=0.0)
    low, high = min(meaning.values(), default=0.0), max(meaning.values(), default=0.0)

    def score(place: tuple[str, int]) -> float:
        by_words = words[place] / most if place in words and most else 0.0
        by_meaning = 0.0
        if place in meaning:
            by_meaning = (meaning[place] - low) / (high - low) if high > low else 1.0
        return rounded(weight * by_words + (1 - weight) * by_meaning * priors[place])

    return {place: score(place) for place in {*words, *near}}


def prior(memory: Memory) -> float:
    """Return what a memory's score is multiplied by for who said it, and how, or for a fact's importance."""
    if memory.importance is not None:
        return LEAST_IMPORTANT + memory.importance * (1 - LEAST_IMPORTANT) * 2
    return (1.0 if memory.role in (None, "user") else NOT_THE_USERS) * (QUESTION if memory.is_question else 1.0)


def common(count: int) -> int:
    """Return in how many of a user's `count` memories a token may be without being common."""
    return max(COMMON, math.ceil(COMMON_ROOT * math.sqrt(count)))


def looked_through(count: int, tokens: int) -> int:
    """Return how many of the memories are looked at that have one of a question's `tokens`."""
    return max(common(count) + 1, HITS // tokens)


def looked_at(top_k: int, role: str | None) -> int | None:
    """Return how many of the best are looked at for `top_k` of a role, or of any: all, where a role is wanted."""
    return max(LOOKED_AT, TIMES * top_k) if role is None else None


def is_telling(df: int, count: int) -> bool:
    """Whether a token that `df` of `count` memories have is enough to find by."""
    return count >= MANY and df <= count * TELLING


def has(memory: Memory, token: str) -> bool:
    """Whether a memory has a token, or one that begins with it."""
    if token.endswith(BEGINNING):
        return any(each.startswith(token[:-1]) for each in memory.tokens)
    return token in memory.tokens


def _mark(user_id: str) -> str:
    return blake2b(user_id.encode(), digest_size=4).hexdigest()


def _quoted(lexeme: str) -> str:
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"
