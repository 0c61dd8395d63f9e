"""What a word may have been meant to be that no memory has: other spellings, and what it is the beginning of.

Spellings are made and looked up, rather than words read and compared: what a user's memories hold cannot be listed
from an index, while each spelling is one look into it, however much they hold. A wrong first letter is found as well.
"""

import re
from collections.abc import Container, Iterable, Iterator, Sequence

# The sign behind a token that stands for all that begin with it; no token of a text has it.
BEGINNING = "*"
# What a word in another spelling counts, and one that it is only the beginning of, where the word itself counts 1.
CORRECTED, BEGUN = 0.8, 0.5
# So many unknown words of a question are looked for, and so many spellings of one are taken.
WORDS, TAKEN = 2, 2
# What has more words than this is a text, in which one word more or less tells little.
_MOST_WORDS = 60
# Shorter words are near to too many others.
_SHORTEST, _LONGEST = 4, 16

_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
)
# Each spelling costs a look into the index, so of the Latin letters that may have been left out the rare ones are not
# tried, nor any letter for any other: only those beside it on a keyboard, and those that sound alike.
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
_WORD = re.compile("|".join(f"[{letters}]{{{_SHORTEST},{_LONGEST}}}" for letters in _ALPHABETS))
_IDENTIFIER = re.compile("[0-9a-z]{5,40}")


def unknown(words: Sequence[tuple[str, ...]], known: Container[str], telling: Container[str] = ()) -> list[str]:
    """Return the tokens to look for in other forms: of each word that has no known token, and of identifiers.

    `words` are the tokens of each word of a question; any of several can be known, but of an identifier only itself.
    None is looked for where another word has a token that is `telling`.
    """
    if any(token in telling for tokens in words for token in tokens):
        return []
    found: dict[str, None] = {}
    for first, *others in words if len(words) <= _MOST_WORDS else ():
        if first in known:
            continue
        if _IDENTIFIER.fullmatch(first) and any(map(str.isdecimal, first)):
            found[first] = None
        elif not any(each in known for each in others):
            found.update(dict.fromkeys([each for each in (first, *others) if is_word(each)][:1]))
        if len(found) == WORDS:
            break
    return list(found)


def meant(tokens: Iterable[str], known: Container[str]) -> dict[str, float]:
    """Return what unknown tokens may mean, and what that counts; of those with letters wrong, what is `known`."""
    found: dict[str, float] = {}
    for token in tokens:
        corrected = corrections(token, known) if is_word(token) else []
        found.update(dict.fromkeys(corrected, CORRECTED))
        if not corrected:
            found[beginning(token) if is_word(token) else f"{token}{BEGINNING}"] = BEGUN
    return found


def beginning(word: str) -> str:
    """Return what stands for all words that begin as this one does: with two thirds of it."""
    return f"{word[: max(_SHORTEST, len(word) * 2 // 3)]}{BEGINNING}"


def all_spellings(tokens: Iterable[str]) -> list[str]:
    """Return the spellings of those of the tokens that can have others."""
    return list(dict.fromkeys(each for token in tokens if is_word(token) for each in spellings(token)))


def is_word(token: str) -> bool:
    """Whether a token can have another spelling."""
    return _WORD.fullmatch(token) is not None


def spellings(word: str) -> list[str]:
    """Return all that is one mistake away from a word, likelier ones first: two, where letters were doubled."""
    found = dict.fromkeys(_one_mistake(word))
    if (single := re.sub(r"(.)\1", r"\1", word)) != word:
        found.update(dict.fromkeys(_one_mistake(single)))
    found.pop(word, None)
    return list(found)


def corrections(word: str, known: Container[str]) -> list[str]:
    """Return the likeliest spellings of a word that are known."""
    return [each for each in spellings(word) if each in known][:TAKEN]


def _one_mistake(word: str) -> Iterator[str]:
    letters = next(each for each in _ALPHABETS if word[0] in each)
    lost, mistaken = (_LOST, _MISTAKEN) if letters is _ALPHABETS[0] else (letters, dict.fromkeys(letters, letters))
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    # The first letter is seldom wrong, so what changes it comes last.
    for first in (cuts[1:], cuts[:1]):
        yield from (head + tail[1] + tail[0] + tail[2:] for head, tail in first if len(tail) > 1)
        yield from (head + letter + tail for head, tail in first for letter in (*lost, head[-1:]))
        yield from (head + tail[1:] for head, tail in first if tail)
        yield from (
            head + sound + tail[len(same) :] for head, tail in first for same, sound in _SOUNDS if tail.startswith(same)
        )
        yield from (head + letter + tail[1:] for head, tail in first if tail for letter in mistaken[tail[0]])
