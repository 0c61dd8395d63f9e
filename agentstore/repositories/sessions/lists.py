"""The statements that list sessions without their messages, and the function that executes them.

There is one statement for each order, and for the index by which it finds the sessions: that of the user or, for all
users, that of the order, of an application, or of the metadata. Other filters are compared with the rows that it reads.
"""

from itertools import product
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    ClauseElement,
    ColumnElement,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSON

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.statement import FunctionOfSchema, Statement
from agentstore.models import SessionRow
from agentstore.repositories.retention import is_not_expired
from agentstore.repositories.sessions.rows import load_sessions
from agentstore.repositories.sessions.statements import HEAD, USER
from agentstore.schemas import Page, Session
from agentstore.schemas.listing import Key, SessionFilters, SessionOrder, minute_of
from agentstore.schemas.page import Advice

_Index = Literal["user", "user_and_metadata", "order", "app", "metadata"]

_TIME = SessionRow.updated_at.type
_LIMIT = bindparam("limit", type_=BigInteger)
_APP, _TITLE, _METADATA = (bindparam(name, type_=Text) for name in ("app", "title", "metadata"))
# The columns that order a list, and the parameters with the values of the place that a page begins after.
_TIMES = {
    "last_used": {"before_minute": SessionRow.listed_at, "before": SessionRow.updated_at},
    "created": {"before": SessionRow.created_at},
}
_IDS = {"before_user": SessionRow.user_id, "before_id": SessionRow.id}
# The term of metadata that cannot be indexed: whether it matches is found out when it is read.
_UNKNOWN: ColumnElement[Any] = literal_column("'{0}'::bigint[]")


def _terms(metadata: Any) -> ColumnElement[Any]:
    return FunctionOfSchema("metadata_terms", metadata)


def _has_metadata() -> ColumnElement[bool]:
    """Match sessions whose metadata has the terms of ``:metadata``, or cannot be indexed."""
    # The condition of the index, which is partial: most sessions have no metadata.
    is_indexed = cast(SessionRow.metadata_, Text) != literal_column("'{}'")
    found, wanted = _terms(SessionRow.metadata_), _terms(cast(_METADATA, JSON))
    return is_indexed & or_(found.op("@>")(wanted), found.op("@>")(_UNKNOWN))


def _columns(order: SessionOrder, index: _Index) -> dict[str, Any]:
    """Return the columns by which a list is ordered, by the names of their parameters."""
    return {**_TIMES[order], **({"before_id": SessionRow.id} if index.startswith("user") else _IDS)}


def _list(order: SessionOrder, index: _Index) -> ClauseElement:
    """Read a page of sessions in an order, the latest first, found by an index.

    "last_used" is ordered by listed_at, updated_at truncated to the minute, which has an index; the sessions of one
    minute are sorted by updated_at and their ids. The last column is listed_at for the cursor, or null without a limit,
    where the driver would decode one more timestamp for each row needlessly.
    """
    columns = _columns(order, index)
    after = [bindparam(name, type_=Text if name in _IDS else _TIME) for name in columns]
    found_by = [tuple_(*columns.values()) < tuple_(*after)]
    if index.startswith("user"):
        found_by.append(SessionRow.user_id == USER)
    if index.endswith("metadata"):
        found_by.append(_has_metadata())
    if index == "app":
        found_by.append(SessionRow.app == _APP)
    filters = [
        SessionRow.updated_at >= bindparam("since", type_=_TIME),
        or_(_TITLE.is_(None), func.strpos(func.lower(SessionRow.title), func.lower(_TITLE)) > 0),
    ]
    if order == "last_used":
        found_by.append(SessionRow.listed_at >= bindparam("since_minute", type_=_TIME))
    else:
        filters.append(SessionRow.updated_at < bindparam("until", type_=_TIME))
    if index != "app":
        filters.append(or_(_APP.is_(None), SessionRow.app == _APP))
    return (
        select(
            SessionRow.id,
            *HEAD,
            *([] if index.startswith("user") else [SessionRow.user_id]),
            case((_LIMIT.is_not(None), SessionRow.listed_at)).label("listed_at"),
        )
        # In coalesce, a generic plan estimates the filters to match half of the rows, and reads those in their order.
        # By themselves it would estimate hardly any, and read and sort all of them.
        .where(*found_by, is_not_expired(SessionRow), func.coalesce(and_(*filters), False))
        .order_by(*(each.desc() for each in columns.values()))
        .limit(_LIMIT)
    )


def _statement(order: SessionOrder, index: _Index) -> Statement:
    return Statement(
        lambda: _list(order, index), name="sessions.list", scope="user" if index.startswith("user") else "all"
    )


_ORDERS: tuple[SessionOrder, ...] = ("last_used", "created")
_INDEXES: tuple[_Index, ...] = ("user", "user_and_metadata", "order", "app", "metadata")
LISTS = {f"{order}_by_{index}": _statement(order, index) for order, index in product(_ORDERS, _INDEXES)}


def _index_for(filters: SessionFilters) -> _Index:
    has_metadata = filters.metadata_text is not None
    if filters.user_id is not None:
        return "user_and_metadata" if has_metadata else "user"
    if has_metadata:
        return "metadata"
    return "order" if filters.app is None else "app"


async def list_sessions(database: Database, filters: SessionFilters) -> Page[Session]:
    """Return a page of sessions."""
    index = _index_for(filters)
    statement, names = LISTS[f"{filters.order}_by_{index}"], list(_columns(filters.order, index))
    values: dict[str, Any] = {
        "user_id": filters.user_id,
        "app": filters.app,
        "title": filters.title,
        "metadata": filters.metadata_text,
        "since": filters.since,
        "since_minute": minute_of(filters.since),
        "until": filters.until,
    }
    sessions: list[Session] = []
    before: Key = filters.before
    while True:
        limit = None if filters.limit is None else filters.limit - len(sessions)
        rows = await database.fetch_page(
            statement, Advice.SMALLER_LIMIT, **values, **dict(zip(names, before, strict=True)), limit=limit
        )
        found = await offload.run(load_sessions, filters.user_id, rows)
        sessions += found if filters.metadata_text is None else filter(filters.has_metadata, found)
        if not rows or len(rows) != limit:
            return Page(sessions)
        before = _key(rows[-1], filters)
        if len(sessions) == filters.limit:
            return Page(sessions, filters.write_cursor(before))
        # Some rows have metadata that cannot be indexed, and does not match.


def _key(row: Any, filters: SessionFilters) -> Key:
    ids = (row["id"],) if filters.user_id is not None else (row["user_id"], row["id"])
    if filters.order == "last_used":
        return (row["listed_at"], row["updated_at"], *ids)
    return (row["created_at"], *ids)
