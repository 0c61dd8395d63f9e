"""Restore of an export to a store without a database, by the rules of a restore to a database."""

import json
import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, DateTime, Double, LargeBinary

from agentstore.errors import Conflict
from agentstore.inmemory.blobs import StoredVersion
from agentstore.inmemory.extraction import Job
from agentstore.inmemory.states import StoredHead, StoredRound
from agentstore.inmemory.stored_memory import StoredMemory, stored_item, stored_message
from agentstore.inmemory.stored_session import StoredSession
from agentstore.inmemory.users import StoredUser
from agentstore.repositories.transfer import APP_VALUES, TABLES, UNITS, VECTORS, compared_columns
from agentstore.schemas.memory_item import MESSAGE
from agentstore.schemas.payload import load_messages
from agentstore.transfer.in_memory import InMemorySource, Row
from agentstore.transfer.in_memory_checkpoints import comparable_rows, stored_checkpoints
from agentstore.transfer.lines import Block
from agentstore.transfer.restorer import Left
from agentstore.transfer.rows import RowReader

_Rows = dict[str, list[Row]]
_UnitKey = tuple[str, str]
_ESCAPED = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"\\": b"\\"}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)  # an element of an array
_SESSION = ("title", "metadata", "created_at", "updated_at", "next_seq", "forked_from", "forked_at", "ttl", "app")
_JOB = ("first_seq", "last_seq", "is_open", "attempts", "outages", "failed_at", "error", "created_at")
# What a row has in a column that the release which exported it did not have.
_DEFAULTS: Row = {
    "metadata": "{}", "next_seq": 1, "next_round": 1, "removed": 0, "kind": MESSAGE, "is_open": True, "attempts": 0,
    "outages": 0,
}  # fmt: skip


