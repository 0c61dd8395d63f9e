"""Logins, forms that another site cannot send, path prefixes, proxies, and what a restricted login may see."""

import re
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from agentstore import AgentStore, NotConfigured, Settings, migrate
from agentstore.console import security
from agentstore.console.app import create_app
from agentstore.console.security import Access, ConsoleOptions, LoginLimit
from agentstore.operations.grants import grants
from agentstore.schemas.checkpoint import Checkpoint, Serialized
from agentstore.testing import text
from tests.console.sample import Extractor
from tests.console.support import TOKEN, Document, browser, check_harmless, path
from tests.support.cli import run
from tests.support.psql import psql
from tests.support.roles import with_role

_LOCKED = ConsoleOptions(token=TOKEN)
_WRITES = ConsoleOptions(allow_writes=True)


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Any]:
    opened: Any = AgentStore.in_memory()
    await opened.sessions.append("alice", "s", [text("one"), text("two")])
    await opened.states.save_state("alice", {"a": 1}, "s")
    await opened.states.save_state("alice", {"a": 2}, "s")
    await opened.memory.add_sessions("alice")
    yield opened
    await opened.stop()


async def _log_in(client: httpx.AsyncClient, token: str = TOKEN, **fields: str) -> httpx.Response:
    return await client.post("/login", data={"token": token, "next": "", **fields})


async def test_every_page_needs_a_login_if_there_is_a_token(store: Any) -> None:
    async with browser(store, options=_LOCKED, base="http://console.example") as client:
        paths = [route.path for route in create_app(store, options=_LOCKED).routes if route.path != "/static/{name}"]  # type: ignore[attr-defined]
        for each in paths:
            response = await client.get(each, params={"user": "alice", "session": "s"})
            if each in ("/login", "/csp-report", "/logout"):
                continue
            assert response.status_code == 303, each
            assert response.headers["location"].startswith("/login"), each
            assert "alice" not in response.text
        for each in ("/act/erase", "/logout", "/nosuch"):
            response = await client.post(each, data={"user": "alice", "typed": "alice"})
            assert response.status_code in (401, 405), each
        assert (await client.get("/static/console.css")).status_code == 200
        check_harmless((await client.get("/login")).text)
        assert await store.users.get_user("alice") is not None


async def test_a_login_leads_to_the_page_that_was_requested_and_can_be_ended(store: Any) -> None:
    async with browser(store, options=_LOCKED, base="https://console.example") as client:
        asked = path("/session", user="alice", session="s")
        sent_to_login = await client.get(asked)
        form = Document((await client.get(sent_to_login.headers["location"])).text)
        response = await _log_in(client, next=form.fields()["next"])
        assert (response.status_code, response.headers["location"]) == (303, asked)
        cookie = response.headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=lax", "Secure", "Path=/"):
            assert part in cookie
        assert TOKEN not in cookie
        page = await client.get(asked)
        assert page.status_code == 200
        assert (await client.get("/login")).headers["location"] == "/"
        token = Document(page.text).fields()["form_token"]
        await client.post("/logout", data={"form_token": token})
        assert (await client.get(asked)).status_code == 303
        for target in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\tx"):
            assert (await _log_in(client, next=target)).headers["location"] == "/"


async def test_a_wrong_token_is_refused_and_attempts_are_limited(store: Any) -> None:
    async with browser(store, options=_LOCKED) as client:
        for _ in range(5):
            response = await _log_in(client, "another token that is long")
            assert response.status_code == 401
            assert "set-cookie" not in response.headers
        refused = await _log_in(client)
        assert (refused.status_code, "set-cookie" in refused.headers) == (429, False)
        assert 0 < int(refused.headers["retry-after"]) <= 61
    now = 0.0
    limit = LoginLimit(lambda: now)
    for _ in range(5):
        assert limit.wait("2001:db8::1") == 0
        limit.fail("2001:db8::1")
    assert limit.wait("2001:db8::ffff") == 60.0  # of the same network
    assert limit.wait("2001:db8:1::1") == limit.wait("192.0.2.1") == 0
    now = 59.5
    assert limit.wait("2001:db8::1") == 0.5
    now = 60.0
    assert limit.wait("2001:db8::1") == 0
    for number in range(security._ADDRESSES + 10):
        limit.fail(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limit._failures) == security._ADDRESSES


