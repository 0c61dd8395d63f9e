"""Files that are stored or in messages: lists, downloads, images as thumbnails; nothing that a browser would run."""

import asyncio
import base64
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio

from agentstore import AgentStore
from agentstore.console import files
from tests.console.payloads import PAYLOADS
from tests.console.sample import picture
from tests.console.support import browser, check_harmless, links_of_rows, path

_PNG = base64.b64decode(picture().partition(",")[2])
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>window.wasRun=1</script></svg>'
_HTML = b"<!doctype html><script>window.wasRun=1</script>"
_IMAGES = {
    "image/png": _PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0" + bytes(40),
    "image/gif": b"GIF89a" + bytes(40),
    "image/webp": b"RIFF\n\0\0\0WEBPVP8 " + bytes(40),
}
_NO_IMAGES = (
    _SVG,
    _HTML,
    b"",
    b"\x89PNG",
    b"GIF87",
    b" " + _PNG,
    b"RIFF____AVI " + _PNG,
    b"BM" + bytes(40),
    b"%PDF-1.7",
)


@pytest_asyncio.fixture
async def in_memory() -> AsyncIterator[Any]:
    opened: Any = AgentStore.in_memory()
    yield opened
    await opened.stop()


def _check_attachment(response: httpx.Response) -> None:
    assert response.status_code == 200
    assert response.headers["content-disposition"].startswith("attachment; filename=")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert response.headers["content-length"] == str(len(response.content))


def _check_image(response: httpx.Response, kind: str) -> None:
    assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert response.headers["cache-control"] == "no-store"  # nothing remains in the browser after a logout


async def test_files_of_all_sessions_are_listed_and_each_version_is_sent(in_memory: Any) -> None:
    for number in range(120):
        session = f"s{number % 7}" if number % 7 else None
        await in_memory.blobs.put("alice", f"file {number}", b"%d" % number, session, app="chat" if number % 2 else "")
    for content in (b"one", b"two", b"three"):
        await in_memory.blobs.put("alice", "file 0", content, content_type="text/html", filename="a.html")
    async with browser(in_memory) as client:
        listed = await links_of_rows(client, path("/user", user="alice", show="files"))
        assert len(set(listed)) == len(listed) == 120
        contents = []
        for each in listed:
            page = check_harmless((await client.get(each)).text)
            for link in page.all("a", "href"):
                if str(link["href"]).startswith("/file/content"):
                    sent = await client.get(str(link["href"]))
                    _check_attachment(sent)
                    contents.append(sent.content)
        # Each page has a link to its version, and one to each version.
        numbers = [b"%d" % number for number in range(120)]
        assert sorted(contents) == sorted([*numbers, *numbers[1:], b"one", b"two", b"three", b"three"])
        only = check_harmless((await client.get(path("/user", user="alice", show="files", session="s3"))).text)
        assert all("session=s3" in str(each["href"]) for each in only.all("a", "data-row"))
        for missing in (
            path("/file", user="alice", name="missing"),
            path("/file/content", user="alice", name="file 0", version=9),
            path("/file/content", user="bob", name="file 0"),
            path("/file/image", user="alice", name="file 0"),
        ):
            response = await client.get(missing)
            assert response.status_code == 404
            check_harmless(response.text)


async def test_only_images_by_their_first_bytes_are_sent_as_images(in_memory: Any) -> None:
    contents = [*_IMAGES.values(), *_NO_IMAGES]
    for number, content in enumerate(contents):
        for kind in (*_IMAGES, "image/svg+xml", "text/html", None):
            await in_memory.blobs.put("alice", f"{number} {kind}", content, content_type=kind)
    large = _PNG + bytes(files.MOST_IMAGE)
    await in_memory.blobs.put("alice", "large", large, content_type="image/png")
    async with browser(in_memory) as client:
        for number, content in enumerate(contents):
            actual = next((kind for kind, each in _IMAGES.items() if each == content), None)
            for kind in (*_IMAGES, "image/svg+xml", "text/html", None):
                of = {"user": "alice", "name": f"{number} {kind}"}
                sent = await client.get(path("/file/image", **of))
                if actual is not None and kind in _IMAGES:
                    _check_image(sent, actual)
                    assert sent.content == content
                else:
                    assert sent.status_code == 404, (number, kind)
                _check_attachment(await client.get(path("/file/content", **of)))
                has_thumbnail = "/file/image" in (await client.get(path("/file", **of))).text
                assert has_thumbnail is (kind in _IMAGES)
        assert (await client.get(path("/file/image", user="alice", name="large"))).status_code == 404
        assert (await client.get(path("/file/content", user="alice", name="large"))).content == large


