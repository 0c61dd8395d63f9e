"""The effects of a migration's statements on a database in use: locks, work, and data that they would drop.

Each statement is classified by its text, before it runs. The forms that migrations of agentstore use are known here;
any other statement is reported as unknown. The locks are those of the Postgres manual ("Explicit Locking", "ALTER
TABLE").
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Work = Literal["none", "scan", "rewrite", "rows", "unknown"]

_NAME = r'(?:"?\w+"?\.)?"?(\w+)"?'
_STRONG = "ACCESS EXCLUSIVE"
_NO_WRITES = ("SHARE", "SHARE ROW EXCLUSIVE", _STRONG)
# The statements that Alembic and migrations/env.py put around a migration's own.
_FRAMING = re.compile(
    r"(BEGIN|COMMIT|SET |RESET |CREATE SCHEMA|DO \$version\$|"
    r"(CREATE TABLE|INSERT INTO|UPDATE|DELETE FROM) agentstore_version)"
)


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a statement on an existing table."""

    table: str
    lock: str
    """The lock mode, as Postgres calls it; empty if the statement is unknown."""
    work: Work
    """"none": changes only the catalog. "scan": reads the table. "rewrite": writes the whole table again. "rows":
    changes rows."""

    @property
    def online(self) -> bool:
        """Whether reads and writes of the table continue, except for the moment in which the lock is taken."""
        return self.work != "unknown" and (self.lock not in _NO_WRITES or self.work == "none")


@dataclass(frozen=True, slots=True)
class Loss:
    """A table, or a column of a table, that a downgrade would drop."""

    table: str
    column: str | None


def migration_statements(script: str) -> list[str]:
    """Split an Alembic SQL script into statements; leave out comments and the statements around each migration."""
    texts = (re.sub(r"(?m)^--.*$", "", part).strip().removesuffix(";") for part in re.split(r";\n\n", script + "\n\n"))
    return [text for text in texts if text and not _FRAMING.match(text)]


def effects(statement: str) -> list[Effect]:
    """Return the effects of a statement on tables that existed before it."""
    text = " ".join(statement.split())
    for form, rule in _RULES:
        if (matched := form.match(text)) is not None:
            return list(rule(matched, text))
    return [Effect("?", "", "unknown")]


def created_table(statement: str) -> str | None:
    """Return the table that a statement creates. What a migration does to its own tables blocks no other session."""
    matched = re.match(rf"CREATE TABLE (?:IF NOT EXISTS )?{_NAME}", " ".join(statement.split()))
    return matched[1] if matched else None


def losses(statements: Sequence[str]) -> list[Loss]:
    """Return the tables and the columns that a downgrade's statements drop."""
    found = []
    for statement in statements:
        text = " ".join(statement.split())
        if matched := re.match(rf"DROP TABLE (?:IF EXISTS )?{_NAME}", text):
            found.append(Loss(matched[1], None))
        elif matched := re.match(rf"ALTER TABLE {_NAME} DROP COLUMN {_NAME}", text):
            found.append(Loss(matched[1], matched[2]))
    return found


_Rule = Callable[[re.Match[str], str], Iterator[Effect]]


def _referenced_tables(text: str) -> Iterator[Effect]:
    """Yield the locks on the tables that a new foreign key references."""
    for table in dict.fromkeys(re.findall(rf"REFERENCES {_NAME}", text)):
        yield Effect(table, "SHARE ROW EXCLUSIVE", "none")


def _create_table(_: re.Match[str], text: str) -> Iterator[Effect]:
    yield from _referenced_tables(text)


