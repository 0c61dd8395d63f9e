-- Return those of some words that any memory of a user has.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, queries text[], expired text[]
-- Rows: query, of a single word
-- Races: none, since it only reads
--
-- Each query is of several words, joined by |: see WORDS_PER_SCAN. Those that match are split into their words.
WITH owner AS MATERIALIZED (
    -- Joined below, because for EXISTS over a single relation the planner may scan the table instead of the index.
    SELECT :user_id AS id
),
matching AS MATERIALIZED (
    SELECT given.query
    FROM unnest(:queries) AS given (query)
    WHERE
        EXISTS (
            SELECT
            FROM owner
            -- Matched by the lexemes alone, which contain the user's hash: OFFSET 0 keeps the two conditions apart.
            CROSS JOIN (
                SELECT user_id, session_id
                FROM {schema}.memories
                WHERE lexemes @@ given.query::tsquery
                -- citus: AND user_id = :user_id
                OFFSET 0
            ) AS m
            WHERE m.user_id = :user_id AND m.session_id <> ALL((SELECT :expired)::text[])
        )
),
words AS MATERIALIZED (
    SELECT unnest(string_to_array(query, ' | ')) AS query FROM matching
)
SELECT words.query
FROM words
WHERE
    EXISTS (
        SELECT
        FROM owner
        CROSS JOIN (
            SELECT user_id, session_id
            FROM {schema}.memories
            WHERE lexemes @@ words.query::tsquery
            -- citus: AND user_id = :user_id
            OFFSET 0
        ) AS m
        WHERE m.user_id = :user_id AND m.session_id <> ALL((SELECT :expired)::text[])
    )
