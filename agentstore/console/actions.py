"""What changes data: each with a page that names what goes, and a form that only that page can send."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from agentstore.console.view import View, load
from agentstore.errors import InvalidContent, NotFound
from agentstore.schemas import Session


@dataclass(frozen=True)
class Action:
    """A change: the page that asks for confirmation, and what is done after it."""

    confirm: Callable[[View], Awaitable[Response]]
    perform: Callable[[View, dict[str, str]], Awaitable[Response]]


def _page(view: View, title: str, button: str, /, **values: Any) -> Response:
    """Return a page that asks for confirmation; the form sends the parameters of the URL along."""
    context: dict[str, Any] = {
        "user_id": None,
        "session_id": None,
        "goes": {},
        "stays": "",
        "typed": None,
        "old": None,
        "is_harmless": False,
        "fields": {},
        "back": view.url("/"),
        "note": "",
    }
    return view.render(
        "confirm.html",
        title=title,
        button=button,
        action=view.path,
        query=view.request.query_params,
        **context | values,
    )


def _done(view: View, title: str, counts: dict[str, int], back: str, detail: str = "") -> Response:
    view.console.recent.forget()
    return view.render("done.html", title=title, counts=counts, back=back, detail=detail)


def _required(fields: dict[str, str], name: str) -> str:
    """Return a field of a form.

    Raises:
        InvalidContent: it is missing.
    """
    if name not in fields:
        raise InvalidContent(f"the form lacks the field {name!r}")
    return fields[name]


def _check_typed(fields: dict[str, str], expected: str) -> None:
    """Check the id that was typed to confirm.

    Raises:
        InvalidContent: it is another one.
    """
    if _required(fields, "typed") != expected:
        raise InvalidContent(f"the id that was entered is not {expected!r}: nothing was deleted")


async def _session_of(view: View) -> Session:
    """Return the session in the URL, without messages.

    Raises:
        NotFound: it does not exist.
    """
    user_id, session_id = view.query("user"), view.query("session")
    found = await view.store.sessions.get_session(user_id, session_id, limit=0)
    if found is None:
        raise NotFound(f"user {user_id!r} has no session {session_id!r}")
    return found


async def _confirm_rename(view: View) -> Response:
    found = await _session_of(view)
    return _page(
        view,
        "Rename the session",
        "Rename",
        user_id=found.user_id,
        session_id=found.id,
        old=found.title or "",
        is_harmless=True,
        back=view.url("/session", user=found.user_id, session=found.id),
    )


async def _rename(view: View, fields: dict[str, str]) -> Response:
    user_id, session_id = _required(fields, "user"), _required(fields, "session")
    await view.store.sessions.set_title(user_id, session_id, _required(fields, "title").strip() or None)
    return _done(view, "The session was renamed", {}, view.url("/session", user=user_id, session=session_id))


async def _confirm_delete_session(view: View) -> Response:
    found = await _session_of(view)
    return _page(
        view,
        "Delete the session",
        "Delete",
        user_id=found.user_id,
        session_id=found.id,
        old=found.title,
        goes={"messages": found.message_count or 0},
        stays="Memories and states of this session stay: they can be deleted on their own.",
        back=view.url("/session", user=found.user_id, session=found.id),
    )


async def _delete_session(view: View, fields: dict[str, str]) -> Response:
    user_id = _required(fields, "user")
    deleted = await view.store.sessions.delete_session(user_id, _required(fields, "session"))
    return _done(view, "The session was deleted", _counts(deleted), view.url("/user", user=user_id))


async def _confirm_delete_states(view: View) -> Response:
    user_id, session_id, round_id = view.query("user"), view.query("session"), view.number("round", 0)
    return _page(
        view,
        "Delete the state round" if round_id else "Delete all state rounds of the session",
        "Delete",
        user_id=user_id,
        session_id=session_id,
        goes={"round": round_id} if round_id else {},
        back=view.url("/states", user=user_id, session=session_id),
    )


async def _delete_states(view: View, fields: dict[str, str]) -> Response:
    user_id, session_id = _required(fields, "user"), _required(fields, "session")
    given = fields.get("round", "")
    if given and not (given.isascii() and given.isdecimal() and len(given) < 19):
        raise InvalidContent(f"a round must be a number, got {given[:80]!r}")
    deleted = await view.store.states.delete_state(user_id, session_id or None, int(given) if given else None)
    back = view.url("/states", user=user_id, session=session_id)
    return _done(view, "The states were deleted", _counts(deleted), back)


async def _confirm_delete_memories(view: View) -> Response:
    user_id = view.query("user")
    session_id = view.query("session") if "session" in view.request.query_params else None
    return _page(
        view,
        "Delete all memories of the user" if session_id is None else "Delete the memories of the session",
        "Delete",
        user_id=user_id,
        session_id=session_id,
        stays="Sessions and their messages stay.",
        back=view.url("/user", user=user_id, show="memories"),
        typed=user_id if session_id is None else None,
    )


async def _delete_memories(view: View, fields: dict[str, str]) -> Response:
    user_id = _required(fields, "user")
    if "session" not in fields:
        _check_typed(fields, user_id)
    deleted = await view.store.memory.delete_memory(user_id, fields.get("session"))
    back = view.url("/user", user=user_id, show="memories")
    return _done(view, "The memories were deleted", _counts(deleted), back)


async def _confirm_erase(view: View) -> Response:
    user_id = view.query("user")
    found, stats = await asyncio.gather(
        view.store.users.get_user(user_id),
        load(view.store.sessions.list_sessions(user_id, limit=200)),
    )
    if found is None:
        raise NotFound(f"there is no user {user_id!r}")
    listed = stats.value
    goes: dict[str, Any] = {}
    if listed is not None:
        more = "+" if listed.next_cursor is not None else ""
        goes = {
            "sessions": f"{len(listed):,}{more}",
            "messages": f"{sum(each.message_count or 0 for each in listed):,}{more}",
        }
    return _page(
        view,
        "Erase the user",
        "Erase everything",
        user_id=user_id,
        goes=goes,
        note="Also all memories, facts, documents, states, values, checkpoints, files and workspaces of the user.",
        typed=user_id,
        back=view.url("/user", user=user_id),
    )


async def _erase(view: View, fields: dict[str, str]) -> Response:
    user_id = _required(fields, "user")
    _check_typed(fields, user_id)
    deleted = await view.store.users.delete_user(user_id)
    return _done(view, "The user was erased", _counts(deleted), view.url("/users"))


async def _confirm_retry(view: View) -> Response:
    user_id = view.query("user") if "user" in view.request.query_params else None
    failed = await view.store.memory.list_failed_extractions(user_id, limit=1_000)
    more = "+" if failed.next_cursor is not None else ""
    return _page(
        view,
        "Retry failed extractions",
        "Retry",
        user_id=user_id,
        goes={"failed extractions": f"{len(failed):,}{more}"},
        is_harmless=True,
        note="They become due again, and an extractor processes them.",
        back=view.url("/queue", show="failed", user=user_id),
    )


async def _retry(view: View, fields: dict[str, str]) -> Response:
    count = await view.store.memory.retry_failed_extractions(fields.get("user"))
    return _done(view, "The extractions are due again", {"failed extractions": count}, view.url("/queue"))


async def _confirm_prune(view: View) -> Response:
    given = view.query("days")
    goes: dict[str, int] = {}
    if given or view.query("expired"):
        dry = await view.store.prune(_age(given), dry_run=True, max_time=timedelta(seconds=20))
        goes = _counts(dry) or {"sessions": 0}
    return _page(
        view,
        "Prune old data",
        "Prune",
        goes=goes,
        fields={"days": given},
        note="" if goes else "Choose an age first: nothing is deleted before the counts were shown.",
        back=view.url("/operations"),
    )


def _age(given: str) -> timedelta | None:
    """Return the age of a form; None for an empty one, by which only what has expired is deleted.

    Raises:
        InvalidContent: it is not a number of days.
    """
    if not given.strip():
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 6 and 0 < int(given) <= 36_500):
        raise InvalidContent(f"the age must be a number of days from 1 to 36,500, got {given[:80]!r}")
    return timedelta(days=int(given))


async def _prune(view: View, fields: dict[str, str]) -> Response:
    pruned = await view.store.prune(_age(_required(fields, "days")), max_time=timedelta(seconds=60))
    detail = "" if pruned.finished else "There is more: repeat it, or run `agentstore prune`."
    return _done(view, "Old data was deleted", _counts(pruned), view.url("/operations"), detail)


def _counts(deleted: Any) -> dict[str, int]:
    """Return the counts of a deletion that are not 0, by their names."""
    found = asdict(deleted)
    return {
        name.replace("_", " "): value
        for name, value in found.items()
        if isinstance(value, int) and not isinstance(value, bool) and value and name != "bytes"
    }


ACTIONS = {
    "rename": Action(_confirm_rename, _rename),
    "delete-session": Action(_confirm_delete_session, _delete_session),
    "delete-states": Action(_confirm_delete_states, _delete_states),
    "delete-memories": Action(_confirm_delete_memories, _delete_memories),
    "erase": Action(_confirm_erase, _erase),
    "retry": Action(_confirm_retry, _retry),
    "prune": Action(_confirm_prune, _prune),
}
"""The changes by the last part of their path."""
