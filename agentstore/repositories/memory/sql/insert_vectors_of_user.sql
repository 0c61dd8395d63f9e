-- Insert the vectors of those memories of a user whose payload is still the one that was embedded.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, ids text[], vectors text[], digests bytea[], embedder text
-- Rows: one for each vector that was inserted
-- Races: a memory that was changed or deleted meanwhile gets no vector, and one that has a vector retains it.
WITH unchanged AS MATERIALIZED (
    -- The memories are locked against changes until the vectors are inserted, so that the trigger of a later change
    -- sees the vector that it has to delete.
    SELECT m.session_id, m.seq, given.vector
    FROM unnest(:ids, :vectors, :digests) AS given (id, vector, digest)
    JOIN {schema}.memories AS m ON given.id = m.id
    WHERE m.user_id = :user_id AND sha256(convert_to(m.payload::text, 'UTF8')) = given.digest
    ORDER BY m.session_id, m.seq
    FOR SHARE OF m
)
INSERT INTO {schema}.memory_vectors (user_id, session_id, seq, embedder, embedding)
SELECT :user_id, session_id, seq, :embedder, vector::vector
FROM unchanged
ON CONFLICT DO NOTHING
RETURNING 1
