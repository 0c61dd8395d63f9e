-- Return those of some words that any memory has.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: queries text[]
-- Rows: query, of a single word
-- Races: none, since it only reads
--
-- Each query is of many words, joined by |: see WORDS_PER_SCAN. Those that match are split into their words.
WITH matching AS MATERIALIZED (
    SELECT given.query
    FROM unnest(:queries) AS given (query)
    JOIN LATERAL (
        SELECT 1
        FROM (SELECT 1 FROM {schema}.memories WHERE lexemes @@ given.query::tsquery OFFSET 0) AS m
        -- Computed from a parameter, because for LIMIT 1 the planner would scan the table instead of the index.
        LIMIT (SELECT least(1, cardinality(:queries)))
    ) AS any_word ON TRUE
),
words AS MATERIALIZED (
    SELECT string_to_table(query, ' | ') AS query FROM matching
)
SELECT words.query
FROM words
JOIN LATERAL (
    SELECT 1
    FROM (SELECT 1 FROM {schema}.memories WHERE lexemes @@ words.query::tsquery OFFSET 0) AS m
    LIMIT (SELECT least(1, cardinality(:queries)))
) AS word ON TRUE
