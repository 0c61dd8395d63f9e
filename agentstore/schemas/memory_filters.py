"""The filters of searches and lists of memories: their types, and their validation."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.exact_json import dumps
from agentstore.schemas.memory import bucket
from agentstore.schemas.namespace import check_namespace
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import check_id, read_time, shortened
from agentstore.schemas.strategy import SearchStrategy
from agentstore.schemas.times import local_time
from agentstore.settings import Settings

# The maximum number of session ids in a filter: each memory found is compared with them.
MAX_SESSIONS = 1_000
# The maximum number of keys in a filter of metadata: each is looked up in the index for each word of a query.
MAX_KEYS = 100


class SearchFilters(TypedDict, total=False):
    """The filters of a search, all optional. A filter that is None is not applied."""

    top_k: int
    """The maximum number of results, from 0 to 1,000 (default 10)."""
    order: Literal["relevance", "chronological"]
    """The order of the results: best first (default), or by time."""
    session_id: str | Sequence[str] | None
    """Only memories of this session, or of one of these."""
    exclude_session_id: str | Sequence[str] | None
    """No memories of this session, or of any of these."""
    namespace: str | None
    """Only memories in this namespace, or in one below it: "a" has "a" and "a/b"."""
    metadata: Mapping[str, Any] | None
    """Only memories whose metadata has all of these keys, up to 100, with equal values. Numbers compare by value."""
    role: str | None
    """Only messages of this role, such as "user"."""
    kind: str | None
    """Only memories of this kind: "message", or an item's, such as "fact"."""
    since: datetime | str | float | None
    """Only memories from this time on: an aware datetime, a string such as ISO 8601, or seconds since 1970."""
    until: datetime | str | float | None
    """Only memories before this time."""
    valid_at: datetime | str | float | None
    """Only items that are valid at this time (default: now)."""
    now: datetime | str | float | None
    """The time of the question, by which "last week" is a date (default: the query message's timestamp, or now)."""
    min_score: float
    """The minimum score of a result (default 0.0)."""
    neighbors: bool
    """Whether memories are also found by their neighbors in the session, which raise each other's score (default)."""
    strategy: SearchStrategy | str | None
    """What is compared: words, meaning, or both (default: the service's strategy)."""


class ListFilters(TypedDict, total=False):
    """The filters of a list of memories, all optional."""

    page_num: int
    """The number of the page, from 1 (default 1)."""
    page_size: int
    """The number of memories per page, from 1 to 10,000 (default 10)."""
    cursor: str | None
    """``next_cursor`` of the previous page, instead of ``page_num``."""
    session_id: str | Sequence[str] | None
    """Only memories of this session, or of one of these."""
    exclude_session_id: str | Sequence[str] | None
    """No memories of this session, or of any of these."""
    namespace: str | None
    """Only memories in this namespace, or in one below it: "a" has "a" and "a/b"."""
    metadata: Mapping[str, Any] | None
    """Only memories whose metadata has all of these keys, up to 100, with equal values. Numbers compare by value."""


@dataclass(frozen=True, slots=True)
class CheckedSearch:
    """The validated filters of a search. `session_id` and `exclude_session_id` are lists."""

    top_k: int = 10
    order: Literal["relevance", "chronological"] = "relevance"
    session_id: list[str] | None = None
    exclude_session_id: list[str] | None = None
    namespace: str | None = None
    metadata: Mapping[str, Any] | None = None
    role: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_score: float = 0.0
    kind: str | None = None
    valid_at: datetime | None = None
    now: datetime | None = None
    neighbors: bool = True
    strategy: SearchStrategy | None = None

    def has_session(self, session_id: str) -> bool:
        """Return whether memories of a session pass the filters."""
        return has_session(session_id, self.session_id, self.exclude_session_id)


@dataclass(frozen=True, slots=True)
class CheckedList:
    """The validated filters of a list of memories. `session_id` and `exclude_session_id` are lists."""

    page_num: int = 1
    page_size: int = 10
    cursor: str | None = None
    session_id: list[str] | None = None
    exclude_session_id: list[str] | None = None
    namespace: str | None = None
    metadata: Mapping[str, Any] | None = None

    def has_session(self, session_id: str) -> bool:
        """Return whether memories of a session pass the filters."""
        return has_session(session_id, self.session_id, self.exclude_session_id)


def has_session(session_id: str, wanted: Collection[str] | None, excluded: Collection[str] | None) -> bool:
    """Return whether a session is one of `wanted`, if these are given, and none of `excluded`."""
    return (wanted is None or session_id in wanted) and session_id not in (excluded or ())


