-- Insert the vectors of memories whose payload is still the one that was embedded.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: users text[], ids text[], vectors text[], digests bytea[], embedder text
-- Rows: one for each vector that was inserted
-- Races: a memory that was changed or deleted meanwhile gets no vector, and one that has a vector retains it.
WITH unchanged AS MATERIALIZED (
    -- The memories are locked against changes until the vectors are inserted, so that the trigger of a later change
    -- sees the vector that it has to delete.
    SELECT m.user_id, m.session_id, m.seq, given.vector
    FROM unnest(:users, :ids, :vectors, :digests) AS given (user_id, id, vector, digest)
    JOIN {schema}.memories AS m ON given.user_id = m.user_id AND given.id = m.id
    WHERE sha256(convert_to(m.payload::text, 'UTF8')) = given.digest
    ORDER BY m.user_id, m.session_id, m.seq
    FOR SHARE OF m
)
INSERT INTO {schema}.memory_vectors (user_id, session_id, seq, embedder, embedding)
SELECT user_id, session_id, seq, :embedder, vector::vector
FROM unchanged
ON CONFLICT DO NOTHING
RETURNING 1
