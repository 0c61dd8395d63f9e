"""The part of a memory that says why it was found, with the words that were looked for marked."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from agentstore.search import analysis
from agentstore.search.spelling import BEGINNING

# Of an emoji, what says its colour, and what joins it with the next one.
_JOINERS = "\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff"
# Text in which words are not apart is marked by pairs of characters, other text by words.
_PIECES = re.compile(
    rf"(?P<joined>[{analysis.JOINED}]+)|[\U0001f1e6-\U0001f1ff]{{2}}"
    rf"|{analysis.LETTER}(?:(?:{analysis.LETTER}|[.\-@/:'’&+~%?=#,])*(?:{analysis.LETTER}|[+#]))?"
    rf"|[^\w\s](?:[{_JOINERS}]+[^\w\s]?)*"
)
_CONTINUES = re.compile(rf"[{_JOINERS}]")
# Further than that no character goes on.
_LONGEST_CHARACTER = 40
_AROUND = 30


class _Match(NamedTuple):
    start: int
    end: int
    tokens: frozenset[str]


class Highlighter:
    """Marks what a question's tokens found."""

    def __init__(self, tokens: Iterable[str], language: str, *, most: int) -> None:
        """Of a text the first `most` characters are looked at."""
        self._tokens = frozenset(tokens)
        self._beginnings = tuple(token.removesuffix(BEGINNING) for token in self._tokens if token.endswith(BEGINNING))
        self._language = language
        self._most = most
        # One character is in many words: marked only where nothing longer was asked.
        self._has_longer = any(len(token) > 1 for token in self._tokens)

    def __call__(self, text: str, length: int = 200) -> list[tuple[str, bool]]:
        """Return about `length` characters of a text as parts in order, each with whether it was looked for.

        Those with the most of the question's tokens; where text was left out there is an ellipsis. Linear in the text.
        """
        matches = list(self._matches(text[: self._most]))
        start, end = (_between(text, at) for at in _window(matches, len(text), length))
        parts: list[tuple[str, bool]] = [("… ", False)] if start else []
        at = start
        for match in matches:
            if match.end <= at or match.start >= end:
                continue
            if match.start > at:
                parts.append((text[at : match.start], False))
            parts.append((text[max(at, match.start) : min(match.end, end)], True))
            at = min(match.end, end)
        if at < end:
            parts.append((text[at:end], False))
        if max(at, end) < len(text):
            parts.append((" …", False))
        return parts

    def fits(self, text: str, time: datetime) -> bool:
        """Whether a memory of this text and time has any of the tokens, and not what was said beside it alone."""
        found = analysis.of_memory(text[: self._most], time, self._language)
        return any(
            token in self._tokens or token.startswith(self._beginnings) for token in (*found.words, *found.dates)
        )

    def _matches(self, text: str) -> Iterator[_Match]:
        for piece in _PIECES.finditer(text):
            start, end = piece.span()
            if piece.lastgroup != "joined":
                if found := self._found(piece.group()):
                    yield _Match(start, end, found)
                continue
            size = 2 if self._has_longer else 1
            run: _Match | None = None
            for at in range(start, max(start + 1, end - size + 1)):
                found = self._found(text[at : min(at + size, end)])
                if not found:
                    continue
                if run is not None and at <= run.end:
                    run = _Match(run.start, min(at + size, end), run.tokens | found)
                    continue
                if run is not None:
                    yield run
                run = _Match(at, min(at + size, end), found)
            if run is not None:
                yield run

    def _found(self, piece: str) -> frozenset[str]:
        tokens = analysis.tokens(piece, self._language)
        if self._has_longer:
            tokens = [token for token in tokens if len(token) > 1 or not token.isalnum()]
        begun = [each for each in self._beginnings if any(token.startswith(each) for token in tokens)]
        return self._tokens.intersection(tokens).union(begun)


def _between(text: str, at: int) -> int:
    """Return the place at or before `at` where a character begins, with its accents, or a joined emoji."""
    for place in range(at, max(0, at - _LONGEST_CHARACTER), -1):
        if place == len(text):
            return place
        goes_on = unicodedata.category(text[place]) in ("Mn", "Mc", "Me") or _CONTINUES.match(text[place])
        if not goes_on and text[place - 1] != "\u200d":
            return place
    return at


def _window(matches: list[_Match], size: int, length: int) -> tuple[int, int]:
    """Return where the part begins and ends that has the most different tokens, the first of several."""
    if size <= length or not matches:
        return 0, min(size, length)
    counts: dict[str, int] = {}
    best, most, first = 0, 0, 0
    for last, match in enumerate(matches):
        for token in match.tokens:
            counts[token] = counts.get(token, 0) + 1
        while match.end - matches[first].start > length - _AROUND and first < last:
            for token in matches[first].tokens:
                counts[token] -= 1
                if not counts[token]:
                    del counts[token]
            first += 1
        if len(counts) > most:
            best, most = first, len(counts)
    start = max(0, min(matches[best].start - _AROUND, size - length))
    return start, min(size, start + length)
