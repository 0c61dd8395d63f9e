"""Check that the external links of the repository work: ``python -m tests.support.links`` (needs the network).

Without arguments, it requests each URL that the documentation, the docstrings and the metadata of the package name, and
exits with 1 if one cannot be reached, is answered by an error, or lacks the anchor that is linked. A URL that has moved
for good is printed with its new place. ``--list`` prints each URL with the lines that have it, and requests nothing.
"""

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urldefrag, urlsplit

ROOT = Path(__file__).parents[2]
TIMEOUT = 20.0
"""Seconds until a server has to answer."""
ATTEMPTS = 3
"""How often a URL is requested whose server does not answer, is busy or fails."""
NOT_LINKS = {
    "https://api.openai.com/v1": "the base of an API, which answers no GET",
    "https://opentelemetry.io/schemas/1.37.0": "the name of a schema, in the form that OpenTelemetry defines",
    "https://x.y/z?q=1": "a text that the contract of memory stores",
}
"""URLs of the repository that are not the address of a page, and why."""

_FILES = ["*.md", "*.py", "*.toml", "*.yml", "*.yaml", "*.sql", "*.html", "*.css", "Makefile", ":!tests"]
_URL = re.compile(r"https?://[^\s<>\"'`\\{}|^]+")
# Hosts of examples (RFC 2606), the own machine, names without a domain, and text that is no name.
_EXAMPLE = re.compile(r"(.*\.)?(example(\.(com|org|net))?|test|invalid|localhost)|[\d.]+|[^.]*|.*[^a-z\d.-].*")


@dataclass(frozen=True)
class Result:
    """What a request of a URL has shown; `error` is empty if it leads to a page."""

    url: str
    error: str = ""
    moved_to: str = ""


def urls_of(text: str) -> Iterable[tuple[int, str]]:
    """Yield each URL of a text that leads to a page elsewhere, with the number of its line."""
    for number, line in enumerate(text.splitlines(), 1):
        for found in _URL.finditer(line):
            url = found[0].rstrip(".,;:!?*")
            while url.endswith(")") and url.count(")") > url.count("("):
                url = url[:-1].rstrip(".,;:!?*")
            if not _EXAMPLE.fullmatch(urlsplit(url).hostname or "") and url not in NOT_LINKS:
                yield number, url


def find_all(root: Path = ROOT) -> dict[str, list[str]]:
    """Return each external URL of the files in a repository, with the places that have it, as ``docs/faq.md:3``."""
    command = ["git", "ls-files", "-z", "--", *_FILES]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    places: dict[str, list[str]] = {}
    for name in filter(None, listed.split("\0")):
        for number, url in urls_of((root / name).read_text(encoding="utf-8")):
            places.setdefault(url, []).append(f"{name}:{number}")
    return dict(sorted(places.items()))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and remembers whether all of them are permanent."""

    def __init__(self) -> None:
        self.is_permanent = True

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        self.is_permanent &= code in {301, 308}
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check(url: str, *, pause: float = 2.0) -> Result:
    """Request a URL, and return whether it leads to a page with the linked anchor.

    Args:
        url: an address, perhaps with an anchor.
        pause: seconds to wait before a request is repeated.
    """
    address, anchor = urldefrag(url)
    error = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause)
        redirects = _Redirects()
        request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)", "Accept": "*/*"})
        try:
            with urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT) as response:
                text = response.read().decode("utf-8", "replace") if anchor else ""
                place = response.geturl()
        except urllib.error.HTTPError as answer:
            with answer:
                error = f"HTTP status {answer.code}"
            if answer.code < 500 and answer.code != 429:
                break
        except (OSError, HTTPException) as failure:  # URLError is an OSError
            error = f"not reached: {failure}"
        else:
            if anchor and not re.search(rf"""\b(id|name)=["']?{re.escape(unquote(anchor))}["'\s>]""", text):
                return Result(url, f"the page has no anchor #{anchor}")
            return Result(url, moved_to=place if place != address and redirects.is_permanent else "")
    return Result(url, error)


def main(arguments: list[str]) -> int:
    """Print the links or what is wrong with them, and return the exit code."""
    places = find_all()
    if "--list" in arguments:
        for url, lines in places.items():
            print(url, *lines, sep="\n    ")
        return 0
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(check, places))
    for each in results:
        if each.error or each.moved_to:
            what = f"error: {each.error}" if each.error else f"moved to {each.moved_to}"
            print(each.url, what, *places[each.url], sep="\n    ")
    wrong = sum(bool(each.error) for each in results)
    print(f"{len(results)} links, of which {wrong} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