async def test_images_and_files_in_messages_are_thumbnails_or_attachments(in_memory: Any) -> None:
    def encoded(content: bytes) -> str:
        return base64.b64encode(content).decode()

    parts: list[tuple[dict[str, Any], str, bytes]] = [
        *(
            ({"type": "image", "image_url": f"data:{declared};base64,{encoded(content)}"}, "image", content)
            for content in _IMAGES.values()
            for declared in ("image/png", "text/html", "image/svg+xml")
        ),
        *(
            ({"type": "image", "image_url": f"data:image/png;base64,{encoded(content)}"}, "file", content)
            for content in (_SVG, _HTML)
        ),
        ({"type": "image", "image_url": f"DATA:image/png;x=y;base64,{encoded(_PNG)}"}, "image", _PNG),
        ({"type": "image", "image_url": "data:image/png;base64,$$$$"}, "broken", b""),
        ({"type": "image", "image_url": "data:image/png," + "x" * 100}, "none", b""),
        ({"type": "image", "image_url": "javascript:alert(1)"}, "none", b""),
        ({"type": "file", "filename": "<b>.html", "file_data": encoded(_HTML)}, "file", _HTML),
        ({"type": "file", "file_data": f"data:text/html;base64,{encoded(_HTML)}"}, "file", _HTML),
        ({"type": "file", "file_url": f"data:text/html;base64,{encoded(_HTML)}"}, "file", _HTML),
        ({"type": "file", "file_id": "file-1"}, "none", b""),
        ({"type": "audio", "data": encoded(b"RIFF"), "format": "wav"}, "file", b"RIFF"),
        ({"type": "audio", "format": "wav"}, "none", b""),
    ]
    await in_memory.sessions.append("alice", "s", {"role": "user", "content": [each for each, _, _ in parts]})
    async with browser(in_memory) as client:
        page = check_harmless((await client.get(path("/session", user="alice", session="s"))).text)
        shown = [str(each["src"]) for each in page.all("img", "src") if "media" in str(each["src"])]
        links = [str(each["href"]) for each in page.all("a", "href") if "as=file" in str(each["href"])]
        for index, (part, kind, content) in enumerate(parts):
            where = path("/session/media", user="alice", session="s", seq=1, part=index)
            as_file = f"{where}&as=file"
            assert (where in shown, as_file in links) == (kind == "image", kind in ("file", "broken")), part
            image, attached = await client.get(where), await client.get(as_file)
            if kind == "image":
                _check_image(image, next(each for each, data in _IMAGES.items() if data == content))
                assert image.content == content
            else:
                assert image.status_code == 404
            if kind in ("image", "file"):
                _check_attachment(attached)
                assert attached.content == content
            else:
                assert attached.status_code == 404


async def test_a_name_of_a_file_is_no_header_and_no_path(in_memory: Any) -> None:
    names = [
        *PAYLOADS,
        "../../etc/passwd",
        "a\r\nset-cookie: x=y",
        'a"; filename="b.exe',
        "日本語.txt",
        ".",
        "",
        "x" * 9_000,
    ]
    names = [each.replace("\0", "") for each in names if "\ud800" not in each]
    for number, name in enumerate(names):
        await in_memory.blobs.put("alice", f"n{number}", b"x", filename=name)
    async with browser(in_memory) as client:
        for number in range(len(names)):
            sent = await client.get(path("/file/content", user="alice", name=f"n{number}"))
            _check_attachment(sent)
            assert "set-cookie" not in sent.headers or "x=y" not in sent.headers["set-cookie"]
            header = sent.headers["content-disposition"]
            assert header.isascii()
            assert header.isprintable()
            assert header.count('"') == 2
            assert not any(each in header for each in ("/", "\\", "%2F", "%5C", "%00", "%0A"))
            assert len(header) < 1_000
            check_harmless((await client.get(path("/file", user="alice", name=f"n{number}"))).text)


async def test_a_download_is_sent_a_chunk_at_a_time(store: AgentStore) -> None:
    size = 40_000_000

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(size // 500_000):
            yield bytes(500_000)

    await store.blobs.put("alice", "large", parts())
    async with browser(store) as client:
        app: Any = client._transport.app  # type: ignore[attr-defined]
        sent: list[int] = []

        async def send(message: Any) -> None:
            sent.append(len(message.get("body", b"")))

        async def receive() -> Any:
            await asyncio.sleep(60)

        query = path("/file/content", user="alice", name="large").partition("?")[2].encode()
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/file/content",
            "query_string": query,
            "http_version": "1.1",
        }
        scope |= {"headers": [(b"host", b"127.0.0.1")], "http_version": "1.1", "asgi": {"version": "3.0"}}
        tracemalloc.start()
        await app(scope, receive, send)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sum(sent) == size
    assert max(sent) <= 500_000
    assert peak < size / 4
