"""Which words a user's memories hold: asked when a question has one that they do not."""

from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, cast, func, literal, literal_column, select, true
from sqlalchemy.dialects.postgresql import TSQUERY

from agentstore.database.statement import Statement
from agentstore.models import MemoryRow

# Words of one look into the index. What it has not sorted in yet is read through by each look, so there are few, but
# a look for many words at once takes longer than one for each.
TOGETHER = 16
_OR = " | "


def alternatives(queries: list[str]) -> list[str]:
    """Return the queries, of words of letters alone, as many together as are looked for at once."""
    return [_OR.join(queries[at : at + TOGETHER]) for at in range(0, len(queries), TOGETHER)]


def _words() -> Statement:
    """Return those of the queries that any memory fits, first looking for many of them at once."""
    queries = bindparam("queries", type_=ARRAY(Text))
    given = func.unnest(queries).table_valued("query", name="given").render_derived()
    some = select(given.c.query).select_from(given.join(_any(given.c.query, queries, "some_fit"), true()))
    fitting = some.cte("fitting").prefix_with("MATERIALIZED")
    apart = select(func.string_to_table(fitting.c.query, _OR).label("query")).cte("apart").prefix_with("MATERIALIZED")
    return Statement(select(apart.c.query).select_from(apart.join(_any(apart.c.query, queries, "each_fits"), true())))


def _any(query: Any, queries: Any, name: str) -> Any:
    """One row if a memory fits. The planner is not told that one is enough, or it would read the table for it."""
    fits = (
        select(literal_column("1").label("fits"))
        .where(MemoryRow.lexemes.bool_op("@@")(cast(query, TSQUERY)))
        .offset(literal_column("0"))
        .correlate_except(MemoryRow)
        .subquery(f"{name}_all")
    )
    one = select(func.least(literal(1), func.cardinality(queries))).scalar_subquery()
    return select(fits.c.fits).limit(one).correlate_except(fits).lateral(name)


WORDS = _words()
