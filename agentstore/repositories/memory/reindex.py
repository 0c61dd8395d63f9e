"""Reindexing memories after the analysis of texts has changed: the statements, and the processing of one batch.

Runs online: a batch locks the buckets of some hundred memories for a moment, and skips memories that were changed
meanwhile. It can be interrupted at any time and run again: memories that are up to date are skipped.
"""

import asyncio
from collections import defaultdict
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ClauseElement,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
    tuple_,
)

from agentstore.database.database import Database
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.repositories.memory.rows import analyze_texts
from agentstore.repositories.memory.totals import count_memories
from agentstore.schemas.memory import speaker_and_text, speaker_of
from agentstore.schemas.memory_item import MESSAGE, metadata_of
from agentstore.schemas.message import text_of
from agentstore.schemas.payload import load_readable_messages
from agentstore.schemas.times import local_time
from agentstore.search import analysis
from agentstore.search.labels import labels_of_memory
from agentstore.search.question import name_tokens, question_share
from agentstore.settings import Settings

Key = tuple[str, str, int]
"""The primary key of a memory: `user_id`, `session_id` and `seq`."""

SQL = SqlStatements(__file__)

_MEMORY = tuple_(MemoryRow.user_id, MemoryRow.session_id, MemoryRow.seq)


def _next(*, of_user: bool) -> ClauseElement:
    """Return the memories after a key, in key order, with the payloads of those that have to be reindexed."""
    user = bindparam("user_id" if of_user else "after_user", type_=Text)
    session, seq = bindparam("after_session", type_=Text), bindparam("after_seq", type_=BigInteger)
    is_old = MemoryRow.analysis != bindparam("analysis", type_=Text)
    after = (
        [MemoryRow.user_id == user, tuple_(MemoryRow.session_id, MemoryRow.seq) > tuple_(session, seq)]
        if of_user
        else [tuple_(user, session, seq) < _MEMORY]
    )
    return (
        select(
            *(MemoryRow.user_id, MemoryRow.session_id, MemoryRow.seq, MemoryRow.kind, MemoryRow.tokens),
            *(MemoryRow.time, MemoryRow.valid_from, MemoryRow.namespace),
            # Any change of the row changes it, also one by an older release.
            literal_column("memories.xmin::text").label("version"),
            case((is_old, cast(MemoryRow.payload, Text))).label("payload"),
        )
        .where(*after)
        .order_by(*([MemoryRow.session_id, MemoryRow.seq] if of_user else _MEMORY))
        .limit(bindparam("limit", type_=BigInteger))
    )


NEXT = Statement(partial(_next, of_user=False), name="memory.next", scope="all")
NEXT_OF_USER = Statement(partial(_next, of_user=True), name="memory.next_of_user", scope="user")
WRITE = SQL("reindex")
# The number of memories: an estimate from the statistics of the table, or of one user, from the buckets.
COUNT = Statement(
    text("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(:table)").bindparams(
        bindparam("table", type_=Text)
    ),
    name="memory.count",
    scope="none",
)
COUNT_OF_USER = Statement(
    select(func.coalesce(func.sum(MemoryBucketRow.count), 0)).where(
        MemoryBucketRow.user_id == bindparam("user_id", type_=Text)
    ),
    name="memory.count_of_user",
    scope="user",
)
START: Key = ("", "", -1)


async def estimate_count(database: Database, user_id: str | None) -> int:
    """Estimate the number of memories; of one user it is exact."""
    if user_id is None:
        ((count,),) = await database.fetch(COUNT, table=f'"{database.settings.schema}".memories')
    else:
        ((count,),) = await database.fetch(COUNT_OF_USER, user_id=user_id)
    return int(count)


async def reindex_batch(
    database: Database, user_id: str | None, after: Key, size: int, language: str, settings: Settings
) -> tuple[Key | None, int, int]:
    """Reindex the next `size` memories after a key.

    Returns the key of the last one (None if there are no more), the number of memories read, and the number written.
    """
    fingerprint = analysis.fingerprint(language)
    user, session, seq = after
    rows = await database.fetch(
        NEXT if user_id is None else NEXT_OF_USER,
        **({"after_user": user} if user_id is None else {"user_id": user_id}),
        after_session=session,
        after_seq=seq,
        limit=size,
        analysis=fingerprint,
    )
    if not rows:
        return None, 0, 0
    outdated = [row for row in rows if row["payload"] is not None]
    written = 0
    if outdated:
        values = await asyncio.to_thread(_values, outdated, language, settings)
        # A statement for each user, since Citus cannot lock rows of several; one transaction for all.
        async with database.transaction() as transaction:
            counts = await transaction.fetch_many(WRITE, [{**of_user, "analysis": fingerprint} for of_user in values])
            for of_user, (count,) in zip(values, counts, strict=True):
                await count_memories(transaction.fetch, of_user["user_id"], count)
        written = sum(row[0] for row in counts)
    last = rows[-1]
    return (last["user_id"], last["session_id"], last["seq"]), len(rows), written


def _values(rows: list[Row], language: str, settings: Settings) -> list[dict[str, Any]]:
    """Return the parameters of WRITE for each user who has a memory that can be read."""
    values = [_values_of_user(list(of_user), language, settings) for _, of_user in groupby(rows, itemgetter("user_id"))]
    return [of_user for of_user in values if "new_seq" in of_user]


def _values_of_user(rows: list[Row], language: str, settings: Settings) -> dict[str, Any]:
    values: dict[str, list[Any]] = defaultdict(list)
    messages = load_readable_messages(
        [row["payload"] for row in rows],
        lambda index: ("memories", rows[index]["user_id"], rows[index]["session_id"], rows[index]["seq"]),
    )
    for row, message in zip(rows, messages, strict=True):
        if message is None:
            continue
        is_item = row["kind"] != MESSAGE
        labels = labels_of_memory(row["namespace"], metadata_of(message, is_item=is_item))
        if not is_item:
            source = speaker_and_text(message), local_time((message.metadata or {}).get("timestamp")) or row["time"]
        else:
            source = text_of(message), row["valid_from"]
        values["new_question_share"].append(
            None if is_item else question_share(text_of(message)[: settings.max_indexed])
        )
        values["new_speaker"].append(None if is_item else name_tokens(speaker_of(message), language))
        analyzed = analyze_texts(row["user_id"], [source], [labels], language, settings)
        values["new_before"].append(row["tokens"])
        for name in ("session_id", "seq", "version"):
            values[f"new_{name}"].append(row[name])
        for name, array in (("tokens", "tokens"), ("lexemes", "lexemes"), ("is_cut", "cuts")):
            values[f"new_{name}"].append(analyzed[array][0])
    return {**values, "user_id": rows[0]["user_id"]}
