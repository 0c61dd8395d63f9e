"""Text analysis: the tokens of a text, which are the same for memories and queries.

Takes time linear in the text. Handles every language that a chat may contain, in any mixture: words are folded and
stemmed by their script, text without spaces is split into overlapping n-grams, and identifiers, addresses and versions
are tokens both as a whole and in parts.

PyStemmer and OpenCC are imported at their first use.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from agentstore.errors import NotConfigured
from agentstore.offload import spend
from agentstore.search import dates, languages

if TYPE_CHECKING:
    import Stemmer
    from opencc import OpenCC

# Increase it whenever a text gets different tokens, or a memory other values by which it is ranked, than before:
# memories analyzed by another version are reindexed.
VERSION = 6

# The maximum length of a token in characters. Longer strings are not words, and lexemes in Postgres are limited.
_MAX_LENGTH = 100
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3040-\u30ff\u31f0-\u31ff"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_CJK = _HAN + _KANA + _HANGUL
# Thai and Lao, Burmese, Khmer: like Han and kana written without spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
JOINED = _CJK + _UNSPACED
# Marks within a word: combining accents and vowel signs, which \w does not match.
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
# Characters that carry little meaning alone, like stop words: hiragana and the particles of Chinese. They are left out
# of a query unless it consists of nothing else.
_IS_PARTICLE = re.compile(
    "[ぁ-ゟ的了是我你他她它们在不有这那吗呢吧啊什么哪谁和与就都也很到说要去会着没看好自己为以及其之而或被把从对个一]"
)
_IS_HAN = re.compile(f"[{_HAN}]")
_PARTS = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# The separators between the larger parts of an address: jane.doe@example.com is jane.doe and example.com.
_SEPARATORS = re.compile(r"[/:?#&=@,~+%]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)+")
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:[, '’]\d{3}){1,6}(?!\w)|(?<![\w.,])\d{1,3}(?:\.\d{3}){1,6}(?![\w.])")
_SHORT_THOUSANDS = re.compile(r"(?<![\w.,])(\d{1,4})(?:\.(\d{1,3}))?[kK](?!\w)")
_LEADING_ZEROS = re.compile(r"(?<![\w.,])0+([1-9]\d{0,17})(?!\w)")
# Numbers written in groups of digits, such as telephone and account numbers.
_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ().\-/]{0,2}\d){6,18}(?!\w)")
_HASH = re.compile(r"(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{10,64}")
# Hashes are often abbreviated to the first digits, and telephone numbers given without the country code.
_SHORT_HASHES = (7, 8)
_LAST_DIGITS = (7, 9, 10)
# The leading components of a version that are tokens, such as 1.2 and 1.2.3 of 1.2.3.4.
_MAX_VERSION_PARTS = 4
_SCRIPTS = (
    (re.compile("[\u0400-\u052f]"), "russian"),
    (re.compile("[\u0370-\u03ff]"), "greek"),
    (re.compile("[\u067e\u0686\u0698\u06af\u06a9\u06cc]"), "persian"),
    (re.compile("[\u0600-\u06ff]"), "arabic"),
    (re.compile("[\u0900-\u097f]"), "hindi"),
    (re.compile("[\u0b80-\u0bff]"), "tamil"),
    (re.compile("[\u0531-\u058f]"), "armenian"),
)
# Affixes that are removed from words in scripts without a stemmer, longest first; for Cyrillic those of the languages
# related to Russian. The lookarounds require a minimum length for what remains of the word.
_ENDINGS = (
    (re.compile("[\u0980-\u09ff]"), re.compile("(?<=..)(?:গুলোর|গুলির|গুলো|গুলি|দের|েরা|ের|টির|টার|টি|টা|তে|কে|রা|য়|র|ে)$")),
    (re.compile("[\u05d0-\u05ea]"), re.compile("^[והבלכמש](?=..)|(?<=..)(?:ימ|ות|יה|ה|ת)$")),
    (re.compile("[\u0400-\u052f]"), re.compile("(?<=...)(?:ів|ям|ах|ями|ою|ею|[аеєиіїоуюяйьы])$")),
    (re.compile("[\u0370-\u03ff]"), re.compile("(?<=..)[αεηιουω]$")),
)
_RARE = re.compile(
    "[\u00ad\u2060\ufeff\u2010\u2011\u2212\u02bc\u2018\u201b`\u00b4\u0640\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u09e6-\u09ef]"
)
# The maximum number of combining marks on one letter: the limit of Unicode's Stream-Safe Text Format.
_MAX_MARKS = 30
_LONG_RUN = re.compile(rf"[^\w\s\x00-\u02ff]{{{_MAX_MARKS + 1},}}")
# Normalization expands some characters, U+FDFA to 18. It may make of a text of n characters 2 n and some more: ordinary
# texts, even with many ligatures and fractions, remain below that.
_MAX_EXPANSION = 18
_MAX_GROWTH, _MAX_GROWTH_OF_SHORT = 2, 10_000
_PIECE = 1_000
# The effort of analyzing a character, see agentstore.offload: 20,000 of them take up to 20 ms.
_EFFORT = 2
_PLAIN = {
    **dict.fromkeys((0xAD, 0x2060, 0xFEFF, 0x640), None),
    **dict.fromkeys((0x2010, 0x2011, 0x2212), "-"),
    **dict.fromkeys((0x2BC, 0x2018, 0x201B, 0x60, 0xB4), "'"),
    **{start + digit: str(digit) for start in (0x660, 0x6F0, 0x966, 0x9E6) for digit in range(10)},
}
_TO_HIRAGANA = ord("ァ") - ord("ぁ")
_CLITICS = frozenset({"s", "t", "m", "d", "re", "ve", "ll"})
_TRANSLITERATED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
_STOP = frozenset(
    """
    a an and are as at be been but by can could did do does for from had has have he her him his how i if in into is it
    its just me my no not of on or our she so than that the their them then there these they this those to too us was
    we were what when where which who whom why will with would you your am any about
    """.split()  # noqa: SIM905 - more readable than a list
)
# Function words that are something else in capitals: US, IT, WHO, and inside a sentence The Who and Will. "I" is not.
_IN_CAPITALS = {word.upper(): word for word in _STOP if len(word) > 1}
_AS_NAMES = {word.capitalize(): word for word in _STOP if len(word) > 1}
_CAPITALIZED = re.compile("[A-Z][A-Za-z]+")
# Sentences of up to so many characters may consist of function words alone, also after a colon or a quotation mark.
_SENTENCE_ENDS = re.compile('[.!?:"“”\n]')
_MAX_SENTENCE = 60
_LETTERS_ONLY = re.compile("[a-z]+")
_SENTENCE_OF_WILL = re.compile(r"""(?:^|[.!"“\n] ?)Will\b[^?.!\n]{0,200}(?:[.!\n]|$)""")


class _Folding(dict[int, str]):
    """A translation table that folds each character, and caches the result.

    Letters become lower case, Latin and Greek ones lose their accents, Han characters become simplified ones, and
    katakana becomes hiragana.
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
    """Return the simplified form of a traditional or Japanese Han character: 气 for 氣 and 気."""
    from_japanese, to_simplified = _converters()
    simple: str = to_simplified.convert(from_japanese.convert(character))
    return simple if len(simple) == 1 else character


@lru_cache
def _converters() -> "tuple[OpenCC, OpenCC]":
    """Load the conversion tables of OpenCC, at the first Han character that is folded."""
    from opencc import OpenCC

    return OpenCC("jp2t"), OpenCC("t2s")


_LETTERS = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ё": "е",
    "ך": "כ", "ם": "מ", "ן": "נ", "ף": "פ", "ץ": "צ",
    "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا",
}  # fmt: skip
# Letters at the end of a word that Arabic and Persian write in several ways. Replaced after stemming, because the
# stemmers need the original ones.
_UNIFIED = str.maketrans({"ة": "ه", "ى": "ي", "ی": "ي", "ک": "ك", "ۀ": "ه"})
# Joiners, variation selectors, combining accents, and the vowel signs of Hebrew and Arabic.
_INVISIBLE = (0x200C, 0x200D, 0xFE0E, 0xFE0F, *range(0x300, 0x370))
_VOWELS = (*range(0x591, 0x5BE), 0x5BF, 0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7, *range(0x64B, 0x660))
_FOLDING = _Folding(dict.fromkeys((*_INVISIBLE, *_VOWELS), ""))


def check_language(name: str) -> str:
    """Return `name` if it is a language of Snowball, or "simple" for no stemming.

    Raises:
        NotConfigured: it is neither.
    """
    import Stemmer

    known = sorted({"simple", *Stemmer.algorithms()})
    if name not in known:
        raise NotConfigured(f"AGENTSTORE_TEXT_SEARCH_CONFIG must be one of {', '.join(known)}, got {name!r}.")
    return name


@lru_cache
def fingerprint(language: str) -> str:
    """Return an identifier of everything that tokens depend on: this version, the language and Snowball's version.

    Memories with another fingerprint have to be reindexed.
    """
    import Stemmer

    return f"{VERSION} {language} {Stemmer.version()}"


class Tokens(NamedTuple):
    """The tokens of a memory. Only the words count for its length."""

    words: list[str]
    dates: list[str]
    is_cut: bool
    """Whether the end of the text was left out, because normalization expands it too much."""


def memory_tokens(text: str, time: datetime | None, language: str) -> Tokens:
    """Return the tokens of a memory with the timestamp `time`."""
    text, is_cut = _normalize_beginning(text)
    words = _unique_tokens(text, language)
    sentences = dict.fromkeys(_sentences_of_function_words(text))
    words += [word for word in sentences if word not in words]
    return Tokens(words, dates.dates_of_memory(text, time), is_cut)


def query_tokens(text: str, time: datetime | None, language: str) -> dict[str, float]:
    """Return the tokens of a query, dates first, with their weights. `time` is the current time for the query."""
    text = _normalize(text)
    found = _unique_tokens(text, language)
    significant = [token for token in found if not (len(token) == 1 and _IS_PARTICLE.match(token))]
    return dates.dates_of_query(text, time) | dict.fromkeys(significant or found, 1.0)


def words(text: str, language: str) -> list[tuple[str, ...]]:
    """Return the tokens of each word in text written with spaces: those of the whole word before those of its parts."""
    text = _normalize(text)
    stems_in = _languages_of(text, language)
    found = (each.group("word") for each in _TOKEN.finditer(text) if each.group("word"))
    return list(filter(None, (_words(word, stems_in) for word in found if len(word) <= _MAX_LENGTH)))


def tokens(text: str, language: str) -> list[str]:
    """Return the unique tokens of a text, in order.

    `language` is the language of words in Latin letters, by its name in Snowball and Postgres, or "simple" for no
    stemming; other scripts determine their own. A text that is clearly in another language gets the stems of both.
    """
    return _unique_tokens(_normalize(text), language)


def _unique_tokens(text: str, language: str) -> list[str]:
    tokens = (_ascii_tokens if text.isascii() else _tokens)(text, _languages_of(text, language))
    found = dict.fromkeys(filter(None, tokens))
    capitalized = set(_CAPITALIZED.findall(text))
    if not capitalized.isdisjoint(_IN_CAPITALS) or not capitalized.isdisjoint(_AS_NAMES):
        found.update(dict.fromkeys(_function_words_as_names(text, capitalized)))
    # Looked for where nothing else is: "Who am I?"
    return list(found or dict.fromkeys(word for word in _LETTERS_ONLY.findall(text.lower()) if word in _STOP))


def is_function_word(token: str) -> bool:
    """Return whether a token is a word such as "the", which counts only as a name or where there is no other."""
    return token in _STOP


def _function_words_as_names(text: str, capitalized: set[str]) -> Iterator[str]:
    """Yield the function words that are names in a text, by their capitals: US, The Who, my brother Will."""
    for word in sorted(capitalized):
        if word in _IN_CAPITALS:
            if not text.isupper() and _stands_alone(text, word):
                yield _IN_CAPITALS[word]
        elif word in _AS_NAMES and (
            _is_inside_sentence(text, word)
            or (word == "Will" and (f"{word}'s" in text or _SENTENCE_OF_WILL.search(text) is not None))
        ):
            yield _AS_NAMES[word]


def _stands_alone(text: str, word: str) -> bool:
    """Return whether a word is in a text, and not only a part of longer ones."""
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if not (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum()):
            return True
        at = text.find(word, end)
    return False


def _is_inside_sentence(text: str, word: str) -> bool:
    """Return whether a word is in a text after another word of the same sentence."""
    at = text.find(f" {word}")
    while at >= 0:
        end = at + 1 + len(word)
        before = text[at - 1 : at]
        if (before.islower() or before in (",", ";")) and not text[end : end + 1].isalnum():
            return True
        at = text.find(f" {word}", end)
    return False


def _sentences_of_function_words(text: str) -> Iterator[str]:
    """Yield the words of the short sentences that have function words alone: "To be or not to be"."""
    for sentence in _SENTENCE_ENDS.split(text):
        if len(sentence) <= _MAX_SENTENCE:
            words = sentence.lower().replace("'", " ").replace(",", " ").split()
            if len(words) > 1 and all(word in _STOP or word in _CLITICS for word in words):
                yield from filter(is_function_word, words)


def _ascii_tokens(text: str, stems_in: tuple[str, ...]) -> list[str]:
    """Return what :func:`_tokens` yields for ASCII text, in half the time."""
    words = dict.fromkeys(_ASCII_WORD.findall(text))
    found = [token for word in words for token in (_words if len(word) <= _MAX_LENGTH else _long_word)(word, stems_in)]
    if _DIGIT.search(text):
        found += _numbers(text)
    return found


def _long_word(word: str, stems_in: tuple[str, ...]) -> Iterator[str]:
    for part in _PARTS.findall(word):
        yield from _word(part, stems_in)


def _languages_of(text: str, language: str) -> tuple[str, ...]:
    """Return the languages by which the words of a text are stemmed."""
    guessed = None if language == "simple" else languages.guess(text)
    return (language,) if guessed in (None, language) else (language, guessed)


def _normalize(text: str) -> str:
    """Return a text with one form of each letter, dash, apostrophe and digit, and without invisible characters."""
    return _normalize_beginning(text)[0]


def _normalize_beginning(text: str) -> tuple[str, bool]:
    """Return a text like :func:`_normalize`, and whether its end was left out.

    That is so if it would have more than twice as many characters and 10,000 after normalization.
    """
    spend(len(text) * _EFFORT)
    if text.isascii():
        return text.replace("`", "'"), False
    text = _LONG_RUN.sub(_limit_marks, text)
    beginning = _limit_expansion(text)
    normal = unicodedata.normalize("NFKC", beginning)
    return normal.translate(_PLAIN) if _RARE.search(normal) else normal, len(beginning) < len(text)


def _limit_expansion(text: str) -> str:
    """Return the beginning of a text that normalization does not expand too much, most often all of it."""
    most = _MAX_GROWTH * len(text) + _MAX_GROWTH_OF_SHORT
    if len(text) * _MAX_EXPANSION <= most:
        return text
    size = 0
    for start in range(0, len(text), _PIECE):
        size += len(unicodedata.normalize("NFKC", text[start : start + _PIECE]))
        if size > most:
            return text[:start]
    return text


def _limit_marks(found: re.Match[str]) -> str:
    """Drop combining marks beyond what any language writes on a letter: normalization sorts them in quadratic time."""
    limited, marks = [], 0
    for character in found.group():
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MAX_MARKS:
            limited.append(character)
    return "".join(limited)


def _tokens(text: str, stems_in: tuple[str, ...]) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        token = found.group()
        match found.lastgroup:
            case "word":
                if len(token) <= _MAX_LENGTH:
                    yield from _words(token, stems_in)
                else:
                    yield from _long_word(token, stems_in)
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
                if unicodedata.category(token) == "So":  # emoji and other symbols
                    yield token
    if _DIGIT.search(text):
        yield from _numbers(text)


def _numbers(text: str) -> Iterator[str]:
    """Yield the numbers of a text, without the separators between their digits."""
    for found in _THOUSANDS.finditer(text):
        yield "".join(filter(str.isdecimal, found.group()))
    for found in _SHORT_THOUSANDS.finditer(text):
        yield str(int(found[1] + (found[2] or "").ljust(3, "0")))
    for found in _LEADING_ZEROS.finditer(text):
        yield found[1]
    for found in _DIGITS.finditer(text):
        digits = "".join(filter(str.isdecimal, found.group()))
        yield digits
        yield from (digits[-last:] for last in _LAST_DIGITS)


@lru_cache(maxsize=20_000)
def _words(token: str, stems_in: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tokens of a word: of the word as a whole, and of its parts."""
    parts = _PARTS.findall(token)
    found: list[str] = []
    if len(parts) == 1 and parts[0] != token:
        found.append(token.translate(_FOLDING))  # "c++" and "c#", besides "c"
    elif len(parts) > 1:
        joined = "".join(part.translate(_FOLDING) for part in parts)
        if "'" not in token and "’" not in token:
            # For "e-bikes": the word, and "ebik" as for "ebike", besides "bike" from the parts.
            found += [token.translate(_FOLDING), *_stems(joined, stems_in)]
            found += [part.translate(_FOLDING) for part in _SEPARATORS.split(token) if part != token]
            for version in _NUMBER.findall(token):
                levels = version.split(".")
                found += [".".join(levels[:end]) for end in range(2, min(len(levels), _MAX_VERSION_PARTS) + 1)]
        elif parts[-1].lower() in _CLITICS:
            # "don't" is one word; "Anna's" is "Anna".
            if parts.pop() in ("t", "T"):
                return _stems(joined, stems_in)
        else:
            found += _stems(joined, stems_in)
    for part in parts:
        found += _word(part, stems_in)
    return tuple(found)


def _word(word: str, stems_in: tuple[str, ...]) -> Iterator[str]:
    folded = word.translate(_FOLDING)[:_MAX_LENGTH]
    if folded in _STOP:
        return
    yield from _stems(folded, stems_in)
    if not word.isascii():
        transliterated = word.lower().translate(_TRANSLITERATED)
        if transliterated != word.lower():  # "Müller" is also written "Mueller"
            yield from _stems(transliterated.translate(_FOLDING)[:_MAX_LENGTH], stems_in)
    if not (word.isalpha() and (word.islower() or word.isupper() or word.istitle())):
        pieces = _CAMEL.findall(word)
        if len(pieces) > 1:
            for piece in pieces:
                yield from _stems(piece.lower()[:_MAX_LENGTH], stems_in)
        if _HASH.fullmatch(folded):
            yield from (folded[:digits] for digits in _SHORT_HASHES)


def _stems(word: str, stems_in: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stem of a word in each of the languages, or in the language of its script."""
    if word.isascii():
        return tuple(_stem(word, language) for language in stems_in)
    language = next((name for letters, name in _SCRIPTS if letters.search(word)), None)
    if language is None:
        stems = tuple(_stem(word, language) for language in stems_in)
    else:
        stems = (_stem(word, language).translate(_UNIFIED),)
    for letters, ending in _ENDINGS:
        if letters.search(word):
            return (*stems, ending.sub("", stems[0]))
    return stems


def _stem(word: str, language: str) -> str:
    return word if language == "simple" else _stemmer(language).stemWord(word) or word


@lru_cache
def _stemmer(language: str) -> "Stemmer.Stemmer":
    import Stemmer

    return Stemmer.Stemmer(language, 0)