def _alter_table(matched: re.Match[str], text: str) -> Iterator[Effect]:
    table, action = matched[1], matched[2]
    validation: Work = "none" if "NOT VALID" in action or "USING INDEX" in action else "scan"
    if re.match(r"ADD CONSTRAINT \S+ FOREIGN KEY", action):
        yield Effect(table, "SHARE ROW EXCLUSIVE", validation)
        yield from _referenced_tables(action)
    elif action.startswith("ADD CONSTRAINT"):
        yield Effect(table, _STRONG, validation)
    elif action.startswith("ADD COLUMN"):
        default = re.search(r"DEFAULT (.*)", action)
        # A default that is the same for all rows is stored in the catalog; now() is constant within a transaction.
        is_constant = default is None or "(" not in default[1].replace("now()", "")
        is_rewrite = "GENERATED" in action or "SERIAL" in action or not is_constant
        yield Effect(table, _STRONG, "rewrite" if is_rewrite else "none")
    elif action.startswith("VALIDATE CONSTRAINT"):
        yield Effect(table, "SHARE UPDATE EXCLUSIVE", "scan")
    elif re.match(r"ALTER COLUMN \S+ SET NOT NULL", action):
        yield Effect(table, _STRONG, "scan")
    elif re.match(r"ALTER COLUMN \S+ (SET DATA )?TYPE", action):
        yield Effect(table, _STRONG, "rewrite")
    elif re.match(r"(RE)?SET \(", action):
        yield Effect(table, "SHARE UPDATE EXCLUSIVE", "none")
    elif re.match(
        r"(DROP (COLUMN|CONSTRAINT)|ALTER COLUMN \S+ (SET (DEFAULT|STORAGE)|DROP (DEFAULT|NOT NULL)))", action
    ):
        yield Effect(table, _STRONG, "none")
    else:
        yield Effect(table, "", "unknown")


def _on_table(lock: str, work: Work) -> _Rule:
    return lambda matched, _: iter([Effect(matched[1], lock, work)])


def _on_no_table(_: re.Match[str], __: str) -> Iterator[Effect]:
    return iter(())


_RULES: list[tuple[re.Pattern[str], _Rule]] = [
    (re.compile(rf"CREATE TABLE (?:IF NOT EXISTS )?{_NAME}"), _create_table),
    (re.compile(rf"ALTER TABLE (?:ONLY )?{_NAME} (.*)"), _alter_table),
    (
        re.compile(rf"CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?\S+ ON {_NAME}"),
        _on_table("SHARE UPDATE EXCLUSIVE", "scan"),
    ),
    (re.compile(rf"CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?\S+ ON {_NAME}"), _on_table("SHARE", "scan")),
    (re.compile(rf"REINDEX INDEX CONCURRENTLY {_NAME}"), _on_table("SHARE UPDATE EXCLUSIVE", "scan")),
    (re.compile(rf"ALTER INDEX {_NAME} (RE)?SET \("), _on_table(_STRONG, "none")),
    (re.compile(rf"SELECT gin_clean_pending_list\('{_NAME}'\)"), _on_no_table),
    (re.compile(rf"DROP INDEX CONCURRENTLY (?:IF EXISTS )?{_NAME}"), _on_table("SHARE UPDATE EXCLUSIVE", "none")),
    (re.compile(rf"DROP INDEX (?:IF EXISTS )?{_NAME}"), _on_table(_STRONG, "none")),
    (re.compile(rf"DROP TABLE (?:IF EXISTS )?{_NAME}"), _on_table(_STRONG, "none")),
    (re.compile(rf"CREATE (?:OR REPLACE )?TRIGGER .* ON {_NAME}"), _on_table("SHARE ROW EXCLUSIVE", "none")),
    (re.compile(rf"DROP TRIGGER \S+ ON {_NAME}"), _on_table(_STRONG, "none")),
    (re.compile(rf"(?:UPDATE|INSERT INTO|DELETE FROM) {_NAME}"), _on_table("ROW EXCLUSIVE", "rows")),
    (re.compile(rf"DO .*?(?:UPDATE|INSERT INTO|DELETE FROM) {_NAME}"), _on_table("ROW EXCLUSIVE", "rows")),
    (re.compile(r"(CREATE|DROP) (OR REPLACE )?(FUNCTION|EXTENSION)"), _on_no_table),
]
