"""The pages of the console, rendered without a browser."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from starlette.requests import Request

from agentstore import AgentStore, Message, Settings, Unavailable
from agentstore.console import conversation, texts, users, view
from agentstore.console.app import create_app
from agentstore.console.recent import Recent
from agentstore.console.rendering import format_json, highlight, render_argument, render_markdown
from agentstore.console.security import ConsoleOptions
from agentstore.database.telemetry import StatementEvent, Telemetry
from agentstore.schemas import MemoryHit, TextContent
from agentstore.schemas.checkpoint import Checkpoint, CheckpointWrite, Serialized
from agentstore.testing import text
from tests.console.payloads import PAYLOADS
from tests.console.sample import Extractor, fill, fill_queue, picture
from tests.console.support import Document, browser, check_harmless, links_of_rows, pages_of, path

_TEMPLATES = Path(view.__file__).parent / "templates"
_PAGES = [
    path("/"),
    path("/users"),
    path("/users", prefix="al"),
    path("/users", prefix="missing"),
    *(path("/user", user="alice", show=tab) for tab in users.TABS),
    *(path("/user", user="priya", show=tab) for tab in ("memories", "facts", "states", "files")),
    path("/user", user="alice", show="files", session="lisbon"),
    path("/user", user="alice", show="documents", namespace="trips"),
    path("/user", user="alice", show="documents", q="vegetarian"),
    path("/user", user="alice", show="documents", q="zzzz", namespace="none"),
    *(path("/user", user="priya", show=tab) for tab in ("documents", "checkpoints")),
    *(path("/document", user="alice", id=id) for id in ("profile/food", "settings")),
    path("/checkpoints", user="alice", session="lisbon"),
    path("/checkpoints", user="alice", session="lisbon", namespace="search:1"),
    path("/checkpoints", user="alice", session="missing"),
    path("/checkpoint", user="alice", session="lisbon", namespace="", id="1f04-0000"),
    path("/checkpoint", user="alice", session="lisbon", namespace="", id="1f00-0000"),
    *(
        path("/checkpoint", user="alice", session="lisbon", namespace="", id="1f04-0000", channel=channel)
        for channel in ("messages", "plan", "image")
    ),
    path("/file", user="alice", session="lisbon", name="viewpoint.png"),
    path("/file", user="alice", name="tickets.pdf", version=0),
    path("/session", user="alice", session="lisbon"),
    path("/session", user="alice", session="lisbon", after=0),
    path("/session", user="alice", session="lisbon, cheaper"),
    path("/session", user="سارة", session="رحلة"),
    path("/session/message", user="alice", session="lisbon", seq=9),
    path("/search"),
    path("/search", user="alice", q="budget for Lisbon"),
    path("/search", user="alice", q="budget", strategy="full_text", neighbors="no", role="user"),
    path("/search", user="alice", q="zzzz"),
    path("/search", user="priya", q="x"),
    path("/search", user="alice", q="x", metadata="no JSON"),
    path("/states", user="alice", session="lisbon"),
    path("/states", user="alice"),
    path("/state", user="alice", session="lisbon", round=2),
    path("/diff", user="alice", session="lisbon", a=1, b=3),
    path("/diff", user="alice", session="lisbon", a=2, b=2),
    path("/queue"),
    path("/queue", show="leased", user="alice"),
    path("/queue", show="failed"),
    path("/operations"),
    path("/keys"),
    path("/act/rename", user="alice", session="lisbon"),
    path("/act/delete-session", user="alice", session="lisbon"),
    path("/act/delete-states", user="alice", session="lisbon", round=1),
    path("/act/delete-memories", user="alice"),
    path("/act/erase", user="alice"),
    path("/act/retry"),
    path("/act/prune"),
    path("/act/prune", days=30),
]
_MISSING = {
    path("/nosuch"): 404,
    path("/user", user="missing"): 404,
    path("/session", user="alice", session="missing"): 404,
    path("/session/message", user="alice", session="lisbon", seq=99): 404,
    path("/session/media", user="alice", session="lisbon", seq=2, part=0): 404,
    path("/state", user="alice", session="lisbon", round=99): 404,
    path("/document", user="alice", id="missing"): 404,
    path("/checkpoint", user="alice", session="lisbon", namespace="", id="missing"): 404,
    path("/checkpoint", user="alice", session="lisbon", namespace="", id="1f04-0000", channel="missing"): 404,
    path("/diff", user="alice", session="lisbon", a=1, b=99): 404,
    path("/diff", user="alice", session="lisbon"): 400,
    path("/user", user="\0"): 400,
    path("/users", cursor="nonsense"): 200,
    path("/user", user="x" * 513): 400,
}
_WRITES = ConsoleOptions(allow_writes=True)


@pytest_asyncio.fixture
async def in_memory() -> AsyncIterator[AgentStore]:
    store: Any = AgentStore.in_memory(extractor=Extractor())
    await fill(store)
    yield store
    await store.stop()


async def test_each_page_is_complete_and_harmless_in_both_languages(
    in_memory: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    untranslated: set[str] = set()

    def translate(language: str, given: str) -> str:
        if language == "zh" and given not in texts._CHINESE:
            untranslated.add(given)
        return texts.translate(language, given)

    monkeypatch.setattr(view, "translate", translate)
    async with browser(in_memory, options=_WRITES) as client:
        for each in _PAGES:
            for language in ("en", "zh"):
                response = await client.get(each, headers={"accept-language": f"{language};q=0.9, fr"})
                assert response.status_code == 200, (each, response.text)
                assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
                found = check_harmless(response.text)
                assert found.all("html", "lang", language)
                assert len([tag for tag, _ in found.elements if tag == "h1"]) == 1, each
        for each, status in _MISSING.items():
            response = await client.get(each)
            assert response.status_code == status, each
            check_harmless(response.text)
    details = {each for each in untranslated if "agentstore" in each or "'" in each}  # errors of the library
    assert untranslated - details == set()


def test_each_text_of_the_templates_is_translated() -> None:
    literal = re.compile(r"""\bt\("((?:[^"\\]|\\.)*)"\)""")
    for template in _TEMPLATES.iterdir():
        for found in literal.findall(template.read_text()):
            assert found.replace('\\"', '"') in texts._CHINESE, f"{template.name}: {found}"
    for english, chinese in texts._CHINESE.items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese)), english


