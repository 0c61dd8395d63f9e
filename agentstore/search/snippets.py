"""Snippets: the part of a memory that matches a query best, with the matches highlighted."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from agentstore.search import analysis
from agentstore.search.spelling import PREFIX

# Zero-width joiners, variation selectors and skin tones, which continue an emoji.
_JOINERS = "\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff"
# Text written without spaces is matched by pairs of characters, other text by words.
_PIECES = re.compile(
    rf"(?P<joined>[{analysis.JOINED}]+)|[\U0001f1e6-\U0001f1ff]{{2}}"
    rf"|{analysis.LETTER}(?:(?:{analysis.LETTER}|[.\-@/:'’&+~%?=#,])*(?:{analysis.LETTER}|[+#]))?"
    rf"|[^\w\s](?:[{_JOINERS}]+[^\w\s]?)*"
)
_CONTINUES = re.compile(rf"[{_JOINERS}]")
# The maximum length of a grapheme in code points.
_MAX_GRAPHEME = 40
# Characters of context before the first match.
_CONTEXT = 30


class _Match(NamedTuple):
    start: int
    end: int
    tokens: frozenset[str]


class Highlighter:
    """Highlights the tokens of a query in texts."""

    def __init__(self, tokens: Iterable[str], language: str, *, most: int) -> None:
        """Highlight `tokens`. Only the first `most` characters of a text are searched for matches."""
        self._tokens = frozenset(tokens)
        self._prefixes = tuple(token.removesuffix(PREFIX) for token in self._tokens if token.endswith(PREFIX))
        self._language = language
        self._most = most
        # A single character matches in many words: it is highlighted only if the query has nothing longer.
        self._has_longer = any(len(token) > 1 for token in self._tokens)

    def __call__(self, text: str, length: int = 200) -> list[tuple[str, bool]]:
        """Return about `length` characters of a text as a list of parts, each with whether it matches.

        Chooses the part with the most different tokens of the query. An ellipsis marks text that was left out. Takes
        time linear in the text.
        """
        matches = list(self._matches(text[: self._most]))
        start, end = (_grapheme_start(text, at) for at in _window(matches, len(text), length))
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

    def contains_match(self, text: str, time: datetime) -> bool:
        """Return whether a memory with this text and time has any of the tokens itself, and not only its neighbors."""
        found = analysis.memory_tokens(text[: self._most], time, self._language)
        return any(token in self._tokens or token.startswith(self._prefixes) for token in (*found.words, *found.dates))

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
        prefixes = [each for each in self._prefixes if any(token.startswith(each) for token in tokens)]
        return self._tokens.intersection(tokens).union(prefixes)


def _grapheme_start(text: str, at: int) -> int:
    """Return the start of the grapheme (a character with its accents, or an emoji sequence) at or before `at`."""
    for place in range(at, max(0, at - _MAX_GRAPHEME), -1):
        if place == len(text):
            return place
        continues = unicodedata.category(text[place]) in ("Mn", "Mc", "Me") or _CONTINUES.match(text[place])
        if not continues and text[place - 1] != "\u200d":
            return place
    return at


def _window(matches: list[_Match], size: int, length: int) -> tuple[int, int]:
    """Return the start and end of the part with the most different tokens; of several, the first."""
    if size <= length or not matches:
        return 0, min(size, length)
    counts: dict[str, int] = {}
    best, most, first = 0, 0, 0
    for last, match in enumerate(matches):
        for token in match.tokens:
            counts[token] = counts.get(token, 0) + 1
        while match.end - matches[first].start > length - _CONTEXT and first < last:
            for token in matches[first].tokens:
                counts[token] -= 1
                if not counts[token]:
                    del counts[token]
            first += 1
        if len(counts) > most:
            best, most = first, len(counts)
    start = max(0, min(matches[best].start - _CONTEXT, size - length))
    return start, min(size, start + length)
