"""The ASGI application of the console: its routes, and what every request passes through."""

import json
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from agentstore.console import actions, checkpoints, conversation, documents, files, memory, operations, states, users
from agentstore.console.recent import Recent
from agentstore.console.security import COOKIE_SECONDS, Access, ConsoleOptions, PathPrefix, SecureHeaders
from agentstore.console.view import Busy, Console, View, assets, is_refused
from agentstore.database.database import Database
from agentstore.errors import (
    AgentStoreError,
    Conflict,
    InvalidContent,
    LimitExceeded,
    NotConfigured,
    NotFound,
    Retryable,
)
from agentstore.interfaces import Store

_log = logging.getLogger(__name__)

Page = Callable[[View], Awaitable[Response]]
Action = Callable[[View, dict[str, str]], Awaitable[Response]]
_MOST_FORM = 65_536
_STATUS: tuple[tuple[type[AgentStoreError], int], ...] = (
    (NotFound, 404),
    (InvalidContent, 400),
    (LimitExceeded, 413),
    (Conflict, 409),
    (NotConfigured, 403),
    (Retryable, 503),
)
_PAGES: dict[str, Page] = {
    "/": operations.overview,
    "/users": users.list_users,
    "/user": users.user,
    "/export": users.export,
    "/session": conversation.session,
    "/session/events": conversation.events,
    "/session/message": conversation.message,
    "/session/media": conversation.media,
    "/file": files.file,
    "/file/content": files.download,
    "/file/image": files.image,
    "/document": documents.document,
    "/checkpoints": checkpoints.checkpoints,
    "/checkpoint": checkpoints.checkpoint,
    "/search": memory.search,
    "/states": states.states,
    "/state": states.state,
    "/diff": states.diff,
    "/queue": operations.queue,
    "/operations": operations.operations,
    "/statements": operations.statements,
    "/keys": operations.keys,
}


class _Application(Starlette):
    """An application whose page for unexpected errors passes through the middleware, as all other responses do."""

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the middleware that answers after an unexpected error, too."""
        options: ConsoleOptions = self.state.console.options
        return PathPrefix(SecureHeaders(super().build_middleware_stack(), options), options.root_path)


def create_app(
    store: Store,
    database: Database | None = None,
    options: ConsoleOptions | None = None,
    *,
    recent: Recent | None = None,
) -> Starlette:
    """Return the console of a store as an ASGI application. The caller starts and stops the store.

    Args:
        store: the store to show.
        database: its database, for the page about operations; None of a store in memory.
        options: how it is served; by default on a loopback address, without a token, and read-only.
        recent: where the telemetry of the store counts statements.
    """
    options = options or ConsoleOptions()
    access = Access(options)
    console = Console(store, database, options, access, recent or Recent())
    routes = [
        Route("/static/{name}", _static),
        Route("/csp-report", _guarded(console, _report, is_open=True), methods=["POST"]),
        Route("/login", _guarded(console, _login_page, is_open=True), methods=["GET"]),
        Route("/login", _guarded(console, _log_in, is_open=True), methods=["POST"]),
        Route("/logout", _guarded(console, _form(_log_out)), methods=["POST"]),
        *(Route(path, _guarded(console, page), methods=["GET"]) for path, page in _PAGES.items()),
        *(Route(f"/act/{name}", _guarded(console, _may_write(each.confirm))) for name, each in actions.ACTIONS.items()),
        *(
            Route(f"/act/{name}", _guarded(console, _may_write(_form(each.perform))), methods=["POST"])
            for name, each in actions.ACTIONS.items()
        ),
    ]
    app = _Application(routes=routes, exception_handlers={HTTPException: _not_routed, Exception: _failed})
    # The redirect would be to the name in the Host header, which is not that of the console behind a proxy.
    app.router.redirect_slashes = False
    app.state.console = console
    return app


def _guarded(console: Console, page: Page, *, is_open: bool = False) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a page: visitors without a login are sent to it, and errors of the library are shown."""

    async def endpoint(request: Request) -> Response:
        access = console.access
        visitor = access.read(request.headers.get("cookie", ""))
        if visitor is None and access.needs_login and not is_open:
            view = View(console, request, None)
            if request.method != "GET":
                return _error(view, 401, "Please log in", "The login has expired. Log in, and try again.")
            target = view.here() if view.path != "/" else None
            return RedirectResponse(view.url("/login", next=target), 303)
        cookie = None
        if visitor is None and not access.needs_login and not is_open:
            cookie, visitor = access.issue()
        view = View(console, request, visitor)
        try:
            response = await page(view)
        except AgentStoreError as error:
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            response = _error(view, status, _title(error, status), str(error))
        if cookie is not None:
            set_cookie(view, response, cookie)
        return response

    return endpoint


