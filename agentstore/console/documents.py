"""The pages about documents: those of a user by namespace, searches, and one document."""

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from agentstore.console.rendering import MOST_TEXT, render_json, render_text, shorten
from agentstore.console.view import PAGE_SIZE, Panel, View, load
from agentstore.errors import NotFound
from agentstore.schemas import StoredDocument

_NAMESPACES = 100
_MOST_METADATA = 100_000


@dataclass(frozen=True)
class Listed:
    """A page of documents, or the results of a search, and the namespaces below the chosen one."""

    rows: list[tuple[StoredDocument, float | None]]
    """Each with its score in a search."""
    next_cursor: str | None
    namespaces: Panel[list[str]]
    has_more_namespaces: bool


async def documents_of(view: View, user_id: str) -> Panel[Listed]:
    """Return a page of the documents of a user, or those that match the query in the URL."""

    async def read() -> Listed:
        namespace, query = view.query("namespace") or None, view.query("q").strip()
        store = view.store.documents
        rows: list[tuple[StoredDocument, float | None]] = []
        names = load(store.list_namespaces(user_id, namespace=namespace, limit=_NAMESPACES))
        if query:
            found, listed = await asyncio.gather(
                store.search(user_id, query, namespace=namespace, top_k=PAGE_SIZE), names
            )
            rows.extend(found)
            cursor = None
        else:
            page, listed = await asyncio.gather(
                store.list(user_id, namespace=namespace, limit=PAGE_SIZE, cursor=view.cursor()), names
            )
            rows.extend((each, None) for each in page)
            cursor = page.next_cursor
        has_more = listed.value is not None and listed.value.next_cursor is not None
        spaces = None if listed.value is None else [name for _, name in listed.value if name]
        return Listed(rows, cursor, Panel(spaces, listed.error), has_more)

    return await load(read())


async def document(view: View) -> Response:
    """Show a document: its text, its metadata, and its times.

    Raises:
        NotFound: it does not exist.
    """
    user_id, id = view.query("user"), view.query("id")
    found = (await view.store.documents.get(user_id, [id])).get(id)
    if found is None:
        raise NotFound(f"user {user_id!r} has no document {id!r}")
    text, left_out = shorten(found.item.text, MOST_TEXT)
    values: dict[str, Any] = {"metadata": None, "metadata_left_out": 0}
    if found.item.metadata:
        html, rest = await asyncio.to_thread(render_json, found.item.metadata, _MOST_METADATA)
        values = {"metadata": html, "metadata_left_out": rest}
    return view.render(
        "document.html", user_id=user_id, document=found, text=render_text(text), left_out=left_out, **values
    )
