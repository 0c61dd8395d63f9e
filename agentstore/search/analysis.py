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
from agentstore.search import dates, languages

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
JOINED = _CJK + _UNSPACED
# Marks that change a letter but begin no word: combining accents and vowel signs are not \w for the re module.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0980-\u0dff"
LETTER = rf"(?:[^\W{_CJK}{_UNSPACED}]|[{_MARKS}])"
_TOKEN = re.compile(
    rf"(?P<flag>[\U0001f1e6-\U0001f1ff]{{2}})"
    rf"|(?P<cjk>[{_CJK}]+)"
    rf"|(?P<unspaced>[{_UNSPACED}]+)"
    rf"|(?P<word>{LETTER}+(?:[.\-@/:'’&+~%?=#,]+{LETTER}+)*(?:\+\+|#)?)"
    r"|(?P<symbol>[^\w\s])"
)
_ASCII_WORD = re.compile(r"[^\W]+(?:[.\-@/:'&+~%?=#,]+[^\W]+)*(?:\+\+|#)?", re.ASCII)
_DIGIT = re.compile(r"\d")
# Characters that by themselves tell nothing, as small words do: hiragana, and the particles of Chinese. A question of
# nothing else asks for them all the same.
_IS_PARTICLE = re.compile(
    "[ぁ-ゟ的了是我你他她它们在不有这那吗呢吧啊什么哪谁和与就都也很到说要去会着没看好自己为以及其之而或被把从对个一]"
)
_IS_HAN = re.compile(f"[{_HAN}]")
_PARTS = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# What holds less together than the rest of an address: jane.doe@example.com is jane.doe and example.com.
_LOOSE = re.compile(r"[/:?#&=@,~+%]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)+")
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:[, '’]\d{3}){1,6}(?!\w)|(?<![\w.,])\d{1,3}(?:\.\d{3}){1,6}(?![\w.])")
_SHORT_THOUSANDS = re.compile(r"(?<![\w.,])(\d{1,4})(?:\.(\d{1,3}))?[kK](?!\w)")
# Written in groups, with blanks or signs between them: a telephone's, an account's.
_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ().\-/]{0,2}\d){6,18}(?!\w)")
_HASH = re.compile(r"(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{10,64}")
# Of a hash a few digits are said, and of a telephone number not its country.
_SHORT_HASHES = (7, 8)
_LAST_DIGITS = (7, 9, 10)
_MOST_LEVELS = 4
_SCRIPTS = (
    (re.compile("[\u0400-\u052f]"), "russian"),
    (re.compile("[\u0370-\u03ff]"), "greek"),
    (re.compile("[\u067e\u0686\u0698\u06af\u06a9\u06cc]"), "persian"),
    (re.compile("[\u0600-\u06ff]"), "arabic"),
    (re.compile("[\u0900-\u097f]"), "hindi"),
    (re.compile("[\u0b80-\u0bff]"), "tamil"),
    (re.compile("[\u0531-\u058f]"), "armenian"),
)
# Endings and beginnings of words in scripts that have no stemmer, longest first, and for Russian's those of its
# neighbours; what is left of a word has at least as many letters as stand before them.
_ENDINGS = (
    (re.compile("[\u0980-\u09ff]"), re.compile("(?<=..)(?:গুলোর|গুলির|গুলো|গুলি|দের|েরা|ের|টির|টার|টি|টা|তে|কে|রা|য়|র|ে)$")),
    (re.compile("[\u05d0-\u05ea]"), re.compile("^[והבלכמש](?=..)|(?<=..)(?:ימ|ות|יה|ה|ת)$")),
    (re.compile("[\u0400-\u052f]"), re.compile("(?<=...)(?:ів|ям|ах|ями|ою|ею|[аеєиіїоуюяйьы])$")),
    (re.compile("[\u0370-\u03ff]"), re.compile("(?<=..)[αεηιουω]$")),
)
_RARE = re.compile(
    "[\u00ad\u2060\ufeff\u2010\u2011\u2212\u02bc\u2018\u201b`\u00b4\u0640\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u09e6-\u09ef]"
)
# In which there may be many accents on one letter: Unicode's own limit for text that is read as a stream.
_MOST_MARKS = 30
_LONG_RUN = re.compile(rf"[^\w\s\x00-\u02ff]{{{_MOST_MARKS + 1},}}")
_PLAIN = {
    **dict.fromkeys((0xAD, 0x2060, 0xFEFF, 0x640), None),
    **dict.fromkeys((0x2010, 0x2011, 0x2212), "-"),
    **dict.fromkeys((0x2BC, 0x2018, 0x201B, 0x60, 0xB4), "'"),
    **{start + digit: str(digit) for start in (0x660, 0x6F0, 0x966, 0x9E6) for digit in range(10)},
}
_TO_HIRAGANA = ord("ァ") - ord("ぁ")
_CLITICS = frozenset({"s", "t", "m", "d", "re", "ve", "ll"})
_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
_STOP = frozenset(
    """
    a an and are as at be been but by can could did do does for from had has have he her him his how i if in into is it
    its just me my no not of on or our she so than that the their them then there these they this those to too us was
    we were what when where which who whom why will with would you your am any about
    """.split()  # noqa: SIM905 - readable as it stands
)


