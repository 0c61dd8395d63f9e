"""The page of a memory search: what is found, with its score, and why."""

import asyncio
import json
from typing import Any

from starlette.responses import Response

from agentstore.console.view import View, load
from agentstore.errors import InvalidContent
from agentstore.schemas import MemoryHit, SearchFilters
from agentstore.schemas.memory import speaker_of
from agentstore.schemas.message import text_of

STRATEGIES = ("full_text", "vector", "hybrid")
_FIELDS = ("session_id", "exclude_session_id", "namespace", "role", "kind", "since", "until")
_MOST_HITS = 100
_MOST_SHOWN = 2_000


async def search(view: View) -> Response:
    """Search the memories of a user, with the filters of the URL."""
    user_id, question = view.query("user"), view.query("q")
    values = {name: view.query(name) for name in (*_FIELDS, "metadata", "strategy", "k", "order")}
    values["neighbors"] = view.query("neighbors", "yes")
    is_filtered = any(values[name] for name in (*_FIELDS, "metadata"))
    is_asked = bool(user_id or "user" in view.request.query_params) and bool(question.strip())
    hits = await load(_search(view, user_id, question, values)) if is_asked else None
    found = (hits.value if hits is not None else None) or []
    # Texts may be large, and all of a text is searched for its best passage.
    explained = await asyncio.to_thread(lambda: [(hit, _explain(hit)) for hit in found])
    has_memories = None
    if hits is not None and hits.value == []:
        has_memories = (await load(view.store.memory.list_memory(user_id, {"page_size": 1}))).value
    return view.render(
        "search.html",
        user_id=user_id,
        question=question,
        values=values,
        hits=hits,
        has_memories=has_memories,
        is_filtered=is_filtered,
        strategies=STRATEGIES,
        best=max((hit.score for hit in found), default=0.0),
        explained=explained,
    )


async def _search(view: View, user_id: str, question: str, values: dict[str, str]) -> list[MemoryHit]:
    filters: Any = {name: values[name] for name in _FIELDS if values[name]}
    if values["metadata"]:
        try:
            filters["metadata"] = json.loads(values["metadata"])
        except (ValueError, RecursionError):
            raise InvalidContent(f"metadata must be a JSON object, got {values['metadata'][:80]!r}") from None
    if values["strategy"]:
        filters["strategy"] = values["strategy"]
    if values["order"]:
        filters["order"] = values["order"]
    filters["top_k"] = min(view.number("k", 10), _MOST_HITS)
    filters["neighbors"] = values["neighbors"] != "no"
    given: SearchFilters = filters
    return await view.store.memory.search(user_id, question, given)


def _explain(hit: MemoryHit) -> dict[str, Any]:
    """Return what a page shows of a hit: its text, and why it was found."""
    text = text_of(hit.message)
    is_long = len(text) > _MOST_SHOWN
    highlights = hit.highlights
    terms = list(dict.fromkeys(part for part, is_match in highlights if is_match)) if is_long else hit.matched_terms
    return {
        "highlights": highlights,
        "terms": terms[:20] if hit.is_match else [],
        "text": text[:_MOST_SHOWN],
        "left_out": max(0, len(text) - _MOST_SHOWN),
        "speaker": speaker_of(hit.message),
    }
