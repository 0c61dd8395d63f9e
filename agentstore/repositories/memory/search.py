"""Full-text search: its statements, which rank memories as :mod:`agentstore.search.ranking` defines, and their use."""

from collections.abc import Mapping
from itertools import filterfalse
from typing import Any

from agentstore.database.database import Database
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row
from agentstore.schemas.page import Advice
from agentstore.search import analysis, ranking, spelling

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


def query_values(values: Mapping[str, Any], question: ranking.Question) -> dict[str, Any]:
    """Return the parameters of a search for a question, among memories with the labels of `values`."""
    return {
        "queries": ranking.queries(values["user_id"], question.tokens, values["labels"]),
        "weights": list(question.tokens.values()),
        "words": list(question.tokens),
        "other_speaker": question.other_speaker,
        "coverage": question.coverage,
    }


async def search_by_words(
    database: Database, text: str, question: ranking.Question, values: dict[str, Any], *, language: str
) -> tuple[list[Row], Mapping[str, float]]:
    """Return the matching rows, and the tokens searched for: with replacements for those that no memory has.

    `question` is the question of the query `text`, and `values` are the parameters of the filters.
    """
    tokens = question.tokens
    if not tokens:
        return [], tokens

    async def search(tokens: Mapping[str, float]) -> list[Row]:
        given = query_values(values, question._replace(tokens=tokens))
        return await database.fetch_page(SEARCH, Advice.SMALLER_TOP_K, **values, **given)

    user_id = values["user_id"]
    rows = await search(tokens)
    known, selective = (
        {token for position, token in enumerate(tokens, 1) if rows and position in (rows[0][column] or ())}
        for column in ("known", "selective")
    )
    if len(known) < len(tokens) and (
        unknown := spelling.unknown_tokens(analysis.words(text, language), known, selective)
    ):
        existing = await _existing_words(database, user_id, spelling.all_spellings(unknown), values["expired"])
        tokens = {**tokens, **spelling.replacements(unknown, existing)}
        rows = await search(tokens)
    if not rows and (prefixes := ranking.prefixes(filterfalse(analysis.is_function_word, tokens))):
        tokens = prefixes
        rows = await search(tokens)
    return rows, tokens


async def _existing_words(database: Database, user_id: str, words: list[str], expired: list[str]) -> set[str]:
    """Return those of the words that any memory of the user has, besides those of `expired` sessions."""
    if not words:
        return set()
    word_of = dict(zip(ranking.queries(user_id, words), words, strict=True))
    rows = await database.fetch(WORDS, user_id=user_id, queries=combine_queries(list(word_of)), expired=expired)
    return {word_of[row[0]] for row in rows}
