"""The statements of checkpoints."""

from sqlalchemy import ARRAY, BigInteger, Text, bindparam, func, select, tuple_, update

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Statement
from agentstore.models import CheckpointHeadRow, CheckpointRow, CheckpointValueRow, CheckpointWriteRow

_USER, _SESSION = bindparam("user_id", type_=Text), bindparam("session_id", type_=Text)
_NAMESPACE = bindparam("namespace", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_THIS = (CheckpointHeadRow.user_id == _USER) & (CheckpointHeadRow.session_id == _SESSION)
SQL = SqlStatements(__file__)

PUT = SQL("put")
PUT_WRITES = SQL("put_writes")
GET = SQL("get")
LIST = SQL("list")
LIST_ALL = SQL("list_all")
LIST_SESSIONS = Statement(
    select(CheckpointHeadRow.user_id, CheckpointHeadRow.session_id)
    .where(
        tuple_(CheckpointHeadRow.user_id, CheckpointHeadRow.session_id)
        >= tuple_(bindparam("from_user", type_=Text), bindparam("from_session", type_=Text))
    )
    .order_by(CheckpointHeadRow.user_id, CheckpointHeadRow.session_id)
    .limit(_LIMIT),
    name="checkpoints.list_sessions",
    scope="all",
)
LIST_SESSIONS_OF_USER = Statement(
    select(CheckpointHeadRow.user_id, CheckpointHeadRow.session_id)
    .where(CheckpointHeadRow.user_id == _USER, CheckpointHeadRow.session_id >= bindparam("from_session", type_=Text))
    .order_by(CheckpointHeadRow.session_id)
    .limit(_LIMIT),
    name="checkpoints.list_sessions_of_user",
    scope="user",
)
LIST_OWNERS = Statement(
    select(CheckpointHeadRow.user_id)
    .where(CheckpointHeadRow.session_id == _SESSION)
    .order_by(CheckpointHeadRow.user_id)
    .limit(_LIMIT),
    name="checkpoints.list_owners",
    scope="all",
)
_RUNS = CheckpointRow.run_id == func.any(bindparam("run_ids", type_=ARRAY(Text)))
LIST_OF_RUNS = Statement(
    select(CheckpointRow.user_id, CheckpointRow.session_id).where(_RUNS).distinct(),
    name="checkpoints.list_of_runs",
    scope="all",
)
LIST_OF_RUNS_OF_USER = Statement(
    select(CheckpointRow.user_id, CheckpointRow.session_id).where(_RUNS, CheckpointRow.user_id == _USER).distinct(),
    name="checkpoints.list_of_runs_of_user",
    scope="user",
)
CHAIN = SQL("chain")
WRITES = Statement(
    select(
        CheckpointWriteRow.checkpoint_id,
        CheckpointWriteRow.task_id,
        CheckpointWriteRow.number,
        CheckpointWriteRow.channel,
        CheckpointWriteRow.type,
        CheckpointWriteRow.size,
        CheckpointWriteRow.data,
        CheckpointWriteRow.task_path,
    ).where(
        CheckpointWriteRow.user_id == _USER,
        CheckpointWriteRow.session_id == _SESSION,
        CheckpointWriteRow.namespace == _NAMESPACE,
        CheckpointWriteRow.checkpoint_id == func.any(bindparam("ids", type_=ARRAY(Text))),
        CheckpointWriteRow.channel == func.any(bindparam("channels", type_=ARRAY(Text))),
    ),
    name="checkpoints.writes",
    scope="user",
)
VALUES = Statement(
    select(
        CheckpointValueRow.version,
        CheckpointValueRow.type,
        CheckpointValueRow.size,
        CheckpointValueRow.data,
        CheckpointValueRow.sources,
        CheckpointValueRow.pieces,
    ).where(
        CheckpointValueRow.user_id == _USER,
        CheckpointValueRow.session_id == _SESSION,
        CheckpointValueRow.namespace == _NAMESPACE,
        CheckpointValueRow.channel == bindparam("channel", type_=Text),
        CheckpointValueRow.version == func.any(bindparam("versions", type_=ARRAY(Text))),
    ),
    name="checkpoints.values",
    scope="user",
)
# What deletes checkpoints of the source of a copy waits for the copy.
LOCK_SOURCE = Statement(
    select(CheckpointHeadRow.epoch).where(_THIS).with_for_update(read=True),
    name="checkpoints.lock_source",
    scope="user",
    repeatable=False,
)
LOCK_HEAD = SQL("lock_head")
COPY = SQL("copy")
COPY_TO_USER = SQL("copy_to_user")
# Before values are deleted, in the transaction that deletes them: puts that rely on them wait, and find another epoch.
# It is random: a sequence would repeat an epoch after a failover that lost some.
CHANGE_EPOCH = Statement(
    update(CheckpointHeadRow)
    .where(_THIS)
    .values(epoch=bindparam("new_epoch", type_=BigInteger))
    .returning(CheckpointHeadRow.epoch),
    name="checkpoints.change_epoch",
    scope="user",
    repeatable=False,
)
PRUNE = SQL("prune")
DELETE_RUNS = SQL("delete_runs")
DELETE_UNUSED_VALUES = SQL("delete_unused_values")
DELETE = SQL("delete")