def test_a_cookie_is_valid_for_one_token_and_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    access, other = Access(_LOCKED), Access(ConsoleOptions(token=TOKEN + "x"))
    value, visitor = access.issue()
    assert access.read(f"x=y; {access.cookie}={value}") == visitor
    assert Access(_LOCKED).read(f"{access.cookie}={value}") == visitor  # of another process
    assert other.read(f"{other.cookie}={value}") is None
    id, expires, signature = value.split(".")
    for forged in (
        "",
        "x",
        f"{id}.{int(expires) + 1}.{signature}",
        f"{id}x.{expires}.{signature}",
        f"{id}.{expires}.",
        f"{id}.{expires}.é",
        f"{id}..{signature}",
    ):
        assert access.read(f"{access.cookie}={forged}") is None
    assert access.is_form_token(visitor, visitor.form_token)
    assert not access.is_form_token(access.issue()[1], visitor.form_token)
    assert not access.is_token("")
    assert not Access(ConsoleOptions()).is_token("")
    later = time.time() + security.COOKIE_SECONDS
    monkeypatch.setattr(time, "time", lambda: later)
    assert access.read(f"{access.cookie}={value}") is None


def test_an_address_that_others_reach_needs_a_token() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        ConsoleOptions(host)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com", ""):
        with pytest.raises(NotConfigured, match="AGENTSTORE_CONSOLE_TOKEN"):
            ConsoleOptions(host)
        ConsoleOptions(host, TOKEN)
    with pytest.raises(NotConfigured, match="16 characters"):
        ConsoleOptions(token="short")
    for prefix in ("console", "/console/", "/", "//x", "/a;b", "/a b", "/控制台"):
        with pytest.raises(NotConfigured, match="path prefix"):
            ConsoleOptions(root_path=prefix)
    assert run("console", "--host", "0.0.0.0").code == 1
    assert TOKEN not in repr(_LOCKED)


