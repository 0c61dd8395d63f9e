"""The check of external links, against a server on this machine: ``make links`` requests the real ones."""

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import links
from tests.support.links import NOT_LINKS, Result, check, find_all, main, urls_of


class _Pages(http.server.BaseHTTPRequestHandler):
    requests: list[str]

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def do_GET(self) -> None:
        self.requests.append(self.path)
        status = {"/gone": 404, "/busy": 503, "/moved": 301, "/today": 302}.get(self.path, 200)
        if self.path == "/recovers" and self.requests.count(self.path) == 1:
            status = 500
        self.send_response(status)
        if status in {301, 302}:
            self.send_header("Location", "/page")
        body = b'<h2 id="usage">Usage</h2><a name=old></a>'
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def site(requests: list[str]) -> Iterator[str]:
    handler = type("_Handler", (_Pages,), {"requests": requests})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_link_leads_to_a_page_and_its_anchor(site: str) -> None:
    for url in (f"{site}/page", f"{site}/page#usage", f"{site}/page#old"):
        assert check(url, pause=0) == Result(url)
    assert check(f"{site}/page#usag", pause=0).error == "the page has no anchor #usag"


def test_a_permanent_redirect_is_reported(site: str) -> None:
    assert check(f"{site}/moved", pause=0) == Result(f"{site}/moved", moved_to=f"{site}/page")
    assert check(f"{site}/today", pause=0) == Result(f"{site}/today")


def test_an_answer_that_is_an_error_is_one(site: str, requests: list[str]) -> None:
    assert check(f"{site}/gone", pause=0).error == "HTTP status 404"
    assert requests == ["/gone"]
    assert check(f"{site}/busy", pause=0).error == "HTTP status 503"
    assert requests == ["/gone", *["/busy"] * links.ATTEMPTS]
    assert check(f"{site}/recovers", pause=0).error == ""


def test_a_server_that_does_not_answer_is_an_error() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert check(f"http://127.0.0.1:{closed.getsockname()[1]}/", pause=0).error.startswith("not reached: ")


def test_the_command_fails_for_a_link_that_leads_nowhere(
    site: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {f"{site}/page": ["a.md:1"], f"{site}/gone": ["a.md:2", "b.md:7"]}
    monkeypatch.setattr(links, "find_all", lambda: places)
    assert main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{site}/gone",
        "    error: HTTP status 404",
        "    a.md:2",
        "    b.md:7",
        "2 links, of which 1 failed",
    ]
    del places[f"{site}/gone"]
    assert main([]) == 0


def test_urls_of_examples_are_not_links() -> None:
    text = """[a](https://a.org/b_(c)#d). See <https://e.org/f>, "https://g.org",
    https://db.example.com/x http://127.0.0.1:80/ https://host/v1 http://{host}.org/ https://localhost"""
    assert list(urls_of(text)) == [
        (1, "https://a.org/b_(c)#d"),
        (1, "https://e.org/f"),
        (1, "https://g.org"),
    ]


def test_every_link_of_a_page_is_found() -> None:
    found = find_all()
    assert any(place.startswith("docs/adk.md:") for place in found["https://adk.dev/sessions/"])
    assert all(url.startswith("https://") for url in found)


@pytest.mark.parametrize("url", NOT_LINKS)
def test_each_exception_is_needed(url: str) -> None:
    root = Path(links.ROOT)
    assert any(url in each.read_text(encoding="utf-8") for each in (root / "agentstore").rglob("*.py"))
