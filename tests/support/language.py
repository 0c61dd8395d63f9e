"""Phrases that are never right in this project's English: ``python -m tests.support.language`` lists where they occur.

CONTRIBUTING.md has the whole table of the house style; this is the part of it that needs no judgment. Exits with 1 if
any tracked file has one.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# A regular expression, and what to write instead.
NEVER = {
    r"(say|said|says|saying) (it |them |that )?again": "retry, execute again",
    r"repeated as it was": "retried",
    r"broken off": "interrupted",
    r"(gone|goes|going|went) on with": "resumed, continues",
    r"anew": "again, recreated, rebuilt",
    r"as it stands|as they stand": "existing, unchanged",
    r"of (ours|yours|theirs)|one's own": "our, your",
    r"(is|are|was|were) (no time|none of them|no such thing)": "is not a valid ...",
    r"for ever": "indefinitely",
    r"whoever|whomever": "the caller, another process",
    r"holds no more|in use no more|found no more|no more there": "no longer valid, released",
    r"comes? back equal": "round-trips unchanged",
    r"(a )?times? to come": "a time in the future",
    r"nothing fits": "no memories match",
    r"(is|are|was|were) lent": "is checked out",
    r"begun again": "restarted",
    r"it is told|was told that": "it receives",
    r"makes? of (it|them)": "creates from it",
}
# A word may be joined to the next by an underscore, as in the name of a test.
_PATTERNS = {
    phrase: re.compile(rf"(?<![a-zA-Z])(?:{phrase.replace(' ', '[ _]+')})(?![a-zA-Z])", re.IGNORECASE)
    for phrase in NEVER
}
# The end of a line in a paragraph or a comment, and what stands before the next line's first word.
_LINE_END = re.compile(r"\n[ \t]*(?:#+|//|--|\*|>)?[ \t]*")
_ROOT = Path(__file__).parents[2]
# The lists of phrases, texts that tests and examples search, and released files.
_EXCLUDED = re.compile(
    r"CONTRIBUTING\.md|LICENSE|tests/support/language\.py|tests/unit/test_language\.py|tests/previous/release.*|tests/migrations/dumps/.*"
    r"|.*\.(xz|json|jsonl|png|svg|gz|zst)|docs/performance/.*|examples/.*\.jsonl?"
)


def find_phrases(path: str, text: str) -> Iterator[str]:
    """Yield a message for each phrase in a text, including those that a line break splits."""
    one_line = _LINE_END.sub(lambda end: " " * len(end[0]), text)  # of the same length
    for phrase, pattern in _PATTERNS.items():
        for match in pattern.finditer(one_line):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path}:{line}: {match[0]!r}: write {NEVER[phrase]}"


def main() -> int:
    """Print what is found, and return the exit code."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, text=True, check=True).stdout
    complaints = [
        complaint
        for path in filter(None, tracked.split("\0"))
        if not _EXCLUDED.fullmatch(path) and (_ROOT / path).is_file()
        for complaint in find_phrases(path, (_ROOT / path).read_text(encoding="utf-8"))
    ]
    print("\n".join(complaints) or "language: nothing found")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
