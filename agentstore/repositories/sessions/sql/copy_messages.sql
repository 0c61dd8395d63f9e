-- Copy the messages of a session after a number, up to another, to a fork of it: at most `limit` of them.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, new_id text, after_seq bigint, last_seq bigint, limit bigint
-- Rows: how many messages were copied, and the number of the last one
-- Races: none in the transaction that has created the fork, whose statements see one snapshot
WITH copied AS (
    INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT :user_id, :new_id, m.seq, m.id, m.payload, m.created_at
    FROM {schema}.messages AS m
    WHERE m.user_id = :user_id AND m.session_id = :session_id AND m.seq > :after_seq AND m.seq <= :last_seq
    ORDER BY m.seq
    LIMIT :limit
    RETURNING seq
)
SELECT count(*) AS count, max(seq) AS seq FROM copied
