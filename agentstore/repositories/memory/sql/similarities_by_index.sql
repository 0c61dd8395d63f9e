-- Compute the cosine similarity of those memories of a user that are approximately nearest to a query.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, vector text, nearest bigint, excluded text[]
-- Rows: session_id, seq, similarity
-- Races: none, since it only reads
--
-- Uses the HNSW index of the embedder, over the vectors of all users. The embedder's name is a literal, because the
-- index is partial on it.
WITH similarities AS MATERIALIZED (
    SELECT session_id, seq, coalesce(1 - nullif(distance, 'NaN'), 0) AS similarity
    FROM (
        -- OFFSET 0 keeps the condition on the user, which is not in the index, out of the scan.
        SELECT user_id, session_id, seq, embedding::vector({dimensions}) <=> (SELECT :vector::vector) AS distance
        FROM {schema}.memory_vectors
        WHERE embedder = {embedder}
        ORDER BY distance
        OFFSET 0
    ) AS by_index
    WHERE user_id = :user_id AND session_id <> ALL((SELECT :excluded)::text[])
    LIMIT :nearest
)
SELECT session_id, seq, similarity
FROM similarities
