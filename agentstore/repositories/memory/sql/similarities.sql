-- Compute the cosine similarity of each memory of a user to a query.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, embedder text, vector text, wanted_sessions text[],
--   excluded text[]
-- Rows: session_id, seq, similarity
-- Races: none, since it only reads
--
-- Compares all vectors of the user, in a range of the primary key: an index over the vectors of all users would return
-- few of one user's.
WITH similarities AS MATERIALIZED (
    -- In a subquery, so that a generic plan parses the vector once, and not for each row. The distance to a vector of
    -- zeros is NaN.
    SELECT session_id, seq, coalesce(1 - nullif(embedding <=> (SELECT :vector::vector), 'NaN'), 0) AS similarity
    FROM {schema}.memory_vectors
    WHERE user_id = :user_id
        AND embedder = :embedder
        AND session_id <> ALL((SELECT :excluded)::text[])
        AND (:wanted_sessions IS NULL OR session_id = ANY(:wanted_sessions))
)
SELECT session_id, seq, similarity
FROM similarities