def test_a_duration_has_its_two_largest_units() -> None:
    for seconds, expected in ((0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7_226, "2 h"), (7_330, "2 h 2 min")):
        assert view.format_duration(seconds) == expected
    assert view.format_duration(90_061) == "1 d 1 h"
    assert view.format_duration(3_605) == "1 h"
    assert view.format_duration(1e9) == "11,574 d 1 h"


def test_the_language_is_the_one_that_the_browser_prefers() -> None:
    for accepted, expected in (
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en;q=0.5, zh;q=0.7", "zh"),
        ("fr, de", "en"),
        ("zh;q=x", "en"),
    ):
        assert texts.choose_language(None, accepted) == expected
    assert texts.choose_language("en", "zh") == "en"
    assert texts.choose_language("xx", "zh") == "zh"


async def test_stored_text_never_becomes_an_element_or_a_handler() -> None:
    store: Any = AgentStore.in_memory()
    await store.start()
    messages: list[Any] = []
    for payload in PAYLOADS:
        messages += [
            Message.user(payload, metadata={"name": payload, payload: payload}),
            {"role": "user", "content": [{"type": "image", "image_url": payload}]},
            {"role": "user", "content": [{"type": "file", "filename": payload, "file_url": payload}]},
            {"role": "user", "content": [{"type": "audio", "format": payload, "transcript": payload}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": payload}]},
            {"role": "assistant", "type": payload, "content": payload, "code": payload, "message": payload},
            {"role": "assistant", "type": "function_call", "content": [
                {"type": "data", "data": {"call_id": payload, "name": payload, "arguments": payload}}
            ]},
            {"role": "tool", "type": "function_call_output", "content": [
                {"type": "data", "data": {"call_id": payload, "output": payload}}
            ]},
            {"role": "tool", "type": "function_call_output", "content": [
                {"type": "data", "data": {"call_id": f"{payload} ", "output": {payload: payload}}}
            ]},
        ]  # fmt: skip
    for number, message in enumerate(messages):
        await store.sessions.append("alice", f"s{number // 45}", message)
    ids = [payload for payload in PAYLOADS if "\0" not in payload and "\ud800" not in payload and len(payload) < 400]
    for payload in ids:
        await store.sessions.append(payload, payload, Message.user("x", metadata={"name": payload}))
        await store.sessions.set_title(payload, payload, payload)
        await store.sessions.set_metadata(payload, payload, {payload: payload})
        await store.users.set_metadata(payload, {payload: payload})
        await store.states.save_state(payload, {payload: payload}, payload, metadata={payload: payload})
        await store.states.save_state(payload, {payload: [payload]}, payload)
        await store.blobs.put(payload, payload, b"x", content_type=payload[:100], filename=payload)
        await store.memory.save_items(payload, {"text": f"likes {payload}", "kind": payload})
        given = {"id": payload, "text": payload, "metadata": {payload: payload}}
        await store.documents.put(payload, given)
        packed = Serialized(payload[:50], payload.encode())
        hostile = Checkpoint(payload, payload, packed, packed, None, payload, {payload: "1"}, {payload: packed})
        await store.checkpoints.put(payload, payload, hostile, is_complete=True)
        await store.checkpoints.put_writes(
            payload, payload, payload, payload, [CheckpointWrite(payload, 0, payload, packed)]
        )
        await store.memory.add_sessions(payload)
    async with browser(store, options=_WRITES) as client:
        for number in range((len(messages) + 44) // 45):
            response = await client.get(path("/session", user="alice", session=f"s{number}"))
            assert response.status_code == 200
            check_harmless(response.text)
        for number, payload in enumerate(ids):
            of = {"user": payload, "session": payload}
            pages = (
                path("/users", prefix=payload[:20]),
                *(path("/user", user=payload, show=tab) for tab in users.TABS if tab != "sandboxes"),
                path("/file", user=payload, name=payload),
                path("/user", user=payload, show="documents", q=payload, namespace=payload),
                path("/document", user=payload, id=payload),
                path("/checkpoints", **of),
                path("/checkpoint", **of, namespace=payload, id=payload),
                path("/checkpoint", **of, namespace=payload, id=payload, channel=payload),
                path("/session", **of),
                path("/session", **of, around=payload),
                path("/session/message", **of, seq=1),
                path("/search", user=payload, q=payload, role=payload, namespace=payload),
                path("/states", **of),
                path("/state", **of, round=1),
                path("/diff", **of, a=1, b=2),
                path("/act/delete-session", **of),
                path("/act/rename", **of),
                path("/act/erase", user=payload),
                path("/nosuch", x=payload),
            )
            # Each text on some of the pages, and each page with some of the texts.
            for each in pages[number % 4 :: 4]:
                check_harmless((await client.get(each)).text)
    await store.stop()


async def test_a_conversation_pairs_calls_with_outputs_and_places_states(in_memory: AgentStore) -> None:
    async with browser(in_memory) as client:
        html = (await client.get(path("/session", user="alice", session="lisbon"))).text
        found = Document(html)
        assert [each["data-call"] for each in found.all("article", "data-call")] == ["call_1", "call_2"]
        assert found.all("article", "data-output") == []  # both are within their calls
        weather = html.index("get_weather")
        assert weather < html.index('<span class="mf">0.1</span>') < html.index("search_trains")
        for tag in ("<table>", "<ol>", "<blockquote>", '<span class="k">def</span>'):
            assert tag in html
        states = [html.index(f"round={number}") for number in (1, 2, 3)]
        assert html.index("not too expensive") < states[0] < html.index("I look up") < states[1] < states[2]
        assert "session=lisbon%2C+cheaper" in html
        assert "session=porto+instead" in html
        (image,) = (each for each in found.all("img", "src") if "media" in str(each["src"]))
        response = await client.get(str(image["src"]))
        assert (response.headers["content-type"], response.content[:4]) == ("image/png", b"\x89PNG")
        assert "sandbox" in response.headers["content-security-policy"]
        raw = await client.get(path("/session/message", user="alice", session="lisbon", seq=2, **{"as": "json"}))
        assert raw.json()["content"][0]["text"].startswith("Plan three days")
        assert (
            picture()[:30]
            in (
                await client.get(path("/session/message", user="alice", session="lisbon", seq=9, **{"as": "text"}))
            ).text
        )


async def test_pages_of_a_conversation_have_every_message_once_in_both_directions() -> None:
    store: Any = AgentStore.in_memory()
    await store.sessions.append("alice", "s", [text(str(number), id=f"m{number}") for number in range(1, 234)])
    await store.sessions.delete_messages("alice", "s", ["m100", "m101"])
    expected = [str(number) for number in range(1, 234) if number not in (100, 101)]
    async with browser(store) as client:

        async def walk(start: str, rel: str) -> list[list[str]]:
            pages = pages_of(client, start, rel)
            return [[str(each["data-seq"]) for each in page.all("article", "data-seq")] async for page in pages]

        forwards = await walk(path("/session", user="alice", session="s", after=0), "next")
        assert [seq for page in forwards for seq in page] == expected
        backwards = await walk(path("/session", user="alice", session="s"), "prev")
        assert [seq for page in reversed(backwards) for seq in page] == expected
        around = Document((await client.get(path("/session", user="alice", session="s", around="m150"))).text)
        seqs = [str(each["data-seq"]) for each in around.all("article", "data-seq")]
        assert seqs == [str(number) for number in range(125, 175)]
        assert [each["data-seq"] for each in around.all("article", "class", "message user marked")] == ["150"]
        gone = await client.get(path("/session", user="alice", session="s", around="m100"))
        assert "was deleted" in gone.text
        assert "#233" in gone.text


async def test_a_large_message_is_cut_on_the_page_and_sent_whole_on_request() -> None:
    store: Any = AgentStore.in_memory()
    large = "word " * 2_000_000
    await store.sessions.append("alice", "s", [text("before"), text(large), text("after")])
    async with browser(store) as client:
        html = (await client.get(path("/session", user="alice", session="s"))).text
        assert len(html) < 50_000
        found = Document(html)
        assert "9,980,000 more characters are not shown" in found.text
        (link,) = (each["href"] for each in found.all("a", "href") if "as=text" in str(each["href"]))
        whole = await client.get(str(link))
        assert whole.headers["content-type"] == "text/plain; charset=utf-8"
        assert whole.text == large
        assert len((await client.get(path("/session/message", user="alice", session="s", seq=2))).text) < 250_000


async def test_new_messages_are_sent_as_events_until_the_session_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversation, "_INTERVAL", 0.01)
    monkeypatch.setattr(conversation, "_HEARTBEAT", 0.05)
    store: Any = AgentStore.in_memory()
    await store.sessions.append("alice", "s", [text("one"), text("two")])
    app = create_app(store)
    scope = {"type": "http", "method": "GET", "path": "/session/events", "headers": [], "query_string": b""}
    shown = view.View(app.state.console, Request(scope), None)
    parts: Any = conversation._stream(shown, "alice", "s", 1)
    async with aclosing(parts), asyncio.timeout(30):
        assert await anext(parts) == "retry: 2000\n\n"
        event = await anext(parts)
        assert event.startswith("id: 2\nevent: message\n")
        assert "two" in json.loads(event.split("data: ")[1])["html"]
        assert await anext(parts) == ": waiting\n\n"
        await store.sessions.append("alice", "s", Message.user("<script>three</script>"))
        while (event := await anext(parts)).startswith(":"):
            pass
        assert "&lt;script&gt;three" in json.loads(event.split("data: ")[1])["html"]
        await store.sessions.delete_session("alice", "s")
        while (event := await anext(parts)).startswith(":"):
            pass
        assert event.startswith("event: gone\n")
        with pytest.raises(StopAsyncIteration):
            await anext(parts)
    assert not app.state.console.followers.locked()


async def test_a_hit_says_why_it_was_found(in_memory: AgentStore) -> None:
    async with browser(in_memory) as client:
        found = Document((await client.get(path("/search", user="alice", q="trains and budget for Lisbon"))).text)
        assert "Words of its text match the question." in found.text
        assert "Its neighbors in the session match" in found.text
        assert found.all("article", "class", "hit neighbor")
        without = await client.get(path("/search", user="alice", q="trains and budget for Lisbon", neighbors="no"))
        assert Document(without.text).all("article", "class", "hit neighbor") == []
        vector = await client.get(path("/search", user="alice", q="trains", strategy="vector"))
        assert "Not available here" in vector.text
        assert "embedder" in vector.text


async def _with_unreadable(store: AgentStore, url: str, seqs: Sequence[int]) -> None:
    """Store a session of 120 messages, of which those with these numbers are not valid."""
    await store.sessions.append("alice", "s", [text(f"number {each}", id=f"m{each}") for each in range(1, 121)])
    connection = await asyncpg.connect(url)
    await connection.execute(
        "UPDATE agentstore.messages SET payload = $1 WHERE session_id = 's' AND seq = ANY($2)",
        '{"role": "<b>alien", "content": 5}',
        list(seqs),
    )
    await connection.close()


@pytest.mark.parametrize(
    "seqs", [[3], [1, 50, 51, 52, 70, 71, 120], range(1, 121), range(20, 121)], ids=["one", "some", "all", "most"]
)
async def test_an_unreadable_message_is_marked_among_the_others(
    store: AgentStore, direct_url: str, seqs: Sequence[int]
) -> None:
    await _with_unreadable(store, direct_url, seqs)
    async with browser(store) as client:

        async def walk(start: str, rel: str) -> list[int]:
            found: list[list[int]] = []
            async for page in pages_of(client, start, rel):
                found.append([int(str(each["data-seq"])) for each in page.all("article", "data-seq")])
                assert len(found[-1]) <= 50
                marked = [int(str(each["data-seq"])) for each in page.all("article", "class", "message unreadable")]
                assert marked == [each for each in found[-1] if each in seqs]
                assert page.text.count("Unreadable message") == len(marked)
            return [each for part in (found if rel == "next" else found[::-1]) for each in part]

        assert await walk(path("/session", user="alice", session="s", after=0), "next") == [*range(1, 121)]
        assert await walk(path("/session", user="alice", session="s"), "prev") == [*range(1, 121)]
        of = {"user": "alice", "session": "s", "seq": seqs[0]}
        page = check_harmless((await client.get(path("/session/message", **of))).text)
        assert "Unreadable message" in page.text
        assert "alien" in page.text
        (back,) = (str(each["href"]) for each in page.all("a", "href") if str(each["href"]).endswith(f"#m{seqs[0]}"))
        assert f'id="m{seqs[0]}"' in (await client.get(back)).text
        for kind in ("text", "json"):
            sent = await client.get(path("/session/message", **of, **{"as": kind}))
            assert sent.text == '{"role": "<b>alien", "content": 5}'
        assert (await client.get(path("/session/media", **of, part=0))).status_code == 404


async def test_an_unreadable_message_is_marked_among_new_ones(
    store: AgentStore, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "_INTERVAL", 0.01)
    monkeypatch.setattr(conversation, "_HEARTBEAT", 0.05)
    await _with_unreadable(store, direct_url, [118, 120])
    app = create_app(store)
    scope = {"type": "http", "method": "GET", "path": "/session/events", "headers": [], "query_string": b""}
    parts: Any = conversation._stream(view.View(app.state.console, Request(scope), None), "alice", "s", 117)
    async with aclosing(parts), asyncio.timeout(30):
        assert await anext(parts) == "retry: 2000\n\n"
        events: list[str] = []
        while len(events) < 3:
            events += [each] if (each := await anext(parts)) != ": waiting\n\n" else []
    assert [each.split("\n")[0] for each in events] == ["id: 118", "id: 119", "id: 120"]
    assert sum("message unreadable" in each for each in events) == 2


async def test_extractions_are_listed_by_their_state(store: AgentStore, direct_url: str) -> None:
    await fill_queue(direct_url, count=240)  # 60 in each of four states
    async with browser(store, store._database, _WRITES) as client:

        async def walk(**parameters: str) -> list[str]:
            return await links_of_rows(client, path("/queue", **parameters))

        waiting = await walk(show="waiting")
        numbers = [int(each.rpartition("+")[2]) for each in waiting]
        assert sorted(numbers) == [each for each in range(240) if each % 4 in (0, 3)]
        assert [each % 4 for each in numbers] == [3] * 60 + [0] * 60  # those that are due for longest, first
        for tab, remainder in (("leased", 1), ("failed", 2)):
            of_all, of_one = await walk(show=tab), await walk(show=tab, user=f"user {remainder}")
            assert of_all == of_one
            assert len(set(of_all)) == 60
            assert await walk(show=tab, user="user 0") == []
        page = (await client.get("/queue")).text
        assert page.count("due</span>") == 50
        assert "the endpoint is down" in page
        failed = await client.get(path("/queue", show="failed"))
        assert "401: &lt;b&gt;no key" in failed.text
        asked = await client.get(path("/act/retry", user="user 2"))
        await client.post("/act/retry", data=Document(asked.text).fields())
        assert await walk(show="failed") == []


async def test_the_charts_count_all_sessions_of_the_last_days(in_memory: AgentStore) -> None:
    found = await in_memory.stats()
    async with browser(in_memory) as client:
        html = (await client.get("/")).text
    for each in found.growth:
        assert f"{each.day:%d %b}: {each.sessions:,}</title>" in html
        assert f"{each.day:%d %b}: {each.messages:,}</title>" in html
    assert sum(each.sessions for each in found.growth) == found.sessions


async def test_a_page_reads_a_bounded_number_of_rows(database_url: str, settings: Settings) -> None:
    events: list[StatementEvent] = []
    telemetry = Telemetry(on_statement=events.append)
    async with AgentStore(database_url, settings=settings, telemetry=telemetry) as store:
        for number in range(400):
            await store.sessions.create_session("alice", f"s{number}", title=f"number {number}")
        many = [text("x" * 100) for _ in range(2_000)]
        await store.sessions.append("alice", "s0", many)
        async with browser(store, store._database) as client:
            for each in (
                path("/user", user="alice"),
                path("/session", user="alice", session="s0"),
                path("/session", user="alice", session="s0", after=1_000),
                path("/users"),
            ):
                events.clear()
                assert (await client.get(each)).status_code == 200
                rows = sum(event.rows or 0 for event in events)
                # A page of 50 and one more, the rounds, and the sessions among which forks are searched.
                assert len(events) <= 6, [event.name for event in events]
                assert rows <= 300, [(event.name, event.rows) for event in events]


async def test_an_export_is_restored_by_another_store(in_memory: AgentStore) -> None:
    import io

    async with browser(in_memory) as client:
        response = await client.get(path("/export", user="alice"))
        assert response.headers["content-disposition"].startswith("attachment")
        assert (await client.get(path("/export", user="missing"))).status_code == 404
    other: Any = AgentStore.in_memory()
    await other.restore(io.BytesIO(response.content))
    copy = await other.sessions.get_session("alice", "lisbon")
    original = await in_memory.sessions.get_session("alice", "lisbon")
    assert copy == original
    assert [user.id for user in await other.users.list_users()] == ["alice"]


async def test_a_lone_surrogate_and_a_nul_are_shown_as_escapes() -> None:
    store: Any = AgentStore.in_memory()
    message = Message(role="user", content=[TextContent(text="a\ud800b\0c")], metadata={"name": "\udfff"})
    await store.sessions.append("alice", "s", message)
    async with browser(store) as client:
        html = (await client.get(path("/session", user="alice", session="s"))).text
        assert "a\\ud800b␀c" in html
        whole = await client.get(path("/session/message", user="alice", session="s", seq=1, **{"as": "text"}))
        assert whole.status_code == 200


def test_no_text_of_a_message_is_left_out_of_its_rendering() -> None:
    for given in (
        "> " * 40 + "deep",
        "> " * 500 + "deep",
        "\n".join("  " * level + "- deep" for level in range(50)),
        "[deep]: http://example.com",
        "<!-- deep -->",
        "~~~ deep down\n~~~",
        "a\n\n[x]: <deep>\n",
    ):
        rendered = render_markdown(given)
        assert "deep" in Document(rendered).text, given
    assert "<ul>" in render_markdown("- a\n  - b\n    - c")


async def test_a_stream_ends_while_messages_wait_to_be_sent() -> None:
    store: Any = AgentStore.in_memory()
    await store.sessions.append("alice", "s", [text(str(number)) for number in range(100)])
    app = create_app(store)
    scope = {"type": "http", "method": "GET", "path": "/session/events", "headers": [], "query_string": b""}
    parts: Any = conversation._stream(view.View(app.state.console, Request(scope), None), "alice", "s", 0)
    async with asyncio.timeout(30):
        assert await anext(parts) == "retry: 2000\n\n"
        assert (await anext(parts)).startswith("id: 1\n")
        for _ in range(1_000):
            await asyncio.sleep(0)  # what reads ahead has its turn
        await parts.aclose()
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_large_messages_are_shown_a_few_on_each_page_and_none_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversation, "_MOST_READ", 1_000_000)
    store: Any = AgentStore.in_memory(settings=Settings(max_reply_bytes=2_000_000))
    for _ in range(30):
        await store.sessions.append("alice", "s", text("x" * 200_000))
    async with browser(store) as client:

        async def walk(start: str, rel: str) -> list[list[int]]:
            pages, at = [], start
            while True:
                response = await client.get(at)
                assert response.status_code == 200
                found = Document(response.text)
                pages.append([int(str(each["data-seq"])) for each in found.all("article", "data-seq")])
                links = found.all("a", "rel", rel)
                if not links:
                    return pages
                at = str(links[0]["href"])

        forwards = await walk(path("/session", user="alice", session="s", after=0), "next")
        backwards = (await walk(path("/session", user="alice", session="s"), "prev"))[::-1]
        for pages in (forwards, backwards):
            assert [seq for page in pages for seq in page] == [*range(1, 31)]
            assert max(map(len, pages)) < 10


def test_the_indentation_of_a_nested_value_is_written_no_further_than_it_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value: Any = [1] * 100_000
    for _ in range(100):
        value = [value]
    written = 0
    write = json.JSONEncoder.iterencode

    def count(*arguments: Any, **options: Any) -> Iterator[str]:
        nonlocal written
        for part in write(*arguments, **options):
            written += len(part)
            yield part

    monkeypatch.setattr(json.JSONEncoder, "iterencode", count)
    beginning, left_out = format_json(value, 20_000)
    assert len(beginning) == 20_000
    compact = json.dumps(value).replace(" ", "")
    assert written < 1_000_000  # of 20 million
    assert left_out == len(compact) - len("".join(beginning.split()))
    assert format_json({"a": [1, "b"]}, 100) == (json.dumps({"a": [1, "b"]}, indent=2), 0)
    deep = "[" * 2_900 + "]" * 2_900
    for each in (deep, deep[:900] + deep[-900:]):
        assert Document(render_argument(each, 6_000)[0]).text.strip().startswith("[")


def test_code_whose_lexer_may_take_exponential_time_is_not_highlighted() -> None:
    for code, language in (
        ("\n" * 5_000, "c"),
        ("\n " * 2_000, "java"),
        ("\n" * 2_000, "autohotkey"),
        ("\n" * 2_000, "python"),
        ("a" * 9_000, "make"),
        ("a." * 4_000, "ts"),
    ):
        assert highlight(code, language) == code
    assert highlight("\n" * 100 + "def", "Python") != "\n" * 100 + "def"
    assert highlight("<a>", "xml") != highlight("<a>", "c") == "&lt;a&gt;"


async def test_a_shared_result_that_fails_is_computed_once_for_all_who_wait() -> None:
    recent, count = Recent(), 0

    async def fail() -> int:
        nonlocal count
        count += 1
        await asyncio.sleep(0.01)
        raise Unavailable("no answer")

    several = await asyncio.gather(*(recent.get("x", 60, fail) for _ in range(20)), return_exceptions=True)
    assert ({type(each) for each in several}, count) == ({Unavailable}, 1)
    with pytest.raises(Unavailable):
        await recent.get("x", 60, fail)
    assert count == 2

    async def succeed() -> int:
        return 1

    assert await recent.get("x", 60, succeed) == await recent.get("x", 60, fail) == 1


async def test_hits_are_explained_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    original: Any = MemoryHit.__dict__["highlights"]

    def highlights(hit: MemoryHit) -> list[tuple[str, bool]]:
        threads.append(threading.current_thread())
        found: list[tuple[str, bool]] = original.fget(hit)
        return found

    monkeypatch.setattr(MemoryHit, "highlights", property(highlights))
    monkeypatch.setattr(MemoryHit, "matched_terms", property(lambda _: pytest.fail("a large text is searched twice")))
    store: Any = AgentStore.in_memory()
    await store.sessions.append("alice", "s", [text("some other words " * 5_000 + "a budget"), text("unrelated")])
    await store.memory.add_sessions("alice")
    async with browser(store) as client:
        found = await client.get(path("/search", user="alice", q="budget", neighbors="no"))
    assert "<mark>budget</mark>" in found.text
    assert "Words of its text match the question." in found.text
    assert threads
    assert threading.main_thread() not in threads
