"""Spelling correction for query words that no memory has: other spellings, and prefixes.

Candidate spellings are generated and looked up, instead of comparing the query with all words of a user: a GIN index
cannot list those, while looking up a candidate is one index probe, however many memories there are. This also corrects
a wrong first letter.
"""

import re
from collections.abc import Container, Iterable, Iterator, Sequence

# The suffix of a token that matches all tokens with that prefix. No token of a text ends with it.
PREFIX = "*"
# The weights of corrected spellings and of prefixes. The word itself has 1.
CORRECTION_WEIGHT, PREFIX_WEIGHT = 0.8, 0.5
# The unknown words of a query that are corrected, and the corrections that are searched for each.
MAX_UNKNOWN, MAX_CORRECTIONS = 2, 2
# Queries with more words than this are not corrected: a single word matters little in a long text.
_MAX_WORDS = 60
# Only words of this length are corrected: shorter ones are similar to too many others.
_MIN_LENGTH, _MAX_LENGTH = 4, 16

_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
)
# Each candidate costs an index probe. In Latin script, only frequent letters are tried as missing ones, and a letter is
# replaced only by its neighbors on a keyboard and by letters that sound alike.
_LOST = "etaoinsrhldcumgp"
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_ALIKE = ("aeiouy", "cks", "szx", "bvp", "dt", "gj", "mn", "vwf", "iyj", "rl")
_MISTAKEN = {
    letter: "".join(
        dict.fromkeys(
            other
            for row in (*_ROWS, *_ALIKE)
            for at, other in enumerate(row)
            if letter in row and other != letter and (row in _ALIKE or abs(row.index(letter) - at) == 1)
        )
    )
    for letter in _ALPHABETS[0]
}
_SOUNDS = (("f", "ph"), ("ph", "f"), ("k", "ck"), ("qu", "k"), ("k", "qu"), ("x", "ks"))
_WORD = re.compile("|".join(f"[{letters}]{{{_MIN_LENGTH},{_MAX_LENGTH}}}" for letters in _ALPHABETS))
_IDENTIFIER = re.compile("[0-9a-z]{5,40}")


def unknown_tokens(
    words: Sequence[tuple[str, ...]], known: Container[str], selective: Container[str] = ()
) -> list[str]:
    """Return the tokens of a query to search for in other forms: one for each unknown word, up to `MAX_UNKNOWN`.

    `words` are the tokens of each word of the query. A word is unknown if none of its tokens is in `known`; an
    identifier if its first token is not. Returns nothing if the query has a token that is in `selective`, by which the
    right memories are found anyway.
    """
    if any(token in selective for tokens in words for token in tokens):
        return []
    found: dict[str, None] = {}
    for first, *others in words if len(words) <= _MAX_WORDS else ():
        if first in known:
            continue
        if _IDENTIFIER.fullmatch(first) and any(map(str.isdecimal, first)):
            found[first] = None
        elif not any(each in known for each in others):
            found.update(dict.fromkeys([each for each in (first, *others) if is_word(each)][:1]))
        if len(found) == MAX_UNKNOWN:
            break
    return list(found)


def replacements(tokens: Iterable[str], known: Container[str]) -> dict[str, float]:
    """Return the tokens to search for in place of unknown ones, with their weights.

    These are the corrections that are in `known`, or else a prefix of the token.
    """
    found: dict[str, float] = {}
    for token in tokens:
        corrected = corrections(token, known) if is_word(token) else []
        found.update(dict.fromkeys(corrected, CORRECTION_WEIGHT))
        if not corrected:
            found[prefix_of(token) if is_word(token) else f"{token}{PREFIX}"] = PREFIX_WEIGHT
    return found


def prefix_of(word: str) -> str:
    """Return the token that matches all words which begin with the first two thirds of this one."""
    return f"{word[: max(_MIN_LENGTH, len(word) * 2 // 3)]}{PREFIX}"


def all_spellings(tokens: Iterable[str]) -> list[str]:
    """Return the candidate spellings of all tokens that are words."""
    return list(dict.fromkeys(each for token in tokens if is_word(token) for each in spellings(token)))


def is_word(token: str) -> bool:
    """Return whether a token is a word that can be corrected: letters of one alphabet, of a suitable length."""
    return _WORD.fullmatch(token) is not None


def spellings(word: str) -> list[str]:
    """Return all candidates one mistake away from a word, likelier ones first; also after undoubling its letters."""
    found = dict.fromkeys(_one_mistake(word))
    if (single := re.sub(r"(.)\1", r"\1", word)) != word:
        found.update(dict.fromkeys(_one_mistake(single)))
    found.pop(word, None)
    return list(found)


def corrections(word: str, known: Container[str]) -> list[str]:
    """Return the likeliest spellings of a word that are in `known`."""
    return [each for each in spellings(word) if each in known][:MAX_CORRECTIONS]


def _one_mistake(word: str) -> Iterator[str]:
    letters = next(each for each in _ALPHABETS if word[0] in each)
    lost, mistaken = (_LOST, _MISTAKEN) if letters is _ALPHABETS[0] else (letters, dict.fromkeys(letters, letters))
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    # The first letter is seldom wrong, so candidates that change it come last.
    for first in (cuts[1:], cuts[:1]):
        yield from (head + tail[1] + tail[0] + tail[2:] for head, tail in first if len(tail) > 1)
        yield from (head + letter + tail for head, tail in first for letter in (*lost, head[-1:]))
        yield from (head + tail[1:] for head, tail in first if tail)
        yield from (
            head + sound + tail[len(same) :] for head, tail in first for same, sound in _SOUNDS if tail.startswith(same)
        )
        yield from (head + letter + tail[1:] for head, tail in first if tail for letter in mistaken[tail[0]])