_TITLES = {
    400: "The request is not valid",
    403: "Hidden from this login",
    404: "Not found",
    409: "It has changed meanwhile",
    413: "This is too large to show",
    503: "The database does not answer",
}


def _title(error: AgentStoreError, status: int) -> str:
    if isinstance(error, Busy):
        return "The console is busy"
    if isinstance(error, NotConfigured) and not is_refused(error):
        return "Not available here"
    return _TITLES.get(status, "This could not be read")


def _error(view: View, status: int, title: str, detail: str) -> Response:
    return view.render("error.html", status, title=title, detail=detail, status=status)


def set_cookie(view: View, response: Response, value: str) -> None:
    """Add the cookie of a visitor to a response."""
    view.set_cookie(response, view.console.access.cookie, value, COOKIE_SECONDS)


def _may_write(page: Page) -> Page:
    async def checked(view: View) -> Response:
        if not view.console.options.allow_writes:
            return _error(view, 403, "This console is read-only", "Start it with --allow-writes to change data.")
        return await page(view)

    return checked


async def _read_form(view: View) -> dict[str, str] | None:
    """Return the fields of a form, or None if it is too large or not a form."""
    body = bytearray()
    async for part in view.request.stream():
        body += part
        if len(body) > _MOST_FORM:
            return None
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body)))
    except ValueError:
        return None


def _form(action: Action) -> Page:
    """Return the page of a form that only a page of this console can have sent."""

    async def checked(view: View) -> Response:
        fields = await _read_form(view)
        site = view.request.headers.get("sec-fetch-site", "same-origin")
        token = "" if fields is None else fields.get("form_token", "")
        if (
            fields is None
            or view.visitor is None
            or site not in ("same-origin", "none")
            or not view.console.access.is_form_token(view.visitor, token)
        ):
            return _error(view, 403, "The form has expired", "Open the page again, and repeat the action.")
        return await action(view, fields)

    return checked


async def _static(request: Request) -> Response:
    found = assets().get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    is_current = "v" in request.query_params
    caching = "public, max-age=31536000, immutable" if is_current else "no-cache"
    return Response(found[0], headers={"content-type": found[1], "cache-control": caching})


async def _report(view: View) -> Response:
    """Log what a browser has refused to load or run, as reported by a visitor."""
    if view.visitor is not None:
        body = bytearray()
        async for part in view.request.stream():
            body += part[:_MOST_FORM]
            if len(body) > _MOST_FORM:
                break
        try:
            text = json.dumps(json.loads(body[:_MOST_FORM]))[:2_000]
        except (ValueError, RecursionError):
            text = repr(bytes(body[:200]))
        view.console.recent.reports.append(text)
        _log.warning("a browser reports a violation of the Content-Security-Policy: %s", text)
    return Response(status_code=204)


def _next(view: View, given: str) -> str:
    """Return where to go after the login: a page of this console, and no other site."""
    root = view.console.options.root_path
    is_inside = given.startswith(f"{root}/") and not given.startswith("//") and "\\" not in given
    return given if is_inside and given.isprintable() else view.url("/")


async def _login_page(view: View) -> Response:
    if not view.console.access.needs_login or view.visitor is not None:
        return RedirectResponse(_next(view, view.query("next")), 303)
    return view.render("login.html", next=view.query("next"), problem="")


async def _log_in(view: View) -> Response:
    access = view.console.access
    fields = await _read_form(view) or {}
    target = fields.get("next", "")
    client = view.request.client
    address = "" if client is None else client.host
    if view.request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return _error(view, 403, "The form has expired", "Open the page again, and repeat the action.")
    if wait := access.limit.wait(address):
        response: Response = view.render("login.html", 429, next=target, problem="Too many attempts. Wait a minute.")
        response.headers["retry-after"] = str(int(wait) + 1)
        return response
    if not access.is_token(fields.get("token", "").strip()):
        access.limit.fail(address)
        _log.warning("a login from %s with a wrong token", address)
        return view.render("login.html", 401, next=target, problem="This is not the token.")
    response = RedirectResponse(_next(view, target), 303)
    set_cookie(view, response, access.issue()[0])
    return response


async def _log_out(view: View, fields: dict[str, str]) -> Response:
    response = RedirectResponse(view.url("/login"), 303)
    response.delete_cookie(view.console.access.cookie, path=view.console.access.path)
    return response


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    console: Console = request.app.state.console
    if error.status_code != 404 or request.url.path.startswith(f"{console.options.root_path}/static/"):
        return PlainTextResponse(error.detail, error.status_code, dict(error.headers or {}))

    async def page(view: View) -> Response:
        return _error(view, 404, "Not found", "There is no such page.")

    return await _guarded(console, page)(request)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer after an unexpected error, which the server logs; the page has no details."""
    view = View(request.app.state.console, request, None)
    return _error(view, 500, "This is a bug", "The log of the console has the details.")
