"""The statement that looks up which words a user's memories have, for queries with unknown words."""

from typing import Any

from sqlalchemy import ARRAY, ClauseElement, Text, bindparam, cast, func, literal, literal_column, select, true
from sqlalchemy.dialects.postgresql import TSQUERY

from agentstore.database.statement import Statement
from agentstore.models import MemoryRow

# The words in one index scan. Each scan also reads the whole pending list of the GIN index, so few scans are better;
# but one scan for very many words takes longer than a scan for each.
WORDS_PER_SCAN = 16
_OR = " | "


def combine_queries(queries: list[str]) -> list[str]:
    """Join tsqueries, each a word of letters alone, into as many as fit into one index scan."""
    return [_OR.join(queries[at : at + WORDS_PER_SCAN]) for at in range(0, len(queries), WORDS_PER_SCAN)]


def _words() -> ClauseElement:
    """Return those of the single queries that match any memory, after scanning for the combined ones."""
    queries = bindparam("queries", type_=ARRAY(Text))
    given = func.unnest(queries).table_valued("query", name="given").render_derived()
    some = select(given.c.query).select_from(given.join(_any(given.c.query, queries, "some_match"), true()))
    matching = some.cte("matching").prefix_with("MATERIALIZED")
    single = select(func.string_to_table(matching.c.query, _OR).label("query")).cte("single")
    single = single.prefix_with("MATERIALIZED")
    return select(single.c.query).select_from(single.join(_any(single.c.query, queries, "each_matches"), true()))


def _any(query: Any, queries: Any, name: str) -> Any:
    """Select one row if a memory matches.

    The limit is computed from a parameter, because for LIMIT 1 the planner would scan the table instead of the index.
    """
    matches = (
        select(literal_column("1").label("matches"))
        .where(MemoryRow.lexemes.bool_op("@@")(cast(query, TSQUERY)))
        .offset(literal_column("0"))
        .correlate_except(MemoryRow)
        .subquery(f"{name}_all")
    )
    one = select(func.least(literal(1), func.cardinality(queries))).scalar_subquery()
    return select(matches.c.matches).limit(one).correlate_except(matches).lateral(name)


WORDS = Statement(_words, scope="all")