class InMemoryTarget:
    """The services of a store in memory. See :class:`agentstore.transfer.restorer.Target`.

    A block is read and checked as for a database, then stored without an interruption. Texts are analyzed again. Of the
    vectors, those of the store's embedder are restored.
    """

    def __init__(self, source: InMemorySource) -> None:
        """Restore to the services that `source` reads."""
        self.settings = source.settings
        self._source = source
        self._users, self._sessions = source.users, source.sessions
        self._memory, self._states = source.memory, source.states

    async def has_vectors(self) -> bool:
        """Return true: vectors need no extension."""
        return True

    def loading(self) -> AbstractAsyncContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def limit_concurrency(self, wanted: int) -> int:
        """Return 1: blocks are restored one after another."""
        return 1

    async def restore(
        self, block: Block, tables: list[str], read: Callable[[], RowReader]
    ) -> tuple[dict[str, int], Left]:
        """Restore a block."""
        reader = read()
        rows: _Rows = {name: [] for name in TABLES}
        for name, columns in reader.tables():
            async for text in reader.rows(name, columns):
                for row in text[:-1].split(b"\n"):
                    try:
                        rows[name].append(_parse(name, columns, row))
                    except ValueError as error:
                        raise reader.refused(error, len(rows[name]) + 1) from error
        if not _is_consistent(rows):
            raise Conflict(
                f"could not restore the users up to {block.last_user!r}: the file has a row twice, or lacks the "
                "row that another one belongs to"
            )
        return self._merge(rows)

    def _merge(self, rows: _Rows) -> tuple[dict[str, int], Left]:
        """Store what is missing; return how many rows of each table, and what is different in the store."""
        done = {name: 0 for name, of_table in rows.items() if of_table}
        left: Left = []
        for row in rows["users"]:
            user = row["id"]
            stored = self._users._users.get(user)
            if stored is None or (stored.metadata == "{}" and row["metadata"] != "{}"):
                created_at = row["created_at"] if stored is None else stored.created_at
                self._users._users[user] = StoredUser(row["metadata"], created_at)
                done["users"] += 1
            elif stored.metadata != row["metadata"]:
                left.append(("users", user, ""))
        left += self._merge_values(rows, done)
        left += self._merge_blobs(rows, done)
        existing = _Existing(self._source)
        for unit, (key_column, parts) in UNITS.items():
            of_parts = {part: _by_key(rows[part], "session_id") for part in parts}
            for key, of_unit in _by_key(rows[unit], key_column).items():
                given = {unit: of_unit} | {part: of_parts[part].get(key, []) for part in parts}
                if self._make_room(unit, key, of_unit[0]):
                    for table, count in self._insert(unit, key, given).items():
                        done[table] += count
                    continue
                done_vectors = self._add_vectors(key, given) if unit == "memory_buckets" else 0
                if VECTORS in done:
                    done[VECTORS] += done_vectors
                if not self._has_expired(unit, key) and not existing.has_all(key[0], given):
                    left.append((unit, *key))
        return done, left

    def _merge_values(self, rows: _Rows, done: dict[str, int]) -> Left:
        """Store the values of applications and users that are missing, and count them; return what is different."""
        left: Left = []
        states = self._states
        for row in (*rows[APP_VALUES], *rows["user_values"]):
            table = "user_values" if "user_id" in row else APP_VALUES
            stored = (
                states._app_values.setdefault(row["app"], {})
                if table == APP_VALUES
                else states._user_values.setdefault((row["user_id"], row["app"]), {})
            )
            if row["key"] not in stored:
                stored[row["key"]] = row["value"]
                done[table] += 1
            elif stored[row["key"]] != row["value"]:
                left.append((table, row["app"] if table == APP_VALUES else row["user_id"], row["key"]))
        return left

    def _merge_blobs(self, rows: _Rows, done: dict[str, int]) -> Left:
        """Store the versions of blobs that are missing, and count them; return those that are different."""
        left: Left = []
        blobs = self._source.blobs
        chunks: dict[tuple[str, bytes], list[bytes]] = {}
        for row in sorted(rows["blob_chunks"], key=lambda row: row["number"]):
            chunks.setdefault((row["user_id"], row["hash"]), []).append(row["data"])
        existing = {(blob.user_id, stored.hash) for blob, stored in blobs._versions_of()}
        for row in rows["blobs"]:
            content = row["user_id"], row["hash"]
            about = {name: row[name] for name in ("hash", "content_type", "filename", "metadata", "saved_at")}
            given = StoredVersion(b"".join(chunks.get(content, ())), **about)
            key = row["user_id"], row["session_id"], row["app"]
            versions = blobs._blobs.setdefault(key, {}).setdefault(row["name"], {})
            stored = versions.setdefault(row["version"], given)
            if stored is given:
                done["blobs"] += 1
                if content not in existing and content in chunks:
                    done["blob_chunks"] += len(chunks[content])
                existing.add(content)
            elif stored != given:
                left.append(("blobs", row["user_id"], row["name"]))
        return left

    def _make_room(self, unit: str, key: _UnitKey, row: Row) -> bool:
        """Return whether a unit does not exist; delete one that has expired, unless the given one has, too."""
        if not self._exists(unit, key):
            return True
        if not self._has_expired(unit, key) or self._is_expired(unit, row.get("updated_at"), row.get("ttl")):
            return False
        if unit == "sessions":
            del self._sessions._users[key[0]][key[1]]
        elif unit == "memory_buckets":
            self._memory._drop(*key)
        else:
            del self._states._heads[key]
        return True

    def _exists(self, unit: str, key: _UnitKey) -> bool:
        if unit == "sessions":
            return key[1] in self._sessions._users.get(key[0], {})
        if unit == "memory_buckets":
            return key[1] in self._memory._users.get(key[0], {})
        if unit == "state_heads":
            return key in self._states._heads
        if unit == "checkpoint_heads":
            return key in self._source.checkpoints._sessions
        return any(each[:2] == key for each in self._source.workspaces)

    def _has_expired(self, unit: str, key: _UnitKey) -> bool:
        """Return whether an existing unit has expired."""
        if unit == "sessions":
            session = self._sessions._users[key[0]][key[1]]
            return self._is_expired(unit, session.updated_at, session.ttl)
        if unit == "memory_buckets":
            return self._is_expired(unit, self._memory._updated_at[key], None)
        return unit == "state_heads" and self._is_expired(unit, self._states._heads[key].updated_at, None)

    def _is_expired(self, unit: str, updated_at: datetime | None, ttl: int | None) -> bool:
        settings = self.settings
        of_unit = {"sessions": settings.session_ttl, "memory_buckets": settings.memory_ttl}
        seconds = ttl or of_unit.get(unit, settings.state_ttl)
        return (
            updated_at is not None
            and seconds is not None
            and ((datetime.now(UTC) - updated_at).total_seconds() >= seconds)
        )

    def _insert(self, unit: str, key: _UnitKey, rows: _Rows) -> dict[str, int]:
        """Insert a unit with its parts; return the number of rows by table."""
        counts = {name: len(of_table) for name, of_table in rows.items() if of_table}
        row = rows[unit][0]
        if unit == "sessions":
            fields: dict[str, Any] = {name: row[name] for name in _SESSION}
            self._sessions._users.setdefault(key[0], {})[key[1]] = StoredSession(
                **fields,
                messages={each["id"]: each["payload"] for each in rows["messages"]},
                places={each["id"]: (each["seq"], each["created_at"]) for each in rows["messages"]},
                values={each["key"]: each["value"] for each in rows["session_values"]},
            )
        elif unit == "memory_buckets":
            self._memory._users.setdefault(key[0], {})[key[1]] = {
                each["id"]: self._stored_memory(each) for each in rows["memories"]
            }
            self._memory._updated_at[key] = row["updated_at"]
            if jobs := [Job(**{name: each[name] for name in _JOB}) for each in rows["memory_extractions"]]:
                self._memory._extraction.jobs[key] = jobs
            counts |= {VECTORS: self._add_vectors(key, rows)} if rows.get(VECTORS) else {}
        elif unit == "state_heads":
            rounds = {
                each["round"]: StoredRound(each["payload"], each["metadata"], each["saved_at"])
                for each in rows["state_rounds"]
            }
            self._states._heads[key] = StoredHead(row["next_round"], rounds, row["updated_at"])
        elif unit == "checkpoint_heads":
            self._source.checkpoints._sessions[key] = stored_checkpoints(row, rows)
        else:
            data = _archives(rows["workspace_chunks"])
            for each in rows[unit]:
                id = (*key, each["type"])
                self._source.workspaces[id] = data.get(id, b""), each["saved_at"]
        return counts

    def _stored_memory(self, row: Row) -> StoredMemory:
        key, payload, time = (row["session_id"], row["seq"]), row["payload"], row["time"]
        if row["kind"] == MESSAGE:
            (message,) = load_messages([payload])
            stored = stored_message(message, payload, key, row["namespace"], time, self.settings)
        else:
            stored = stored_item(payload, key, row["namespace"], row["valid_until"], time, self.settings)
        stored.time = time
        return stored

    def _add_vectors(self, key: _UnitKey, rows: _Rows) -> int:
        """Add the vectors of the store's embedder that equal memories lack; return their number."""
        embedder = self._memory._embedder
        stored = list(self._memory._users[key[0]][key[1]].values())
        given = {row["seq"]: row["payload"] for row in rows["memories"]}
        count = 0
        for row in rows.get(VECTORS, ()):
            number = row["seq"] - 1
            if embedder is None or row["embedder"] != embedder.name or number >= len(stored):
                continue
            memory = stored[number]
            if memory.vector is None and memory.payload == given.get(row["seq"]):
                memory.vector = row["embedding"]
                count += 1
        return count