def read_search_filters(filters: Mapping[str, Any] | None, settings: Settings) -> CheckedSearch:
    """Validate the filters of a search.

    Raises:
        InvalidContent: a filter is unknown, or its value is not valid.
        LimitExceeded: `top_k` is over the setting `max_top_k`, or there are over 1,000 session ids or 100
            keys of metadata.
    """
    given = _known(filters, SearchFilters)
    if "top_k" in given:
        check_count(given["top_k"], "top_k", maximum=settings.max_top_k)
    if given.get("order", "relevance") not in ("relevance", "chronological"):
        raise InvalidContent(f'order must be "relevance" or "chronological", got {shortened(given["order"])}')
    for name in ("role", "kind"):
        if given.get(name) is not None:
            check_id(given[name], name, settings)
    for name in ("since", "until", "valid_at", "now"):
        if (value := given.get(name)) is not None:
            given[name] = read_time(value, name)
            if name == "now" and not isinstance(value, datetime):
                given[name] = local_time(value)  # in its own time zone, which decides the day
    score = given.get("min_score", 0.0)
    if isinstance(score, bool) or not isinstance(score, (int, float)) or score != score:
        raise InvalidContent(f"min_score must be a number, got {shortened(score)}")
    given["min_score"] = float(max(min(score, 1e300), -1e300))
    if not isinstance(given.get("neighbors", True), bool):
        raise InvalidContent(f"neighbors must be True or False, got {shortened(given['neighbors'])}")
    if given.get("strategy") is not None:
        given["strategy"] = read_strategy(given["strategy"])
    return CheckedSearch(**_read_places(given, settings))


def read_strategy(value: object) -> SearchStrategy:
    """Return a search strategy, given as one or by its name in any case.

    Raises:
        InvalidContent: it is not a search strategy.
    """
    strategies = {each.value: each for each in SearchStrategy}
    # Not by a call of the enum, whose error shows the whole value.
    if not isinstance(value, str) or (strategy := strategies.get(value.lower())) is None:
        raise InvalidContent(f"unknown search strategy {shortened(value)}: expected one of {', '.join(strategies)}")
    return strategy


def read_list_filters(filters: Mapping[str, Any] | None, settings: Settings) -> CheckedList:
    """Validate the filters of a list of memories.

    Raises:
        InvalidContent: a filter is unknown, its value is not valid, or both `page_num` and `cursor` are given.
        LimitExceeded: `page_size` is over 10,000, or there are over 1,000 session ids or 100
            keys of metadata.
    """
    given = _known(filters, ListFilters)
    for name, maximum in (("page_num", None), ("page_size", settings.max_page)):
        if name in given:
            check_count(given[name], name, minimum=1, maximum=maximum)
    if given.get("cursor") is not None and "page_num" in given:
        raise InvalidContent("page_num and cursor cannot be combined: pass one of them")
    return CheckedList(**_read_places(given, settings))


def _known(filters: Mapping[str, Any] | None, kind: type) -> dict[str, Any]:
    """Return the filters as a dict, if all of them are keys of the TypedDict `kind`."""
    if filters is not None and not isinstance(filters, Mapping):
        raise InvalidContent(f"filters must be a dict, got {type(filters).__name__}")
    given = dict(filters or {})
    for name in given:
        if name not in kind.__annotations__:
            known = list(kind.__annotations__)
            similar = difflib.get_close_matches(name[:80], known, n=1) if isinstance(name, str) else []
            hint = f"did you mean {similar[0]}? Expected" if similar else "expected"
            raise InvalidContent(f"unknown filter {shortened(name)}: {hint} one of {', '.join(known)}")
    return given


def check_metadata_filter(value: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Validate a filter of metadata: a dict of JSON values, or None.

    Raises:
        InvalidContent: it is not such a dict.
        LimitExceeded: it has over 100 keys, or a value that exceeds a limit of JSON.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidContent(f"metadata must be a dict, got {shortened(value)}")
    if len(value) > MAX_KEYS:
        raise LimitExceeded(f"the filter of metadata has {len(value)} keys: at most {MAX_KEYS} are allowed")
    value = dict(value)
    dumps(value, where="metadata")  # raises what it raises where metadata is stored
    return value


def check_session_ids(ids: Iterable[str], settings: Settings) -> list[str]:
    """Validate the ids of sessions, and return them without duplicates.

    Raises:
        InvalidContent: an id is not valid, or `ids` is a string.
    """
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise InvalidContent(f"session_ids must be a list of strings, got {shortened(ids)}")
    return list(dict.fromkeys(check_id(each, "session_id", settings) for each in ids))


def _read_places(given: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Validate the filters that searches and lists have in common."""
    check_namespace(given.get("namespace"), settings)
    given["metadata"] = check_metadata_filter(given.get("metadata"))
    for name in ("session_id", "exclude_session_id"):
        if (value := given.get(name)) is None:
            continue
        if isinstance(value, str):
            given[name] = [bucket(value, settings)]
            continue
        if not isinstance(value, Collection) or isinstance(value, (Mapping, bytes, bytearray)):
            raise InvalidContent(f"{name} must be a string or a list of strings, got {shortened(value)}")
        if len(value) > MAX_SESSIONS:
            raise LimitExceeded(f"{name} has {len(value)} session ids: at most {MAX_SESSIONS} are allowed")
        given[name] = list(dict.fromkeys(check_id(each, name, settings) or "default" for each in value))
    return given
