"""The full-text search statements. They rank memories as :mod:`agentstore.search.ranking` defines."""

from agentstore.database.sql import SqlStatements
from agentstore.search import ranking

# The words in one index scan. Each scan also reads the whole pending list of the GIN index, so few scans are better;
# but one scan for very many words takes longer than a scan for each.
WORDS_PER_SCAN = 16

SQL = SqlStatements(__file__, ranking=ranking)

SEARCH = SQL("search")
# Which words a user's memories have, for queries with unknown words.
WORDS = SQL("words")


def combine_queries(queries: list[str]) -> list[str]:
    """Join tsqueries, each a word of letters alone, into as many as fit into one index scan."""
    return [" | ".join(queries[at : at + WORDS_PER_SCAN]) for at in range(0, len(queries), WORDS_PER_SCAN)]