class _Existing:
    """The rows that the store had before a block, as a merge compares them."""

    def __init__(self, source: InMemorySource) -> None:
        self._source = source
        self._of_users: dict[str, dict[str, dict[tuple[Any, ...], Row]]] = {}

    def has_all(self, user: str, given: _Rows) -> bool:
        """Return whether the store has all of these rows of a user."""
        of_user = self._of_users.setdefault(user, {})
        for table, rows in given.items():
            if not compared_columns(table) or not rows:
                continue
            if table not in of_user:
                of_user[table] = {
                    _key(table, row): row for row in _comparable(table, [*self._source.read(table, user)])
                }
            for row in _comparable(table, rows):
                stored = of_user[table].get(_key(table, row))
                if stored is None or any(stored[name] != row[name] for name in compared_columns(table)):
                    return False
        return True


def _comparable(table: str, rows: list[Row]) -> list[Row]:
    """Return rows whose values can be compared: states unpacked, and archives as a whole, however they are divided."""
    if table == "workspaces":
        return []  # their archives are compared
    if table == "state_rounds":
        return [_unpacked(row) for row in rows]
    if table in ("checkpoints", "checkpoint_values", "checkpoint_writes"):
        return comparable_rows(table, rows)
    if table != "workspace_chunks":
        return rows
    names = ("user_id", "session_id", "type")
    return [{**dict(zip(names, key, strict=True)), "number": 1, "data": data} for key, data in _archives(rows).items()]


