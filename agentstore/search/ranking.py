"""Ranking: the scores of memories for a query, their parameters, and a reference implementation.

The score is BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) over the
tokens of a memory, each counted once, because a GIN index has no term frequencies. Neighboring memories of the same
session count as well: in a conversation, the answer often has none of the query's words, while the turn before it has
them. The parameters were tuned on labeled conversations in English and Chinese, and on sentences of encyclopedias in
Chinese, Japanese and Thai. Where a comment has a figure, it is the gain of nDCG@10 in points, with its 90 % interval by
a paired bootstrap over the questions: of LoCoMo (two people, short turns), LongMemEval (a user and an assistant, long
turns), MemoryBank (the same in Chinese), JSQuAD (Japanese) and iapp-wiki-qa (Thai).

The search statement in :mod:`agentstore.repositories.memory.search` computes the same scores as :func:`scores`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from agentstore.search.dates import SIGN
from agentstore.search.spelling import PREFIX

K1, B = 0.9, 0.65
# A token is common if it is in more memories than COMMON, and in more than COMMON_ROOT times the square root of the
# user's memories: 7 % of 10,000 memories, and 0.7 % of a million. The root keeps the cost of a search nearly constant
# as the memories grow. Common tokens cost much and discriminate little: they are left out, unless the query has fewer
# than MIN_RARE others.
COMMON, COMMON_ROOT = 700, 7.0
MIN_RARE = 2
# The maximum number of matches read for a query, in equal shares for its tokens. A token with as many matches as its
# share is common, too: the longer the question, the rarer the tokens by which memories are found, so that a pasted page
# costs little more than a sentence. Of the matches of common tokens, no more than MAX_COMMON_HITS are read, or as many
# as make a token common. Where these count for lack of others, one with as many matches as are read is weighted as if
# it were in every memory, and beside other tokens not at all: equal texts have equal scores. Fewer hits lose answers
# where there are many memories: among the 55,000 messages of LoCoMo and LongMemEval together, a third of them -2.2
# (-3.0 to -1.5), two thirds -0.3 (-0.6 to -0.1).
MAX_HITS, MAX_COMMON_HITS = 30_000, 20_000
# For a user with memories of up to this many sessions, the number of the memories and their average length are exact:
# the sums of the sessions' numbers. For more sessions the last sums are taken, which are a few per cent off: to sum
# 100,000 takes several times as long as the rest of a search.
SUMMED_SESSIONS = 1_000
# Without a filter on the role, only this many of the best memories, or this many times the number of hits wanted, are
# looked up by key: the factors for role and form reorder these, and change little beyond them. 500 of them changed no
# figure of any set, nor among these 55,000 messages.
CANDIDATES, CANDIDATES_PER_HIT = 250, 4
# The number of memories, those with the best scores of their own, that lend their scores to their neighbors. 250 of
# them: among the same messages -0.3 (-0.4 to -0.1).
LENDERS = 500
# A token is selective if no more than this share of the memories have it. Applies to users with at least SELECTIVE_FROM
# memories, for whom looking up other spellings of unknown words is expensive.
SELECTIVE_FROM, SELECTIVE = 300, 0.01
# The weights with which a memory lends its score to the memories after it, and before it, by distance.
AFTER, BEFORE = (0.7, 0.45, 0.25), (0.5, 0.25)
# If the user's memories are longer than this on average, in tokens, neighbors lend proportionally less.
TURN = 40.0
# The average length by which BM25 normalizes is at least this one, in tokens. Where turns are short, a turn of average
# length is a fragment, which would beat a full answer: LoCoMo, with 15 tokens a turn, +1.1 (0.3 to 1.9).
MIN_AVERAGE = 55.0
# The factor for messages of other roles than the user, which contain the answer less often: LongMemEval +1.5 (0.8 to
# 2.4) by 0.55 instead of 0.7; and for the same messages if the question is about what the assistant said: LongMemEval
# +1.3 (0.3 to 2.4), MemoryBank +4.8 (1.4 to 8.6).
OTHER_SPEAKER, ASKED_SPEAKER = 0.55, 1.2
# What a message loses if all of its words are in sentences that ask; one of which half are loses half of that. A factor
# for messages that end with a question lost answers of the form "I have three. Any tips?": LongMemEval +2.2 (0.7 to
# 3.9).
QUESTION = 0.5
# The percentage that counts for a message indexed by a release that knew only whether it ends with a question.
FORMER_QUESTION = 60
# The factor for the messages of a speaker whom the question names: LoCoMo +0.6 (0.0 to 1.3), its recall +0.6 (0.2 to
# 1.2).
NAMED_SPEAKER = 1.11
# The weight of a question's words that say how it asks, and not about what, such as "how many" and "mentioned": LoCoMo
# +0.3 (-0.2 to 0.9), LongMemEval +1.3 (0.3 to 2.6). Of pairs of Chinese characters: CMRC +0.4 (0.1 to 0.8).
FILLER, FILLER_PAIR = 0.6, 0.5
# The score of a memory is multiplied by a power of the share of the question's tokens, by their weights, that it or a
# neighbor has. In text without spaces, where tokens are pairs of characters, any memory has some of them by chance:
# MemoryBank +2.0 (0.4 to 4.0), JSQuAD +1.0 (0.4 to 1.8), Thai +2.2 (1.4 to 3.1). Words: LongMemEval -4.8, so 0.
PAIRS_COVERAGE = 0.5
# The weight of a day in a question of such text, in which it is one token among many pairs.
DAY_AMONG_PAIRS = 3.0
# The factor for an item of importance 0. It is 1 for an importance of 0.5, and 1.25 for 1.
MIN_IMPORTANCE = 0.75

# Scores are rounded to a multiple of the inverse.
PRECISION = 1e9

# The number of nearest memories that a hybrid search ranks, besides all that match the query's words.
NEAREST = 1_000

# The weight of a score by its distance in the session.
NEIGHBORS = {
    0: 1.0,
    **dict(enumerate(AFTER, 1)),
    **{-step: weight for step, weight in enumerate(BEFORE, 1)},
}
STEPS, STEP_WEIGHTS = tuple(NEIGHBORS), tuple(NEIGHBORS.values())


# The maximum number of tokens in a query. Of a longer text, the first ones are searched for.
MAX_TOKENS = 300


# The maximum size of a tsvector is 1 MB, including some bytes of overhead for each lexeme.
_MAX_BYTES = 1_000_000
_OVERHEAD = 10
# The maximum size of a lexeme: 100 characters of four bytes, the user's hash and the overhead.
_MAX_LEXEME_BYTES = 420


class Memory(NamedTuple):
    """The properties of a memory by which it is ranked."""

    session_id: str
    seq: int
    tokens: frozenset[str]
    length: int
    role: str | None
    # The percentage of its words that are in sentences that ask.
    question_share: int = 0
    # The tokens of the speaker's name.
    speaker: frozenset[str] = frozenset()
    # None for messages.
    importance: float | None = None


class Question(NamedTuple):
    """What is searched for, and how it is ranked. See :func:`agentstore.search.question.read_question`."""

    tokens: Mapping[str, float]
    """The tokens with their weights."""
    other_speaker: float = OTHER_SPEAKER
    """The factor for messages of other roles than the user."""
    coverage: float = 0.0
    """The exponent of the share of the tokens that a memory has."""


def lexeme(user_id: str, token: str) -> str:
    """Return the lexeme of a token, which begins with a hash of the user."""
    return f"{_user_hash(user_id)}{token}"


def lexemes(user_id: str, tokens: Sequence[str]) -> str:
    """Return the text of a tsvector with the lexemes of the tokens."""
    prefix = _user_hash(user_id)
    joined = "".join(tokens)
    if tokens and "'" not in joined and "\\" not in joined:
        return f"'{prefix}" + f"' '{prefix}".join(tokens) + "'"
    return " ".join(_quoted(f"{prefix}{token}") for token in tokens)


def truncate(tokens: Sequence[str]) -> list[str]:
    """Return as many of the first tokens as fit into a tsvector."""
    if len(tokens) * _MAX_LEXEME_BYTES < _MAX_BYTES:
        return list(tokens)
    found, size = [], 0
    for token in tokens:
        size += _OVERHEAD + 8 + (len(token) if token.isascii() else len(token.encode()))
        if size > _MAX_BYTES:
            break
        found.append(token)
    return found


def queries(user_id: str, tokens: Iterable[str], labels: str | None = None) -> list[str]:
    """Return the text of a tsquery for each token, which matches the token itself or, if it is a prefix, by prefix.

    With `labels`, the tsquery of labels, it matches only memories that have these.
    """
    user = _user_hash(user_id)
    rest = "" if labels is None else f" & {labels}"
    return [
        f"{_quoted(f'{user}{token.removesuffix(PREFIX)}')}{':*' if token.endswith(PREFIX) else ''}{rest}"
        for token in tokens
    ]


def label_query(user_id: str, labels: Sequence[str]) -> str | None:
    """Return the text of a tsquery that matches memories with all of these labels; None if there are none."""
    return " & ".join(_quoted(lexeme(user_id, label)) for label in labels) or None


def prefixes(tokens: Iterable[str]) -> dict[str, float]:
    """Return prefixes of the words to search for when no word matches: two thirds of each, at least three letters."""
    words = (token for token in tokens if len(token) >= 3 and not token.startswith(SIGN))
    return {f"{word[: max(3, len(word) * 2 // 3)]}{PREFIX}": 1.0 for word in words}


def rounded(score: float) -> float:
    """Round a score, so that sums of the same numbers in another order are equal."""
    return round(score * PRECISION) / PRECISION


class Scored(NamedTuple):
    """The score of a memory, and whether it has a token of the query itself; else its neighbors have."""

    score: float
    is_match: bool


def scores(
    memories: Sequence[Memory],
    question: Question,
    among: Callable[[Memory], bool],
    *,
    best: int | None = None,
    neighbors: bool = True,
) -> dict[tuple[str, int], Scored]:
    """Return the score of each matching memory by its key, as the search statement computes it.

    `memories` are all of one user, which determine the average length. `among` returns whether a memory passes the
    filters. `best` limits the result to this many memories, the best by their words alone; None for all. `neighbors` is
    whether memories lend their score to their neighbors.
    """
    tokens = question.tokens
    count = len(memories)
    all_tokens = sum(memory.length for memory in memories)
    if not count or not tokens:
        return {}
    average = all_tokens / count or 1.0
    most, limit = max_matches(count, len(tokens)), common_from(count, len(tokens))
    matches = {token: [memory for memory in memories if among(memory) and has(memory, token)] for token in tokens}
    matches = {token: found for token, found in matches.items() if found}
    rare = sum(len(found) <= limit for found in matches.values())
    has_others = any(len(found) < most for found in matches.values())
    own: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    idfs: dict[str, float] = {}
    for token, found in matches.items():
        if len(found) > limit and rare >= MIN_RARE:
            continue
        df = count if len(found) >= most else len(found)
        idf = math.log(1 + (count - df + 0.5) / (df + 0.5)) * tokens[token]
        if len(found) >= most and has_others:
            idf = 0.0
        idfs[token] = idf
        for memory in found:
            length = 1 - B + B * memory.length / max(average, MIN_AVERAGE)
            own[memory.session_id, memory.seq][token] = idf * (1 + K1) / (1 + K1 * length)
    totals = sorted((rounded(sum(each.values())) for each in own.values()), reverse=True)
    least = totals[:LENDERS][-1] if totals else 0.0
    lent: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    items = {memory[:2] for memory in memories if memory.importance is not None}
    for (session, seq), found_tokens in own.items():
        lends = rounded(sum(found_tokens.values())) >= least
        for step, weight in NEIGHBORS.items():
            if step and not (neighbors and lends and (session, seq) not in items):
                continue
            weight = weight if step == 0 else weight * min(1.0, TURN / average)
            neighbor = lent[session, seq + step]
            for token, score in found_tokens.items():
                neighbor[token] = max(neighbor.get(token, 0.0), score * weight)
    by_key = {key: _total(each, idfs, question.coverage) for key, each in lent.items()}
    if best is not None:
        totals = sorted(map(rounded, by_key.values()), reverse=True)
        least = totals[:best][-1] if totals else 0.0
        by_key = {key: total for key, total in by_key.items() if rounded(total) >= least}
    of_items = {key: _total(own[key], idfs, question.coverage) for key in items if key in own and key in by_key}
    return {
        memory[:2]: Scored(rounded(total * prior(memory, question)), memory[:2] in own)
        for memory in memories
        if among(memory) and (total := (by_key if memory.importance is None else of_items).get(memory[:2])) is not None
    }


def _total(scores: Mapping[str, float], idfs: Mapping[str, float], coverage: float) -> float:
    """Return the score of a memory from those of its tokens, and from their share of all."""
    every = sum(idfs.values())
    share = sum(idfs[token] for token in scores) / every if every else 1.0
    return sum(scores.values()) * float(share**coverage)


def fused(
    words: Mapping[tuple[str, int], Scored],
    meaning: Mapping[tuple[str, int], float],
    among: Callable[[tuple[str, int]], bool],
    priors: Mapping[tuple[str, int], float],
    weight: float,
    count: int,
) -> dict[tuple[str, int], Scored]:
    """Return the scores of a hybrid search by the keys of the memories.

    `words` are the full-text scores of memories that pass the filters, `meaning` the similarities of all memories of
    the user, `among` returns whether a memory passes the filters, and `weight` is the share of the words. Both scores
    are scaled to the range from 0 to 1: words from 0 to the best score, meaning from the least to the greatest
    similarity. A memory without a vector counts by its words.
    """
    near = sorted(filter(among, meaning), key=lambda key: (-meaning[key], key))[: max(NEAREST, count)]
    matching = {*near, *(key for key, scored in words.items() if scored.is_match)}
    most = max((scored.score for scored in words.values()), default=0.0)
    low, high = min(meaning.values(), default=0.0), max(meaning.values(), default=0.0)

    def score(key: tuple[str, int]) -> float:
        by_words = words[key].score / most if key in words and most else 0.0
        by_meaning = 0.0
        if key in meaning:
            by_meaning = (meaning[key] - low) / (high - low) if high > low else 1.0
        return rounded(weight * by_words + (1 - weight) * by_meaning * priors[key])

    return {key: Scored(score(key), key in matching) for key in {*words, *near}}


def prior(memory: Memory, question: Question) -> float:
    """Return the factor for a message's role, form and speaker, or for an item's importance."""
    if memory.importance is not None:
        return 1 + (memory.importance * 2 - 1) * (1 - MIN_IMPORTANCE)
    factor = 1.0 if memory.role in (None, "user") else question.other_speaker
    factor *= 1 - QUESTION * memory.question_share / 100
    is_named = memory.speaker and all(token in question.tokens for token in memory.speaker)
    return factor * NAMED_SPEAKER if is_named else factor


def max_matches(count: int, tokens: int) -> int:
    """Return the maximum number of matches among `count` memories that are read for one of a query's `tokens`."""
    return min(MAX_HITS // tokens, max(_common(count) + 1, MAX_COMMON_HITS // tokens))


def common_from(count: int, tokens: int) -> int:
    """Return the number of a user's `count` memories above which one of a query's `tokens` is common."""
    return min(_common(count), max_matches(count, tokens) - 1)


def _common(count: int) -> int:
    return max(COMMON, math.ceil(COMMON_ROOT * math.sqrt(count)))


def candidates(top_k: int, role: str | None) -> int | None:
    """Return the number of best memories that are ranked for `top_k` hits; None for all, with a filter on the role."""
    return max(CANDIDATES, CANDIDATES_PER_HIT * top_k) if role is None else None


def is_selective(df: int, count: int) -> bool:
    """Return whether a token in `df` of `count` memories is rare enough to search without spelling corrections."""
    return count >= SELECTIVE_FROM and df <= count * SELECTIVE


def has(memory: Memory, token: str) -> bool:
    """Return whether a memory has a token, or one with this prefix."""
    if token.endswith(PREFIX):
        return any(each.startswith(token[:-1]) for each in memory.tokens)
    return token in memory.tokens


def _user_hash(user_id: str) -> str:
    return blake2b(user_id.encode(), digest_size=4).hexdigest()


def _quoted(lexeme: str) -> str:
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"
