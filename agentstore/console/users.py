"""The pages about users: the list, one user, and the export of a user's data."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import IO, Any, cast

from starlette.responses import RedirectResponse, Response, StreamingResponse

from agentstore.console.checkpoints import threads_of
from agentstore.console.documents import documents_of
from agentstore.console.files import may_be_image
from agentstore.console.view import PAGE_SIZE, Busy, Panel, View, load
from agentstore.errors import InvalidContent, NotFound
from agentstore.schemas import Page, Session
from agentstore.schemas.memory import listed_memory
from agentstore.schemas.message import text_of

TABS = ("sessions", "memories", "facts", "documents", "states", "checkpoints", "files", "sandboxes")
_CHUNK = 262_144


async def list_users(view: View) -> Response:
    """Show users by the beginning of their id; without the right to list users, a field to open one by its id."""
    exact = view.query("open")
    if exact:
        return RedirectResponse(view.url("/user", user=exact), 303)
    prefix = view.query("prefix")
    found = await load(view.store.users.list_users(prefix=prefix, limit=PAGE_SIZE, cursor=view.cursor()))
    return view.render("users.html", users=found, prefix=prefix)


async def user(view: View) -> Response:
    """Show a user: metadata, and a list of one kind of data."""
    user_id = view.query("user")
    tab = view.query("show", "sessions")
    if tab not in TABS:
        tab = "sessions"
    found, listed = await asyncio.gather(load(view.store.users.get_user(user_id)), _lists[tab](view, user_id))
    if isinstance(found.error, InvalidContent):  # the id
        raise found.error
    if found.error is None and found.value is None:
        raise NotFound(f"there is no user {user_id!r}")
    return view.render(
        "user.html",
        user_id=user_id,
        user=found,
        tab=tab,
        tabs=TABS,
        listed=listed,
        query=view.query,
        may_be_image=may_be_image,
    )


async def _sessions(view: View, user_id: str) -> Panel[Page[Session]]:
    title = view.query("title") or None
    return await load(view.store.sessions.list_sessions(user_id, title=title, limit=PAGE_SIZE, cursor=view.cursor()))


async def _memories(view: View, user_id: str) -> Panel[Any]:
    async def read() -> Any:
        page = await view.store.memory.list_memory(user_id, {"page_size": PAGE_SIZE, "cursor": view.cursor()})
        rows = [(message, listed_memory(message), text_of(message)[:300]) for message in page]
        return {"rows": rows, "next_cursor": page.next_cursor}

    return await load(read())


async def _facts(view: View, user_id: str) -> Panel[Any]:
    return await load(view.store.memory.list_items(user_id, with_invalid=True, limit=PAGE_SIZE, cursor=view.cursor()))


async def _states(view: View, user_id: str) -> Panel[Any]:
    """Return the scoped values of the user, and the rounds that belong to no session."""

    async def read() -> Any:
        rounds, values = await asyncio.gather(
            view.store.states.list_states(user_id, limit=PAGE_SIZE),
            view.store.states.get_values(user_id, app=view.query("app")),
        )
        return {"rounds": rounds, "values": values}

    return await load(read())


async def _files(view: View, user_id: str) -> Panel[Any]:
    """Return the files of all sessions and applications, or those of one session."""
    session_id = view.query("session")
    blobs = view.store.blobs
    place: dict[str, Any] = {"limit": PAGE_SIZE, "cursor": view.cursor()}
    return await load(
        blobs.list(user_id, session_id, app=view.query("app"), **place)
        if session_id
        else blobs.list_of_user(user_id, **place)
    )


async def _sandboxes(view: View, user_id: str) -> Panel[Any]:
    async def read() -> Any:
        return await view.store.sandboxes.list(user_id, limit=PAGE_SIZE, cursor=view.cursor())

    return await load(read())


_lists = {
    "sessions": _sessions,
    "memories": _memories,
    "facts": _facts,
    "documents": documents_of,
    "states": _states,
    "checkpoints": threads_of,
    "files": _files,
    "sandboxes": _sandboxes,
}


async def export(view: View) -> Response:
    """Send an export of a user as a file, which `agentstore import` restores.

    It is written to a temporary file first, so that an error is a page and not a file that ends early; one at a time.

    Raises:
        NotFound: the user does not exist.
        Busy: another export is running.
    """
    user_id = view.query("user")
    exports = view.console.exports
    if exports.locked():
        raise Busy("another export is running: try again when it is done")
    async with exports:
        file = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115 - closed after it was sent
        try:
            await view.store.export(cast("Any", file), [user_id])
        except BaseException:
            file.close()
            raise
    file.seek(0)
    headers = {"content-disposition": 'attachment; filename="agentstore-export.jsonl"'}
    return StreamingResponse(_parts(file), media_type="application/jsonl", headers=headers)


async def _parts(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while part := await asyncio.to_thread(file.read, _CHUNK):
            yield part
