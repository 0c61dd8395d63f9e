"""The pages about states: the rounds of a session, one round, and the difference between two."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from agentstore.console import charts
from agentstore.console.rendering import render_json, summarize
from agentstore.console.view import PAGE_SIZE, View, load
from agentstore.errors import InvalidContent, NotFound

_MOST_SHOWN = 200_000
_MOST_CHANGES = 300
_MISSING = object()


@dataclass(frozen=True)
class Change:
    """One operation of a JSON Patch, with the value before it."""

    kind: str
    path: str
    before: str | None
    after: str | None


async def states(view: View) -> Response:
    """Show the rounds of a session, with their sizes, and its scoped values."""
    user_id, session_id = view.query("user"), view.query("session") or None
    rounds, values = await asyncio.gather(
        load(view.store.states.list_states(user_id, session_id, limit=PAGE_SIZE, cursor=view.cursor())),
        load(view.store.states.get_values(user_id, session_id, scope="session"))
        if session_id is not None
        else load(_nothing()),
    )
    listed = list(rounds.value or ())
    chart = Markup("")
    if len(listed) > 1:
        sizes = [(f"{view.text('Round')} {each.round_id}", each.size) for each in reversed(listed)]
        chart = charts.bar_chart(sizes, view.text("Sizes of the rounds in bytes"))
    return view.render(
        "states.html",
        user_id=user_id,
        session_id=session_id or "",
        rounds=rounds,
        values=values,
        chart=chart,
        largest=max((each.size for each in listed), default=0),
    )


async def _nothing() -> None:
    return None


async def state(view: View) -> Response:
    """Show the state of a round, or with ``as=json`` send all of it.

    Raises:
        NotFound: the round does not exist.
    """
    user_id, session_id = view.query("user"), view.query("session") or None
    round_id = view.number("round", 0)
    found = await view.store.states.export_state(user_id, session_id, round_id) if round_id else None
    if found is None:
        raise NotFound(f"session {session_id or 'default'!r} of user {user_id!r} has no state round {round_id}")
    if view.query("as") == "json":
        text = await asyncio.to_thread(json.dumps, found)
        headers = {"content-disposition": f'attachment; filename="state-{round_id}.json"'}
        return Response(text, media_type="application/json", headers=headers)
    html, left_out = await asyncio.to_thread(render_json, found, _MOST_SHOWN)
    return view.render(
        "state.html", user_id=user_id, session_id=session_id or "", round_id=round_id, html=html, left_out=left_out
    )


async def diff(view: View) -> Response:
    """Show what changed between two rounds.

    Raises:
        InvalidContent: the URL does not name two rounds.
        NotFound: a round does not exist.
    """
    user_id, session_id = view.query("user"), view.query("session") or None
    a, b = view.number("a", 0), view.number("b", 0)
    if not a or not b:
        raise InvalidContent("choose two rounds to compare")
    patch, before = await asyncio.gather(
        view.store.states.diff_states(user_id, a, b, session_id),
        view.store.states.export_state(user_id, session_id, a),
    )
    changes = await asyncio.to_thread(lambda: [_change(each, before) for each in patch[:_MOST_CHANGES]])
    return view.render(
        "diff.html",
        user_id=user_id,
        session_id=session_id or "",
        a=a,
        b=b,
        changes=changes,
        left_out=max(0, len(patch) - _MOST_CHANGES),
    )


def _change(operation: dict[str, Any], before: Any) -> Change:
    path = str(operation.get("path", ""))
    source = str(operation["from"]) if "from" in operation else path
    old = _resolve(before, source)
    new = operation.get("value", _MISSING)
    if "from" in operation:
        new = old
    is_added = operation.get("op") == "add"
    return Change(
        str(operation.get("op", "")),
        f"{source} → {path}" if "from" in operation else path or "/",
        None if old is _MISSING or is_added else summarize(old, 2_000),
        None if new is _MISSING else summarize(new, 2_000),
    )


def _resolve(value: Any, pointer: str) -> Any:
    """Return the value at a JSON Pointer (RFC 6901).

    The operations of a patch apply one after the other, so that the indexes of later ones may not be those of the state
    before all of them.
    """
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value
