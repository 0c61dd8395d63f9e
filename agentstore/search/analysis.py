"""From text to the tokens that are indexed and looked for: the same for a memory and for a question.

Linear in the text. Written for every language that a chat may hold, in any mixture: words are folded and stemmed by
their script, text without spaces becomes overlapping pieces, and what identifiers, addresses and versions are made of
is there whole and in parts.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import Stemmer

from agentstore.errors import NotConfigured
from agentstore.search import dates

if TYPE_CHECKING:
    from opencc import OpenCC

# Raised whenever the same text gives other tokens than before: what was indexed before then has to be made again.
VERSION = 2

# Characters; what is longer is no word, and a lexeme of Postgres has an end.
_LONGEST = 100
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3040-\u30ff\u31f0-\u31ff"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_CJK = _HAN + _KANA + _HANGUL
# Thai and Lao, Burmese, Khmer: like Han and kana written without spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
# Marks that change a letter but begin no word: combining accents and vowel signs are not \w for the re module.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0980-\u0dff"
_LETTER = rf"(?:[^\W{_CJK}{_UNSPACED}]|[{_MARKS}])"
_TOKEN = re.compile(
    rf"(?P<cjk>[{_CJK}]+)"
    rf"|(?P<unspaced>[{_UNSPACED}]+)"
    rf"|(?P<word>{_LETTER}+(?:[.\-@/:'’&+~%?=#,]+{_LETTER}+)*(?:\+\+|#)?)"
    r"|(?P<symbol>[^\w\s])"
)
_IS_HAN = re.compile(f"[{_HAN}]")
_PARTS = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SCRIPTS = (
    (re.compile("[\u0400-\u052f]"), "russian"),
    (re.compile("[\u0370-\u03ff]"), "greek"),
    (re.compile("[\u0600-\u06ff]"), "arabic"),
    (re.compile("[\u0900-\u097f]"), "hindi"),
    (re.compile("[\u0b80-\u0bff]"), "tamil"),
)
_STOP = frozenset(
    """
    a an and are as at be been but by can could did do does for from had has have he her him his how i if in into is it
    its just me my no not of on or our she so than that the their them then there these they this those to too us was
    we were what when where which who whom why will with would you your am any about
    """.split()  # noqa: SIM905 - readable as it stands
)


class _Folding(dict[int, str]):
    """What becomes of each character.

    Lower case, without its accent where the letter is Latin or Greek, and simplified where it is Han.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if _IS_HAN.match(character):
            self[code] = simple = _simplified(character)
            return simple
        folded = character.casefold()
        base = unicodedata.normalize("NFKD", folded)
        name = unicodedata.name(base[0], "") if base else ""
        if name.startswith(("LATIN", "GREEK")):
            folded = "".join(each for each in base if not unicodedata.combining(each))
        folded = _LETTERS.get(folded, folded)
        self[code] = folded
        return folded


def _simplified(character: str) -> str:
    """Return the simplified form of a Han character, also of one that only Japan writes so: 氣 and 気 are 气."""
    of_japan, of_china = _converters()
    simple: str = of_china.convert(of_japan.convert(character))
    return simple if len(simple) == 1 else character


@lru_cache
def _converters() -> "tuple[OpenCC, OpenCC]":
    """Their dictionaries are read when the first Han character is met, and never by who meets none."""
    from opencc import OpenCC

    return OpenCC("jp2t"), OpenCC("t2s")


_LETTERS = {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ё": "е"}
# Joiners, variation selectors, accents that stand by themselves, and Arabic vowels.
_FOLDING = _Folding(dict.fromkeys((0x200C, 0x200D, 0xFE0E, 0xFE0F, *range(0x300, 0x370), *range(0x64B, 0x660)), ""))


def check_language(name: str) -> str:
    """Return the name of a language whose words can be stemmed, or "simple".

    Raises:
        NotConfigured: it is none.
    """
    known = sorted({"simple", *Stemmer.algorithms()})
    if name not in known:
        raise NotConfigured(f"AGENTSTORE_TEXT_SEARCH_CONFIG must be one of {', '.join(known)}, not {name!r}.")
    return name


def fingerprint(language: str) -> str:
    """Name what tokens depend on: what was indexed by another has to be indexed anew."""
    return f"{VERSION} {language} {Stemmer.version()}"


class Tokens(NamedTuple):
    """What a memory is found by; its length is that of its words alone."""

    words: list[str]
    dates: list[str]


def of_memory(text: str, time: datetime | None, language: str) -> Tokens:
    """Return the tokens of a memory that was said at `time`."""
    text = unicodedata.normalize("NFKC", text)
    return Tokens(tokens(text, language), dates.said(text, time))


def of_question(text: str, time: datetime | None, language: str) -> dict[str, float]:
    """Return the tokens of a question that is asked at `time`, dates first, and what each of them counts."""
    text = unicodedata.normalize("NFKC", text)
    return dates.asked(text, time) | dict.fromkeys(tokens(text, language), 1.0)


def tokens(text: str, language: str) -> list[str]:
    """Return the different tokens of a text, in their order.

    `language` is that of words in Latin letters, as Snowball and Postgres name it, or "simple" for no stemming; other
    scripts have their own.
    """
    return list(dict.fromkeys(filter(None, _tokens(unicodedata.normalize("NFKC", text), language))))


def _tokens(text: str, language: str) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        token = found.group()
        match found.lastgroup:
            case "word":
                if len(token) <= _LONGEST:
                    yield from _words(token, language)
                else:
                    for part in _PARTS.findall(token):
                        yield from _word(part, language)
            case "cjk":
                token = token.translate(_FOLDING)
                yield from token
                yield from (token[at : at + 2] for at in range(len(token) - 1))
            case "unspaced":
                yield from (token[at : at + 2] for at in range(max(1, len(token) - 1)))
                yield from (token[at : at + 3] for at in range(len(token) - 2))
            case _:
                if unicodedata.category(token) == "So":  # emoji and other pictures
                    yield token


@lru_cache(maxsize=20_000)
def _words(token: str, language: str) -> tuple[str, ...]:
    """What a word gives that has no blank in it: itself, and what it is made of."""
    parts = _PARTS.findall(token)
    found: list[str] = []
    if len(parts) == 1 and parts[0] != token:
        found.append(token.translate(_FOLDING))  # c++ and c#, beside c
    elif len(parts) > 1 and "'" not in token and "’" not in token:
        folded = [part.translate(_FOLDING) for part in parts]
        # e-bikes, and ebik as of ebike, beside bike
        found += [token.translate(_FOLDING), _stem("".join(folded), language)]
    for part in parts:
        found += _word(part, language)
    return tuple(found)


def _word(word: str, language: str) -> Iterator[str]:
    folded = word.translate(_FOLDING)[:_LONGEST]
    if folded in _STOP:
        return
    yield _stem(folded, language)
    if not (word.isalpha() and (word.islower() or word.isupper() or word.istitle())):
        pieces = _CAMEL.findall(word)
        if len(pieces) > 1:
            yield from (_stem(piece.lower()[:_LONGEST], language) for piece in pieces)


def _stem(word: str, language: str) -> str:
    if not word.isascii():
        language = next((name for letters, name in _SCRIPTS if letters.search(word)), language)
    return word if language == "simple" else _stemmer(language).stemWord(word) or word


@lru_cache
def _stemmer(language: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(language, 0)
