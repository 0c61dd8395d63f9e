"""What migrations do to a database that is in use: the locks of each statement, what it reads, what it would drop.

Said of a statement before it runs, from its text: a migration of ours is one of the forms that are known here, and
anything else is reported as unknown. The locks are those of Postgres's manual ("Explicit Locking", "ALTER TABLE").
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Work = Literal["none", "scan", "rewrite", "rows", "unknown"]

_NAME = r'(?:"?\w+"?\.)?"?(\w+)"?'
_STRONG = "ACCESS EXCLUSIVE"
_NO_WRITES = ("SHARE", "SHARE ROW EXCLUSIVE", _STRONG)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a statement does to a table that is in use."""

    table: str
    lock: str
    """The mode, as Postgres calls it; empty if the statement is unknown."""
    work: Work
    """"none": only the catalog is changed. "scan" reads the table, "rewrite" writes it anew, "rows" changes rows."""

    @property
    def online(self) -> bool:
        """Whether readers and writers of the table go on, but for the moment in which the lock is taken."""
        return self.work != "unknown" and (self.lock not in _NO_WRITES or self.work == "none")


@dataclass(frozen=True, slots=True)
class Lost:
    """A table, or a column of one, that a downgrade would drop."""

    table: str
    column: str | None


def statements(sql: str) -> list[str]:
    """Return the statements of a script of Alembic's, without those that only frame them."""
    framing = re.compile(
        r"(BEGIN|COMMIT|SET |RESET |CREATE SCHEMA|(CREATE TABLE|INSERT INTO|UPDATE|DELETE FROM) alembic_version)"
    )
    texts = (re.sub(r"(?m)^--.*$", "", part).strip().removesuffix(";") for part in re.split(r";\n\n", sql + "\n\n"))
    return [text for text in texts if text and not framing.match(text)]


def effects(statement: str) -> list[Effect]:
    """Return what a statement does to tables that were there before it."""
    text = " ".join(statement.split())
    for form, rule in _RULES:
        if (matched := form.match(text)) is not None:
            return list(rule(matched, text))
    return [Effect("?", "", "unknown")]


def created(statement: str) -> str | None:
    """Return the table that a statement makes: whatever is done to that before others see it harms nobody."""
    matched = re.match(rf"CREATE TABLE (?:IF NOT EXISTS )?{_NAME}", " ".join(statement.split()))
    return matched[1] if matched else None


def losses(downgrade: Sequence[str]) -> list[Lost]:
    """Return the tables and the columns that statements drop."""
    found = []
    for statement in downgrade:
        text = " ".join(statement.split())
        if matched := re.match(rf"DROP TABLE (?:IF EXISTS )?{_NAME}", text):
            found.append(Lost(matched[1], None))
        elif matched := re.match(rf"ALTER TABLE {_NAME} DROP COLUMN {_NAME}", text):
            found.append(Lost(matched[1], matched[2]))
    return found


_Rule = Callable[[re.Match[str], str], Iterator[Effect]]


def _parents(text: str, work: Work) -> Iterator[Effect]:
    """A foreign key locks what it refers to."""
    for parent in dict.fromkeys(re.findall(rf"REFERENCES {_NAME}", text)):
        yield Effect(parent, "SHARE ROW EXCLUSIVE", work)


def _create_table(_: re.Match[str], text: str) -> Iterator[Effect]:
    yield from _parents(text, "none")


def _alter_table(matched: re.Match[str], text: str) -> Iterator[Effect]:
    table, action = matched[1], matched[2]
    valid: Work = "none" if "NOT VALID" in action or "USING INDEX" in action else "scan"
    if re.match(r"ADD CONSTRAINT \S+ FOREIGN KEY", action):
        yield Effect(table, "SHARE ROW EXCLUSIVE", valid)
        yield from _parents(action, "none")
    elif action.startswith("ADD CONSTRAINT"):
        yield Effect(table, _STRONG, valid)
    elif action.startswith("ADD COLUMN"):
        default = re.search(r"DEFAULT (.*)", action)
        # A value that is one for all rows is kept in the catalog; now() is the transaction's.
        is_one = default is None or "(" not in default[1].replace("now()", "")
        anew = "GENERATED" in action or "SERIAL" in action or not is_one
        yield Effect(table, _STRONG, "rewrite" if anew else "none")
    elif action.startswith("VALIDATE CONSTRAINT"):
        yield Effect(table, "SHARE UPDATE EXCLUSIVE", "scan")
    elif re.match(r"ALTER COLUMN \S+ SET NOT NULL", action):
        yield Effect(table, _STRONG, "scan")
    elif re.match(r"ALTER COLUMN \S+ (SET DATA )?TYPE", action):
        yield Effect(table, _STRONG, "rewrite")
    elif re.match(r"SET \(", action):
        yield Effect(table, "SHARE UPDATE EXCLUSIVE", "none")
    elif re.match(
        r"(DROP (COLUMN|CONSTRAINT)|ALTER COLUMN \S+ (SET (DEFAULT|STORAGE)|DROP (DEFAULT|NOT NULL)))", action
    ):
        yield Effect(table, _STRONG, "none")
    else:
        yield Effect(table, "", "unknown")


def _on_table(lock: str, work: Work) -> _Rule:
    return lambda matched, _: iter([Effect(matched[1], lock, work)])


def _nothing(_: re.Match[str], __: str) -> Iterator[Effect]:
    return iter(())


_RULES: list[tuple[re.Pattern[str], _Rule]] = [
    (re.compile(rf"CREATE TABLE (?:IF NOT EXISTS )?{_NAME}"), _create_table),
    (re.compile(rf"ALTER TABLE (?:ONLY )?{_NAME} (.*)"), _alter_table),
    (
        re.compile(rf"CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?\S+ ON {_NAME}"),
        _on_table("SHARE UPDATE EXCLUSIVE", "scan"),
    ),
    (re.compile(rf"CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?\S+ ON {_NAME}"), _on_table("SHARE", "scan")),
    (re.compile(rf"DROP INDEX CONCURRENTLY (?:IF EXISTS )?{_NAME}"), _on_table("SHARE UPDATE EXCLUSIVE", "none")),
    (re.compile(rf"DROP INDEX (?:IF EXISTS )?{_NAME}"), _on_table(_STRONG, "none")),
    (re.compile(rf"DROP TABLE (?:IF EXISTS )?{_NAME}"), _on_table(_STRONG, "none")),
    (re.compile(rf"CREATE (?:OR REPLACE )?TRIGGER .* ON {_NAME}"), _on_table("SHARE ROW EXCLUSIVE", "none")),
    (re.compile(rf"DROP TRIGGER \S+ ON {_NAME}"), _on_table(_STRONG, "none")),
    (re.compile(rf"(?:UPDATE|INSERT INTO|DELETE FROM) {_NAME}"), _on_table("ROW EXCLUSIVE", "rows")),
    (re.compile(rf"DO .*?(?:UPDATE|INSERT INTO|DELETE FROM) {_NAME}"), _on_table("ROW EXCLUSIVE", "rows")),
    (re.compile(r"(CREATE|DROP) (OR REPLACE )?(FUNCTION|EXTENSION)"), _nothing),
]
