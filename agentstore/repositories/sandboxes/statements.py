"""The statements of the sandbox registry.

A row of `sandboxes` is identified by user, session and type. Its generation is incremented for each new sandbox, and by
each process that takes an expired row over: a statement with an older generation matches no row.
"""

from sqlalchemy import (
    BigInteger,
    DateTime,
    Interval,
    Text,
    Update,
    bindparam,
    delete,
    func,
    select,
    tuple_,
    update,
)

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.models import SandboxRow
from agentstore.schemas import SandboxInfo

SQL = SqlStatements(__file__)
_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_TYPE = bindparam("type", type_=Text)
_GENERATION = bindparam("generation", type_=BigInteger)
_LEASE = bindparam("lease_time", type_=Interval)
_OWNER, _HOST = bindparam("owner", type_=Text), bindparam("host", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_MATCHES_KEY = (SandboxRow.user_id == _USER) & (SandboxRow.session_id == _SESSION) & (SandboxRow.type == _TYPE)
_MATCHES_GENERATION = _MATCHES_KEY & (SandboxRow.generation == _GENERATION)
_NEW_LEASE = func.now() + _LEASE
_INFO = (
    SandboxRow.user_id,
    SandboxRow.session_id,
    SandboxRow.type,
    SandboxRow.generation,
    SandboxRow.provider,
    SandboxRow.state,
    SandboxRow.owner,
    SandboxRow.host,
    SandboxRow.created_at,
    SandboxRow.lease_until,
)
_ROW = (
    *_INFO,
    SandboxRow.handle,
    (SandboxRow.lease_until < func.now()).label("has_expired"),
    (func.now() - SandboxRow.lease_until).label("expired_for"),
)


def info_from_row(row: Row) -> SandboxInfo:
    """Return the public columns of a row, which come first in every statement that reads rows."""
    return SandboxInfo(*tuple(row)[: len(_INFO)])


def _update_ending() -> Update:
    return update(SandboxRow).where(_MATCHES_GENERATION, SandboxRow.state == "ending")


CLAIM = SQL("claim")
FIND = Statement(select(*_ROW).where(_MATCHES_KEY), name="sandboxes.find", scope="user")
OF_SESSION = Statement(
    select(*_ROW).where(SandboxRow.user_id == _USER, SandboxRow.session_id == _SESSION).order_by(SandboxRow.type),
    name="sandboxes.of_session",
    scope="user",
)
READY = Statement(
    update(SandboxRow)
    .where(_MATCHES_GENERATION, SandboxRow.state == "starting")
    .values(state="ready", handle=bindparam("handle", type_=Text), lease_until=_NEW_LEASE)
    .returning(SandboxRow.generation),
    name="sandboxes.ready",
    scope="user",
    repeatable=False,
)
RENEW = SQL("renew")
MARK_ENDING = Statement(
    update(SandboxRow)
    .where(_MATCHES_GENERATION)
    .values(state="ending", lease_until=_NEW_LEASE)
    .returning(SandboxRow.generation),
    name="sandboxes.mark_ending",
    scope="user",
    repeatable=True,
)
RENEW_ENDING = Statement(
    _update_ending().values(lease_until=_NEW_LEASE).returning(SandboxRow.generation),
    name="sandboxes.renew_ending",
    scope="user",
    repeatable=True,
)
REOPEN = Statement(
    _update_ending().values(state="ready").returning(SandboxRow.generation),
    name="sandboxes.reopen",
    scope="user",
    repeatable=True,
)
DROP = Statement(
    delete(SandboxRow).where(_MATCHES_GENERATION).returning(SandboxRow.generation),
    name="sandboxes.drop",
    scope="user",
    repeatable=False,
)
# Of all users: those whose lease had expired `elapsed` ago, in the order of `_EXPIRED_KEY`, after the given key. TAKE
# checks again whether the lease has expired.
_EXPIRED_KEY = (SandboxRow.lease_until, SandboxRow.user_id, SandboxRow.session_id, SandboxRow.type)
_AFTER_EXPIRED = (
    bindparam("after_lease", type_=DateTime(timezone=True)),
    bindparam("after_user", type_=Text),
    bindparam("after_session", type_=Text),
    bindparam("after_type", type_=Text),
)
EXPIRED = Statement(
    select(*_ROW)
    .where(
        SandboxRow.lease_until < func.now() - bindparam("elapsed", type_=Interval),
        SandboxRow.provider == bindparam("provider", type_=Text),
        tuple_(*_EXPIRED_KEY) > tuple_(*_AFTER_EXPIRED),
    )
    .order_by(*_EXPIRED_KEY)
    .limit(_LIMIT),
    name="sandboxes.expired",
    scope="all",
)
# Increments the generation, so that the previous holder's statements match no row.
TAKE = Statement(
    update(SandboxRow)
    .where(_MATCHES_GENERATION, SandboxRow.lease_until < func.now())
    .values(generation=SandboxRow.generation + 1, state="ending", owner=_OWNER, host=_HOST, lease_until=_NEW_LEASE)
    .returning(SandboxRow.generation),
    name="sandboxes.take",
    scope="user",
    repeatable=False,
)
_LIST = select(*_INFO).where(SandboxRow.user_id == _USER).order_by(SandboxRow.session_id, SandboxRow.type)
LIST_FIRST = Statement(_LIST.limit(_LIMIT), name="sandboxes.list_first", scope="user")
LIST = Statement(
    _LIST.where(
        tuple_(SandboxRow.session_id, SandboxRow.type)
        > tuple_(bindparam("after_session", type_=Text), bindparam("after_type", type_=Text))
    ).limit(_LIMIT),
    name="sandboxes.list",
    scope="user",
)