def _archives(chunks: Sequence[Row]) -> dict[tuple[str, str, str], bytes]:
    """Return the archives of workspaces, from their chunks in order."""
    found: dict[tuple[str, str, str], bytes] = {}
    for row in chunks:
        key = row["user_id"], row["session_id"], row["type"]
        data = row["data"]
        found[key] = found.get(key, b"") + (bytes.fromhex(data[2:]) if isinstance(data, str) else data)
    return found


def _key(table: str, row: Row) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in TABLES[table].primary_key.columns)


def _by_key(rows: Sequence[Row], column: str) -> dict[_UnitKey, list[Row]]:
    found: dict[_UnitKey, list[Row]] = {}
    for row in rows:
        found.setdefault((row["user_id"], row[column]), []).append(row)
    return found


def _is_consistent(rows: Mapping[str, Sequence[Row]]) -> bool:
    """Return whether no row is there twice, and each part of a unit, and each vector, has what it belongs to."""
    for table, of_table in rows.items():
        keys = [_key(table, row) for row in of_table]
        ids = [(row["user_id"], row["session_id"], row["id"]) for row in of_table if table in ("messages", "memories")]
        open_jobs = [key[:2] for key, row in zip(keys, of_table, strict=True) if row.get("is_open")]
        if any(len(set(each)) < len(each) for each in (keys, ids, open_jobs)):
            return False
    for unit, (column, parts) in UNITS.items():
        owners = _by_key(rows[unit], column)
        if any(not _by_key(rows[part], "session_id").keys() <= owners.keys() for part in parts):
            return False
    memories = {_key("memories", row) for row in rows["memories"]}
    return all(_key(VECTORS, row)[:3] in memories for row in rows[VECTORS])


def _parse(table: str, columns: Sequence[str], row: bytes) -> Row:
    """Return a row that is in the text format of COPY.

    Raises:
        ValueError: Postgres would refuse a value, too.
    """
    fields = row.split(b"\t")
    values = {name: _value(TABLES[table].c[name], text) for name, text in zip(columns, fields, strict=True)}
    if table == "state_rounds":
        values = _unpacked(values)
    return {**{column.name: _default(column) for column in TABLES[table].c}, **values}


def _default(column: Column[Any]) -> Any:
    if isinstance(column.type, DateTime) and not column.nullable:
        return datetime.now(UTC)
    return _DEFAULTS.get(column.name)


def _unpacked(row: Row) -> Row:
    """Return the row of a state with its JSON as text."""
    packed = row.get("packed")
    if packed is None:
        return row
    import zstandard

    frame = bytes.fromhex(packed[2:]) if isinstance(packed, str) else packed
    return {**row, "payload": zstandard.ZstdDecompressor().decompress(frame).decode(), "packed": None}


def _value(column: Column[Any], text: bytes) -> Any:
    if text == rb"\N":
        return None
    if b"\\" in text:
        text = re.sub(rb"\\(.)", lambda found: _ESCAPED[found[1]], text, flags=re.DOTALL)
    kind = column.type
    if isinstance(kind, BigInteger):
        return int(text)
    if isinstance(kind, Boolean):
        return text in (b"t", b"true")
    if isinstance(kind, Double):
        return float(text)
    value = text.decode()
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(value).astimezone(UTC)
    if isinstance(kind, LargeBinary):
        return bytes.fromhex(value.removeprefix("\\x"))
    if isinstance(kind, ARRAY):
        return [re.sub(r"\\(.)", r"\1", each, flags=re.DOTALL) for each in _QUOTED.findall(value)]
    return _vector(value) if column.table.name == VECTORS and column.name == "embedding" else value


def _vector(text: str) -> "array[float]":
    numbers = json.loads(text)
    if not isinstance(numbers, list) or not all(type(each) in (int, float) for each in numbers):
        raise ValueError("it is not a vector")
    return array("f", numbers)