class _Folding(dict[int, str]):
    """What becomes of each character.

    Lower case, without its accent where the letter is Latin or Greek, simplified where it is Han, and hiragana where it
    is katakana.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if "ァ" <= character <= "ヶ":
            self[code] = hiragana = chr(code - _TO_HIRAGANA)
            return hiragana
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


_LETTERS = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ё": "е",
    "ך": "כ", "ם": "מ", "ן": "נ", "ף": "פ", "ץ": "צ",
    "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا",
}  # fmt: skip
# What Arabic and Persian write in several ways at the end of a word, which their stemmers have to see as it is.
_SAME = str.maketrans({"ة": "ه", "ى": "ي", "ی": "ي", "ک": "ك", "ۀ": "ه"})
# Joiners, variation selectors, accents that stand by themselves, and the vowels of Hebrew and Arabic.
_UNSEEN = (0x200C, 0x200D, 0xFE0E, 0xFE0F, *range(0x300, 0x370))
_VOWELS = (*range(0x591, 0x5BE), 0x5BF, 0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7, *range(0x64B, 0x660))
_FOLDING = _Folding(dict.fromkeys((*_UNSEEN, *_VOWELS), ""))


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
    text = _plain(text)
    return Tokens(_different(text, language), dates.said(text, time))


def of_question(text: str, time: datetime | None, language: str) -> dict[str, float]:
    """Return the tokens of a question that is asked at `time`, dates first, and what each of them counts."""
    text = _plain(text)
    found = _different(text, language)
    telling = [token for token in found if not (len(token) == 1 and _IS_PARTICLE.match(token))]
    return dates.asked(text, time) | dict.fromkeys(telling or found, 1.0)


def words(text: str, language: str) -> list[tuple[str, ...]]:
    """Return the tokens of each word of a text that is written with blanks, its own before those of its parts."""
    text = _plain(text)
    spoken = _spoken(text, language)
    found = (each.group("word") for each in _TOKEN.finditer(text) if each.group("word"))
    return list(filter(None, (_words(word, spoken) for word in found if len(word) <= _LONGEST)))


def tokens(text: str, language: str) -> list[str]:
    """Return the different tokens of a text, in their order.

    `language` is that of words in Latin letters, as Snowball and Postgres name it, or "simple" for no stemming; other
    scripts have their own. A text that is plainly in another language has the stems of both.
    """
    return _different(_plain(text), language)


def _different(text: str, language: str) -> list[str]:
    tokens = (_ascii_tokens if text.isascii() else _tokens)(text, _spoken(text, language))
    return list(dict.fromkeys(filter(None, tokens)))


def _ascii_tokens(text: str, spoken: tuple[str, ...]) -> list[str]:
    """What :func:`_tokens` gives of a text that has words alone, in half of its time."""
    words = dict.fromkeys(_ASCII_WORD.findall(text))
    found = [token for word in words for token in (_words if len(word) <= _LONGEST else _long_word)(word, spoken)]
    if _DIGIT.search(text):
        found += _numbers(text)
    return found


def _long_word(word: str, spoken: tuple[str, ...]) -> Iterator[str]:
    for part in _PARTS.findall(word):
        yield from _word(part, spoken)


def _spoken(text: str, language: str) -> tuple[str, ...]:
    """Return the languages whose stems the words of a text have."""
    guessed = None if language == "simple" else languages.guess(text)
    return (language,) if guessed in (None, language) else (language, guessed)


def _plain(text: str) -> str:
    """Return a text with one form of each letter, dash, apostrophe and digit, and without what is not seen."""
    if text.isascii():
        return text.replace("`", "'")
    text = unicodedata.normalize("NFKC", _LONG_RUN.sub(_with_few_marks, text))
    return text.translate(_PLAIN) if _RARE.search(text) else text


def _with_few_marks(found: re.Match[str]) -> str:
    """Leave out what stands above a letter beyond what any language puts there: sorting it is quadratic."""
    kept, marks = [], 0
    for character in found.group():
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def _tokens(text: str, spoken: tuple[str, ...]) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        token = found.group()
        match found.lastgroup:
            case "word":
                if len(token) <= _LONGEST:
                    yield from _words(token, spoken)
                else:
                    yield from _long_word(token, spoken)
            case "cjk":
                token = token.translate(_FOLDING)
                yield from token
                yield from (token[at : at + 2] for at in range(len(token) - 1))
            case "unspaced":
                yield from (token[at : at + 2] for at in range(max(1, len(token) - 1)))
                yield from (token[at : at + 3] for at in range(len(token) - 2))
            case "flag":
                yield token
            case _:
                if unicodedata.category(token) == "So":  # emoji and other pictures
                    yield token
    if _DIGIT.search(text):
        yield from _numbers(text)


def _numbers(text: str) -> Iterator[str]:
    """What is one number, however its digits are grouped."""
    for found in _THOUSANDS.finditer(text):
        yield "".join(filter(str.isdecimal, found.group()))
    for found in _SHORT_THOUSANDS.finditer(text):
        yield str(int(found[1] + (found[2] or "").ljust(3, "0")))
    for found in _DIGITS.finditer(text):
        digits = "".join(filter(str.isdecimal, found.group()))
        yield digits
        yield from (digits[-last:] for last in _LAST_DIGITS)


@lru_cache(maxsize=20_000)
def _words(token: str, spoken: tuple[str, ...]) -> tuple[str, ...]:
    """What a word gives that has no blank in it: itself, and what it is made of."""
    parts = _PARTS.findall(token)
    found: list[str] = []
    if len(parts) == 1 and parts[0] != token:
        found.append(token.translate(_FOLDING))  # c++ and c#, beside c
    elif len(parts) > 1:
        joined = "".join(part.translate(_FOLDING) for part in parts)
        if "'" not in token and "’" not in token:
            # e-bikes, and ebik as of ebike, beside bike
            found += [token.translate(_FOLDING), *_stems(joined, spoken)]
            found += [part.translate(_FOLDING) for part in _LOOSE.split(token) if part != token]
            for version in _NUMBER.findall(token):
                levels = version.split(".")
                found += [".".join(levels[:end]) for end in range(2, min(len(levels), _MOST_LEVELS) + 1)]
        elif parts[-1].lower() in _CLITICS:
            # don't is one word, and Anna's is Anna
            if parts.pop() in ("t", "T"):
                return _stems(joined, spoken)
        else:
            found += _stems(joined, spoken)
    for part in parts:
        found += _word(part, spoken)
    return tuple(found)


def _word(word: str, spoken: tuple[str, ...]) -> Iterator[str]:
    folded = word.translate(_FOLDING)[:_LONGEST]
    if folded in _STOP:
        return
    yield from _stems(folded, spoken)
    if not word.isascii():
        spelt_out = word.lower().translate(_SPELT_OUT)
        if spelt_out != word.lower():  # Müller is also written Mueller
            yield from _stems(spelt_out.translate(_FOLDING)[:_LONGEST], spoken)
    if not (word.isalpha() and (word.islower() or word.isupper() or word.istitle())):
        pieces = _CAMEL.findall(word)
        if len(pieces) > 1:
            for piece in pieces:
                yield from _stems(piece.lower()[:_LONGEST], spoken)
        if _HASH.fullmatch(folded):
            yield from (folded[:digits] for digits in _SHORT_HASHES)


def _stems(word: str, spoken: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stem of a word in each of the languages, or in that of its script."""
    if word.isascii():
        return tuple(_stem(word, language) for language in spoken)
    language = next((name for letters, name in _SCRIPTS if letters.search(word)), None)
    if language is None:
        stems = tuple(_stem(word, language) for language in spoken)
    else:
        stems = (_stem(word, language).translate(_SAME),)
    for letters, ending in _ENDINGS:
        if letters.search(word):
            return (*stems, ending.sub("", stems[0]))
    return stems


def _stem(word: str, language: str) -> str:
    return word if language == "simple" else _stemmer(language).stemWord(word) or word


@lru_cache
def _stemmer(language: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(language, 0)