async def test_without_a_token_only_names_of_this_machine_are_answered(store: Any) -> None:
    for host, status in (
        ("127.0.0.1:8642", 200),
        ("localhost", 200),
        ("[::1]:8642", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ):
        async with browser(store) as client:
            response = await client.get("/", headers={"host": host})
            assert response.status_code == status, host
            assert "alice" not in response.text or status == 200
    async with browser(store, options=_LOCKED, base="https://console.example") as client:
        assert (await client.get("/login")).status_code == 200


async def test_without_a_token_nothing_that_a_proxy_forwards_is_answered(store: Any) -> None:
    """A proxy may send any host name, such as that of its upstream, for any client."""
    forwarding = {
        "X-Forwarded-For": "198.51.100.7",
        "x-forwarded-proto": "https",
        "X-Forwarded-Host": "console.example",
        "X-Forwarded-Anything": "",
        "Forwarded": "for=198.51.100.7",
        "Via": "1.1 proxy",
        "X-Real-IP": "127.0.0.1",
    }
    for name, value in forwarding.items():
        headers = {"host": "127.0.0.1:8642", name: value}
        for options, status in ((_WRITES, 421), (_LOCKED, 200)):
            async with browser(store, options=options) as client:
                for where in ("/login", "/static/console.css", path("/user", user="alice")):
                    response = await client.get(where, headers=headers)
                    is_page = where.startswith("/user") or (where == "/login" and options is _WRITES)
                    expected = 303 if options is _LOCKED and is_page else status
                    assert response.status_code == expected, (name, where)
                    assert "alice" not in response.text
                posted = await client.post("/csp-report", headers=headers, json={})
                assert posted.status_code == (421 if options is _WRITES else 204)


async def test_only_a_form_of_the_same_visitor_changes_anything(store: Any) -> None:
    where = path("/act/delete-session", user="alice", session="s")
    async with browser(store, options=_WRITES) as client, browser(store, options=_WRITES) as other:
        fields = Document((await client.get(where)).text).fields()
        assert (fields["user"], fields["session"]) == ("alice", "s")
        foreign = Document((await other.get(where)).text).fields()
        for wrong in (
            {**fields, "form_token": ""},
            {**fields, "form_token": foreign["form_token"]},
            {name: value for name, value in fields.items() if name != "form_token"},
            {**fields, "x": "y" * 70_000},
        ):
            response = await client.post("/act/delete-session", data=wrong)
            assert response.status_code == 403
            check_harmless(response.text)
        cross = await client.post("/act/delete-session", data=fields, headers={"sec-fetch-site": "cross-site"})
        assert cross.status_code == 403
        assert (await client.get("/act/delete-session", params=fields)).status_code == 200  # only asks
        assert await store.sessions.get_session("alice", "s") is not None
        assert (await client.post("/act/delete-session", data=fields)).status_code == 200
        assert await store.sessions.get_session("alice", "s") is None


async def test_a_read_only_console_refuses_each_change(store: Any) -> None:
    options = ConsoleOptions()
    app = create_app(store, options=options)
    actions = [route.path for route in app.routes if route.path.startswith("/act/")]  # type: ignore[attr-defined]
    assert len(actions) == 14
    async with browser(store, options=options) as client:
        for each in actions:
            for response in (
                await client.get(each, params={"user": "alice", "session": "s"}),
                await client.post(each, data={"user": "alice", "session": "s"}),
            ):
                assert response.status_code == 403
                assert "read-only" in response.text
        page = (await client.get(path("/session", user="alice", session="s"))).text
        assert "/act/" not in page


async def test_each_change_is_confirmed_and_done(store: Any) -> None:
    async with browser(store, options=_WRITES) as client:

        async def change(where: str, **more: str) -> str:
            asked = await client.get(where)
            assert asked.status_code == 200, asked.text
            fields = Document(asked.text).fields() | more
            done = await client.post(where.partition("?")[0], data=fields)
            assert done.status_code == 200, done.text
            return Document(done.text).text

        await change(path("/act/rename", user="alice", session="s"), title="A new title")
        assert (await store.sessions.get_session("alice", "s")).title == "A new title"
        assert "state rounds" in await change(path("/act/delete-states", user="alice", session="s", round=1))
        assert [each.round_id for each in await store.states.list_states("alice", "s")] == [2]
        await change(path("/act/delete-states", user="alice", session="s"))
        assert await store.states.list_states("alice", "s") == []
        await change(path("/act/delete-memories", user="alice", session="s"))
        assert await store.memory.list_memory("alice") == []
        assert "due again" in await change(path("/act/retry"))
        await store.sessions.create_session("old", "old")
        assert "Old data was deleted" in await change(path("/act/prune", days=400))
        wrong = Document((await client.get(path("/act/erase", user="alice"))).text).fields()
        for typed in ("", "Alice", "alice "):
            refused = await client.post("/act/erase", data={**wrong, "typed": typed})
            assert refused.status_code == 400
        assert await store.users.get_user("alice") is not None
        assert "messages" in await change(path("/act/erase", user="alice"), typed="alice")
        assert await store.users.get_user("alice") is None
        for name in ("rename", "delete-session", "erase"):
            gone = await client.get(path(f"/act/{name}", user="alice", session="s"))
            assert gone.status_code == 404


async def test_a_path_prefix_is_in_every_link_whether_the_proxy_removes_it_or_not(store: Any) -> None:
    options = ConsoleOptions(token=TOKEN, root_path="/tools/console")
    async with browser(store, options=options, base="https://console.example") as client:
        sent = await client.get("/tools/console/users")
        assert sent.headers["location"] == "/tools/console/login?next=%2Ftools%2Fconsole%2Fusers"
        logged_in = await client.post("/tools/console/login", data={"token": TOKEN, "next": "/tools/console/users"})
        assert logged_in.headers["location"] == "/tools/console/users"
        assert "Path=/tools/console" in logged_in.headers["set-cookie"]
        cookie = {"cookie": logged_in.headers["set-cookie"].partition(";")[0]}
        for asked in ("/tools/console/user?user=alice", "/user?user=alice"):
            response = await client.get(asked, headers=cookie)
            assert response.status_code == 200
            found = Document(response.text)
            for name in ("href", "src", "action"):
                for _, attributes in found.elements:
                    target = attributes.get(name)
                    assert target is None or target.startswith(("/tools/console/", "#")), target
            assert "report-uri /tools/console/csp-report" in response.headers["content-security-policy"]
        assert (await client.get("/tools/console/static/console.js")).status_code == 200
        assert (await client.get("/tools/consoles", headers=cookie)).status_code == 404


async def test_headers_of_a_trusted_proxy_make_cookies_secure(store: Any) -> None:
    app: Any = create_app(store, options=_LOCKED)
    for trusted, expected in (("127.0.0.1", True), ("192.0.2.1", False)):
        wrapped: Any = ProxyHeadersMiddleware(app, trusted_hosts=trusted)
        transport = httpx.ASGITransport(app=wrapped)
        async with httpx.AsyncClient(transport=transport, base_url="http://console.example") as client:
            headers = {"x-forwarded-proto": "https", "x-forwarded-for": "198.51.100.7"}
            response = await client.post("/login", data={"token": TOKEN}, headers=headers)
            assert ("Secure" in response.headers["set-cookie"]) is expected


# Each page about files, graphs and the queue, with what it shows of a user.
_OF_A_USER = {
    path("/user", user="alice", show="files"): "plan.png",
    path("/user", user="alice", show="documents"): "of alice",
    path("/user", user="alice", show="documents", q="peppers"): "of alice",
    path("/user", user="alice", show="checkpoints"): "thread of alice",
    path("/file", user="alice", name="plan.png"): "SHA-256",
    path("/file/content", user="alice", name="plan.png"): "PNG",
    path("/file/image", user="alice", name="plan.png"): "PNG",
    path("/document", user="alice", id="of alice"): "no peppers",
    path("/checkpoints", user="alice", session="thread of alice"): "c1",
    path("/checkpoint", user="alice", session="thread of alice", namespace="", id="c1"): "messages",
    path("/checkpoint", user="alice", session="thread of alice", namespace="", id="c1", channel="messages"): "hello",
    path("/queue", user="alice"): "s of alice",
    path("/queue", user="alice", show="leased"): "No worker",
    path("/queue", user="alice", show="failed"): "Nothing has failed",
}


async def _fill(url: str) -> None:
    async with AgentStore(url, extractor=Extractor()) as store:
        for user in ("alice", "bob"):
            await store.sessions.append(user, "s", text("hello"))
            await store.memory.add_memory(user, text("hello"), f"s of {user}")
            await store.states.save_state(user, {"a": 1}, "s")
            await store.blobs.put(user, "plan.png", b"\x89PNG\r\n\x1a\n", content_type="image/png")
            await store.documents.put(user, {"id": f"of {user}", "text": "no peppers", "namespace": "food"})
            value = Serialized("json", b'["hello"]')
            given = Checkpoint("", "c1", value, value, None, None, {"messages": "1"}, {"messages": value})
            await store.checkpoints.put(user, f"thread of {user}", given, is_complete=True)


async def _check_pages_of_a_user(client: httpx.AsyncClient) -> None:
    for each, expected in _OF_A_USER.items():
        response = await client.get(each)
        assert (response.status_code, expected in response.text) == (200, True), (each, response.text)
        if response.headers["content-type"].startswith("text/html"):
            check_harmless(response.text)


async def test_pages_show_what_row_level_security_leaves_and_say_what_it_hides(direct_url: str) -> None:
    await migrate.enable_row_security(direct_url)
    psql(direct_url, "DROP ROLE IF EXISTS console_reader; CREATE ROLE console_reader LOGIN;")
    psql(direct_url, "; ".join(grants(app="console_reader")) + ";")
    await _fill(direct_url)
    settings = Settings(row_level_security=True)
    try:
        async with (
            AgentStore(with_role(direct_url, "console_reader"), settings=settings) as limited,
            browser(limited, limited._database) as client,
        ):
            await _check_pages_of_a_user(client)
            for tab in ("waiting", "leased", "failed"):
                hidden = check_harmless((await client.get(path("/queue", show=tab))).text)
                assert hidden.text.count("Hidden from this login") == 2  # the counts, and the list
                assert not hidden.all("a", "data-row")
            for each in ("/", "/users", "/queue", "/operations"):
                response = await client.get(each)
                assert response.status_code == 200, response.text
                assert "Hidden from this login" in response.text, each
                check_harmless(response.text)
            for each, expected in (
                (path("/user", user="alice"), "s"),
                (path("/session", user="alice", session="s"), "hello"),
                (path("/search", user="alice", q="hello"), "hello"),
                (path("/states", user="alice", session="s"), "Round"),
            ):
                response = await client.get(each)
                assert (response.status_code, expected in response.text) == (200, True), each
            opened = await client.get(path("/users", open="alice"))
            assert opened.headers["location"] == "/user?user=alice"
    finally:
        await migrate.disable_row_security(direct_url)
        psql(direct_url, "DROP OWNED BY console_reader; DROP ROLE console_reader;")


async def test_pages_work_with_a_login_that_may_only_read(direct_url: str) -> None:
    psql(direct_url, "DROP ROLE IF EXISTS console_viewer; CREATE ROLE console_viewer LOGIN;")
    psql(
        direct_url,
        "GRANT USAGE ON SCHEMA agentstore TO console_viewer;"
        "GRANT SELECT ON ALL TABLES IN SCHEMA agentstore TO console_viewer;"
        "ALTER ROLE console_viewer SET default_transaction_read_only = on;",
    )
    await _fill(direct_url)
    try:
        async with (
            AgentStore(with_role(direct_url, "console_viewer")) as limited,
            browser(limited, limited._database, _WRITES) as client,
        ):
            await _check_pages_of_a_user(client)
            for each in (
                "/",
                "/users",
                path("/user", user="alice"),
                path("/session", user="alice", session="s"),
                path("/search", user="alice", q="hello"),
                path("/states", user="alice", session="s"),
                "/queue",
                "/operations",
                "/statements",
                "/statements?name=sessions/get_after",
            ):
                response = await client.get(each)
                assert response.status_code == 200, (each, response.text)
                check_harmless(response.text)
            where = path("/act/delete-session", user="alice", session="s")
            fields = Document((await client.get(where)).text).fields()
            refused = await client.post("/act/delete-session", data=fields)
            assert refused.status_code in (403, 500, 503)
            assert re.search("<h1>.+</h1>", refused.text)
    finally:
        psql(direct_url, "DROP OWNED BY console_viewer; DROP ROLE console_viewer;")


async def test_reports_of_visitors_are_shown_and_others_are_ignored(store: Any) -> None:
    async with browser(store) as client:  # another site sends no cookie
        foreign = await client.post("/csp-report", json={"csp-report": {"blocked-uri": "unknown-visitor"}})
        assert "set-cookie" not in foreign.headers
        assert "unknown-visitor" not in (await client.get("/operations")).text
    async with browser(store, options=_LOCKED, base="http://console.example") as client:
        await client.post("/csp-report", json={"csp-report": {"blocked-uri": "unknown-visitor"}})
        await _log_in(client)
        assert "unknown-visitor" not in (await client.get("/operations")).text
        await client.post("/csp-report", json={"csp-report": {"blocked-uri": "<b>known-visitor"}})
        await client.post("/csp-report", content=b"\xff" * 100_000)
        page = (await client.get("/operations")).text
        assert "known-visitor" in page
        check_harmless(page)


def test_without_the_extra_the_command_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nh3", None)
    done = run("console")
    assert (done.code, "pip install 'agentstore-postgres[console]'" in done.err) == (1, True)


async def test_the_console_is_mounted_in_an_application(store: Any) -> None:
    app = Starlette()
    options = ConsoleOptions(token=TOKEN, root_path="/console")
    app.mount("/console", create_app(store, options=options))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app.example") as client:
        assert (await client.get("/console/users")).headers["location"].startswith("/console/login")
        await client.post("/console/login", data={"token": TOKEN})
        page = await client.get("/console/users")
        assert (page.status_code, "alice" in page.text) == (200, True)


async def test_any_parameter_of_a_url_is_answered_by_a_page(store: Any) -> None:
    async with browser(store, options=_WRITES) as client:
        for each, status in (
            ("/users?path=%2Fx&self=y&name=z", 200),
            (path("/nosuch", path="/x"), 404),
            (path("/act/prune", days="9" * 5_000), 400),
            (path("/search", user="alice", q="x", metadata="[" * 20_000), 200),
        ):
            response = await client.get(each)
            assert response.status_code == status, each[:40]
            check_harmless(response.text)


async def test_a_page_about_an_unexpected_error_has_the_headers_of_all_others(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("an unexpected error")

    monkeypatch.setattr(store.users, "get_user", fail)
    options = ConsoleOptions(root_path="/console")
    async with browser(store, options=options) as client:
        usual, failed = [await client.get(path(each, user="alice")) for each in ("/search", "/user")]
        assert (failed.status_code, "unexpected" in failed.text) == (500, False)
        check = {*usual.headers} - {"set-cookie", "content-length"}
        assert {name: failed.headers.get(name) for name in check} == {name: usual.headers[name] for name in check}
        targets = [each["href"] for each in Document(failed.text).all("a", "href")]
        assert all(str(target).startswith(("/console/", "#")) for target in targets)


def test_cookies_of_other_applications_of_the_host_do_not_end_a_login() -> None:
    access = Access(_LOCKED)
    value, visitor = access.issue()
    for other in ('x={"a": 1}', "a[b]=1", 'x="', "x", "x=é", "expires=1"):
        assert access.read(f"{other}; {access.cookie}={value}; {other}") == visitor, other


async def test_a_path_with_a_slash_at_its_end_leads_to_no_other_host(store: Any) -> None:
    async with browser(store, options=_LOCKED, base="https://evil.example") as client:
        await _log_in(client)
        for each in ("/users/", "/login/", "/act/erase/"):
            assert (await client.get(each)).status_code == 404
