"""The console in a real browser: Debian's chromium, driven by Playwright. `make console-tests` runs these.

Playwright is imported by the fixtures: where these tests are not selected, it need not be installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from agentstore import AgentStore, Message
from agentstore.console.security import ConsoleOptions
from agentstore.testing import text
from tests.console.payloads import PAYLOADS
from tests.console.sample import Served, fill, fill_queue, serving
from tests.console.screens import CHROMIUM, CONVERSATIONS, PAGES
from tests.console.support import TOKEN, path
from tests.support.cli import run
from tests.support.databases import Databases
from tests.support.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Locator, Page

pytestmark = pytest.mark.console

_LISTED = {
    **PAGES,
    "facts": path("/user", user="alice", show="facts"),
    "message": path("/session/message", user="alice", session="lisbon", seq=4),
    "state": path("/state", user="alice", session="lisbon", round=2),
    "statements": path("/statements"),
    "statement": "/statements?name=sessions/get_after",
    "keys": "/keys",
    "leased": path("/queue", show="leased"),
    "failed": path("/queue", show="failed"),
    "prune": "/act/prune",
}
_COMBINATIONS = [(scheme, width) for scheme in ("light", "dark") for width in (360, 1440)]


@pytest.fixture(scope="module")
def url(server: Server, databases: Databases) -> Iterator[str]:
    name = databases.take()
    found = server.url_of(name)
    assert run("import", str(CONVERSATIONS), environment={"AGENTSTORE_DATABASE_URL": found}).code == 0

    async def prepare() -> None:
        async with AgentStore(found) as store:
            await fill(store)
        await fill_queue(found)

    asyncio.run(prepare())
    yield found
    databases.give_back(name)


@pytest.fixture(scope="module")
def served(url: str) -> Iterator[Served]:
    with serving(url, ConsoleOptions(allow_writes=True)) as running:
        yield running


@pytest.fixture(scope="module")
def chromium(url: str) -> Iterator[Browser]:
    # After the database, for which event loops run: none can in this thread while Playwright's does.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open a tab; at the end, check that nothing was refused, has failed or has opened a dialog."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def refuse(dialog: Dialog) -> None:
        problems.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def read(message: ConsoleMessage) -> None:
        if "Content Security" in message.text:
            problems.append(message.text)

    def open_tab(**options: Any) -> Page:
        context = chromium.new_context(**{"locale": "en-US", **options})
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: problems.append(f"{tab.url}: {error}"))
        tab.on("dialog", refuse)
        tab.on("console", read)
        return tab

    yield open_tab
    for context in contexts:
        context.close()
    assert problems == []


def expect(found: Locator) -> Any:
    from playwright.sync_api import expect as wait_for

    return wait_for(found)


@pytest.mark.parametrize(("scheme", "width"), _COMBINATIONS)
def test_each_page_fits_the_window_and_is_accessible(
    opened: Callable[..., Page], served: Served, scheme: str, width: int
) -> None:
    tab = opened(color_scheme=scheme, viewport={"width": width, "height": 800})
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    for name, where in _LISTED.items():
        tab.goto(served.url + where, wait_until="load")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width}"
        if width == 1440:
            # The colors are what the dark pages have of their own.
            options = {"runOnly": ["color-contrast"]} if scheme == "dark" else None
            first_rows = {"exclude": [["tbody tr:nth-child(n+6)"]]}  # the others are like them
            violations = axe.run(tab, context=first_rows, options=options).response["violations"]
            found = [each for each in violations if each["impact"] in ("serious", "critical")]
            nodes = [(each["id"], node["html"], node["failureSummary"]) for each in found for node in each["nodes"]]
            assert nodes == [], name
    assert served.reports == []


def test_stored_text_runs_nothing_and_violates_no_policy(opened: Callable[..., Page], served: Served) -> None:
    async def store() -> None:
        for payload in PAYLOADS:
            call = {"call_id": payload, "name": payload, "arguments": payload}
            messages: list[Any] = [
                Message.user(payload, metadata={"name": payload}),
                {"role": "assistant", "type": "function_call", "content": [{"type": "data", "data": call}]},
                {
                    "role": "tool",
                    "type": "function_call_output",
                    "content": [{"type": "data", "data": {"call_id": payload, "output": payload}}],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image_url": payload},
                        {"type": "file", "filename": payload, "file_url": payload},
                    ],
                },
            ]
            await served.store.sessions.append("mallory", "payloads", messages)
        for number, payload in enumerate(PAYLOADS):
            if len(payload) < 400 and "\0" not in payload and "\ud800" not in payload:
                await served.store.blobs.put(
                    "mallory", payload, payload.encode(), content_type="image/png", filename=payload
                )
            if len(payload) < 400 and "\0" not in payload and "\ud800" not in payload:
                await served.store.sessions.create_session(payload, payload, title=payload, metadata={payload: payload})
                await served.store.sessions.create_session("mallory", f"title {number}", title=payload)
                await served.store.states.save_state(payload, {payload: payload}, payload)
                await served.store.memory.save_items("mallory", {"text": f"apple {payload}", "kind": payload})

    served.run(store())
    tab = opened()
    start = path("/session", user="mallory", session="payloads", after=0)
    where: str | None = served.url + start
    pages = 0
    while where is not None:
        tab.goto(where)
        tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        # What would run when it is pointed at or gets the focus.
        tab.evaluate(
            "document.querySelectorAll('.body *').forEach(each => ['mouseover', 'focus', 'error', 'toggle']"
            ".forEach(kind => each.dispatchEvent(new Event(kind))))"
        )
        for link in tab.locator(".markdown a").all()[:40]:
            assert str(link.get_attribute("href") or "http://").startswith(("http://", "https://", "mailto:"))
        assert tab.evaluate("window.wasRun") is None
        pages += 1
        following = tab.locator("a[rel=next]")
        where = None if following.count() == 0 else served.url + str(following.first.get_attribute("href"))
    assert pages >= 4
    hostile = [each for each in PAYLOADS if len(each) < 400 and "\0" not in each and "\ud800" not in each]
    for where in (
        "/",
        "/users",
        path("/user", user="mallory"),
        path("/user", user="mallory", show="facts"),
        path("/user", user="mallory", show="files"),
        *(path("/file", user="mallory", name=each) for each in hostile[::6]),
        path("/search", user="mallory", q=f"apple {hostile[0]}", k=100),
        *(path("/session", user=each, session=each) for each in hostile[::4]),
        *(path("/state", user=each, session=each, round=1) for each in hostile[1::8]),
        *(path("/users", prefix=each) for each in hostile[2::8]),
        *(path("/act/delete-session", user=each, session=each) for each in hostile[3::8]),
    ):
        tab.goto(served.url + where)
        assert tab.evaluate("window.wasRun") is None, where
    assert served.reports == []


def test_a_violation_of_the_policy_would_be_reported(chromium: Browser, served: Served) -> None:
    """The other tests find no report: this one shows that there would be one."""
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(f"{served.url}/keys")
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://evil.example/x.png\">')")
    for _ in range(100):
        if served.reports:
            break
        tab.wait_for_timeout(50)
    assert "evil.example" in served.reports[0]
    served.app.state.console.recent.reports.clear()
    context.close()


def test_new_messages_appear_without_a_reload(opened: Callable[..., Page], served: Served) -> None:
    async def append(message: Any) -> None:
        await served.store.sessions.append("tail", "s", message)

    served.run(append(text("first")))
    tab = opened()
    tab.goto(served.url + path("/session", user="tail", session="s"))
    expect(tab.locator("#tail")).to_have_text("Live")
    served.run(append(Message.assistant("**second** <script>window.wasRun=1</script>")))
    expect(tab.locator("#m2 strong")).to_have_text("second")
    call = {"call_id": "c", "name": "lookup", "arguments": "{}"}
    served.run(append({"role": "assistant", "type": "function_call", "content": [{"type": "data", "data": call}]}))
    expect(tab.locator("#m3")).to_contain_text("lookup")
    output = {"call_id": "c", "output": "found it"}
    served.run(append({"role": "tool", "type": "function_call_output", "content": [{"type": "data", "data": output}]}))
    expect(tab.locator("#m3 .outputs")).to_contain_text("found it")
    assert tab.evaluate("window.wasRun") is None
    served.run(served.store.sessions.delete_session("tail", "s"))
    expect(tab.locator("#tail")).to_have_text("The session was deleted")


def test_the_main_path_works_with_the_keyboard_alone(opened: Callable[..., Page], served: Served) -> None:
    tab = opened()
    tab.goto(served.url + "/")
    tab.keyboard.press("Tab")
    expect(tab.get_by_text("Skip to the content")).to_be_focused()
    tab.keyboard.press("u")
    expect(tab.get_by_role("heading", name="Users")).to_be_visible()
    tab.keyboard.press("/")
    expect(tab.get_by_label("The id begins with")).to_be_focused()
    tab.keyboard.type("alice")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**prefix=alice*")
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/user?user=alice")
    rows = tab.locator("a[data-row]")
    hrefs = [str(rows.nth(each).get_attribute("href")) for each in range(rows.count())]
    place = next(number for number, href in enumerate(hrefs, 1) if href.endswith("session=lisbon"))
    for _ in range(place):
        tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/session?user=alice&session=lisbon")
    for _ in range(4):
        tab.keyboard.press("j")
    expect(tab.locator("#m4")).to_be_focused()
    expect(tab.locator("#m4 details")).not_to_have_attribute("open", "")
    tab.keyboard.press("Enter")
    expect(tab.locator("#m4 .outputs")).to_be_visible()
    tab.keyboard.press("m")
    tab.get_by_label("User").focus()
    tab.keyboard.type("alice")
    tab.keyboard.press("Tab")
    tab.keyboard.type("budget")
    tab.keyboard.press("Enter")
    expect(tab.locator(".hit").first).to_contain_text("budget")
    tab.keyboard.press("j")
    tab.keyboard.press("?")
    expect(tab.get_by_role("heading", name="Keys")).to_be_visible()


def test_a_user_is_erased_after_the_id_was_entered(opened: Callable[..., Page], served: Served) -> None:
    served.run(served.store.sessions.append("to erase", "s", text("x")))
    tab = opened()
    tab.goto(served.url + path("/user", user="to erase"))
    tab.get_by_role("link", name="Erase", exact=True).click()
    tab.get_by_role("button", name="Erase everything").click()
    expect(tab.get_by_text("nothing was deleted")).to_be_visible()
    tab.go_back()
    tab.get_by_label("Enter the id of the user to confirm").fill("to erase")
    tab.get_by_role("button", name="Erase everything").click()
    expect(tab.get_by_role("heading", name="The user was erased")).to_be_visible()
    tab.get_by_role("link", name="Continue").click()
    assert served.run(served.store.users.get_user("to erase")) is None


def test_a_session_is_renamed_and_two_rounds_are_compared(opened: Callable[..., Page], served: Served) -> None:
    served.run(served.store.sessions.create_session("editor", "s"))
    tab = opened()
    tab.goto(served.url + path("/session", user="editor", session="s"))
    tab.get_by_role("link", name="Rename").click()
    tab.get_by_label("New title").fill("<b>标题</b>")
    tab.get_by_role("button", name="Rename").click()
    tab.get_by_role("link", name="Continue").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("<b>标题</b>")
    tab.goto(served.url + path("/states", user="alice", session="lisbon"))
    tab.get_by_label("Compare from round 1").check()
    tab.get_by_label("Compare to round 3").check()
    tab.get_by_role("button", name="Compare the two rounds").click()
    expect(tab.locator(".change").first).to_be_visible()
    expect(tab.get_by_role("heading", level=1)).to_have_text("From round 1 to round 3")


def test_pages_are_complete_without_script(opened: Callable[..., Page], served: Served) -> None:
    tab = opened(java_script_enabled=False)
    tab.goto(served.url + path("/session", user="alice", session="lisbon"))
    expect(tab.locator(".message")).to_have_count(8)
    tab.locator("#m4 summary").click()
    expect(tab.locator("#m4 .outputs")).to_contain_text("rain")
    expect(tab.get_by_text("Look for new messages")).to_be_visible()
    expect(tab.locator("button.copy")).to_be_hidden()
    tab.get_by_role("link", name="中文").click()
    expect(tab.locator("html")).to_have_attribute("lang", "zh")
    tab.get_by_role("link", name="深色").click()
    expect(tab.locator("html")).to_have_attribute("data-theme", "dark")
    tab.goto(served.url + "/users")
    expect(tab.get_by_role("heading", name="用户")).to_be_visible()


@pytest.mark.parametrize("root_path", ["", "/tools/console"])
def test_a_visitor_logs_in_and_out(opened: Callable[..., Page], url: str, root_path: str) -> None:
    with serving(url, ConsoleOptions(token=TOKEN, root_path=root_path)) as locked:
        tab = opened()
        tab.goto(locked.url + path("/user", user="alice"))
        tab.get_by_label("Token").fill("not the right token")
        tab.get_by_role("button", name="Log in").click()
        expect(tab.get_by_role("alert")).to_have_text("This is not the token.")
        tab.get_by_label("Token").fill(TOKEN)
        tab.get_by_role("button", name="Log in").click()
        tab.wait_for_url(f"**{root_path}/user?user=alice")
        expect(tab.get_by_text("read-only")).to_be_visible()
        expect(tab.locator("a[data-row]").first).to_be_visible()
        tab.get_by_role("button", name="Log out").click()
        tab.goto(f"{locked.url}/users")
        expect(tab.get_by_label("Token")).to_be_visible()
        assert locked.reports == []
