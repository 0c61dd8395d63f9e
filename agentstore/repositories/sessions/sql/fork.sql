-- Copy a session under a new id, with its messages and state rounds up to a message.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, state_session text, new_id text, at bigint, at_id text
-- Rows: the id of the source, the seq of the last message copied, is_taken. No row: the source does not exist. A null
--   seq: it has no such message. is_taken: states are stored under the new id, and nothing is copied, so that a fork
--   does not mix its own with them.
-- Races: fails with 23505 if a session has the new id. It reads one snapshot and takes no lock on the source: a
--   concurrent write is copied as a whole or not at all.
--
-- The last message to copy has the id `at_id`, or is the `at`th; the last of all if both are null. `state_session` is
-- the id of the session as the states have it: the bucket "default" for an empty one. The state rounds at a message are
-- those that were saved before the next message was stored: what an agent saves after its answer belongs to the answer.
WITH source AS MATERIALIZED (
    SELECT id, next_seq, title, metadata, ttl
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND coalesce(now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second', TRUE)
),
last_message AS MATERIALIZED (
    -- `until` is the timestamp of the next message, or null.
    SELECT
        found.seq,
        (
            SELECT m.created_at FROM {schema}.messages AS m
            WHERE m.user_id = :user_id AND m.session_id = :session_id AND m.seq = found.seq + 1
        ) AS until
    FROM source
    JOIN LATERAL (
        SELECT seq FROM {schema}.messages
        WHERE user_id = :user_id AND session_id = :session_id AND id = :at_id
        UNION ALL
        SELECT coalesce(:at, source.next_seq - 1)
        WHERE :at_id IS NULL AND coalesce(:at, 0) < source.next_seq
    ) AS found ON TRUE
),
taken AS MATERIALIZED (
    SELECT count(*) > 0 AS is_taken
    FROM {schema}.state_heads
    WHERE user_id = :user_id AND session_id = :new_id
        AND coalesce(now() - updated_at < {settings.state_ttl}::bigint * interval '1 second', TRUE)
),
copied AS MATERIALIZED (
    SELECT last_message.seq, last_message.until
    FROM last_message
    CROSS JOIN taken
    WHERE NOT taken.is_taken
),
created AS (
    INSERT INTO {schema}.sessions (user_id, id, next_seq, title, metadata, forked_from, forked_at, ttl)
    SELECT :user_id, :new_id, copied.seq + 1, source.title, source.metadata, source.id, copied.seq, source.ttl
    FROM source
    CROSS JOIN copied
    RETURNING 1
),
created_messages AS (
    INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT :user_id, :new_id, m.seq, m.id, m.payload, m.created_at
    FROM {schema}.messages AS m
    JOIN copied ON m.seq <= copied.seq
    WHERE m.user_id = :user_id AND m.session_id = :session_id
    RETURNING 1
),
rounds AS (
    SELECT r.round, r.payload, r.packed, r.metadata, r.size, r.saved_at
    FROM {schema}.state_rounds AS r
    JOIN copied ON copied.until IS NULL OR r.saved_at < copied.until
    WHERE r.user_id = :user_id AND r.session_id = :state_session
        AND EXISTS (
            SELECT FROM {schema}.state_heads
            WHERE user_id = :user_id AND session_id = :state_session
                AND coalesce(now() - updated_at < {settings.state_ttl}::bigint * interval '1 second', TRUE)
        )
),
created_head AS (
    INSERT INTO {schema}.state_heads (user_id, session_id, next_round, last_round)
    SELECT :user_id, :new_id, max(round) + 1, max(round)
    FROM rounds
    HAVING count(*) > 0
    RETURNING 1
),
created_rounds AS (
    INSERT INTO {schema}.state_rounds (user_id, session_id, round, payload, packed, metadata, size, saved_at)
    SELECT :user_id, :new_id, round, payload, packed, metadata, size, saved_at
    FROM rounds
    RETURNING 1
)
SELECT source.id, last_message.seq, taken.is_taken
FROM source
CROSS JOIN taken
LEFT JOIN last_message ON TRUE
