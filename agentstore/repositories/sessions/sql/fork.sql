-- Copy a session under a new id, with its messages and state rounds up to a message, and its values.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, state_session text, new_id text, at bigint, at_id text, most bigint,
--   in_steps boolean
-- Rows: the id of the source, the seq of the last message to copy, is_taken, is_large. No row: the source does not
--   exist. A null seq: it has no such message. is_taken: states are stored under the new id, which may have expired,
--   and nothing is copied, so that a fork does not mix its own with them. is_large: seq is over `most`, and nothing is
--   copied; with `in_steps` the messages up to `most` are, and copy_messages.sql copies the others.
-- Races: fails with 23505 if a session has the new id. It reads one snapshot and takes no lock on the source: a
--   concurrent write is copied as a whole or not at all.
--
-- The last message to copy has the id `at_id`, or is the `at`th; the last of all if both are null. `state_session` is
-- the id of the session as the states have it: the bucket "default" for an empty one. The state rounds at a message are
-- those that were saved before the next message was stored: what an agent saves after its answer belongs to the answer.
WITH source AS MATERIALIZED (
    SELECT id, next_seq, removed, title, metadata, ttl, app
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
),
last_message AS MATERIALIZED (
    -- `until` is the timestamp of the next message, or null.
    SELECT
        found.seq,
        (
            SELECT m.created_at FROM {schema}.messages AS m
            WHERE m.user_id = :user_id AND m.session_id = :session_id AND m.seq > found.seq
            ORDER BY m.seq
            LIMIT 1
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
    SELECT 1 FROM {schema}.state_heads
    WHERE user_id = :user_id AND session_id = :new_id AND last_round > 0
        AND (now() - updated_at < {settings.state_ttl}::bigint * interval '1 second') IS NOT FALSE
),
copied AS MATERIALIZED (
    SELECT seq, until
    FROM last_message
    WHERE NOT EXISTS (SELECT FROM taken) AND (:in_steps OR seq <= :most)
),
rounds AS (
    SELECT r.round, r.payload, r.packed, r.metadata, r.size, r.saved_at
    FROM {schema}.state_rounds AS r
    JOIN copied ON copied.until IS NULL OR r.saved_at < copied.until
    WHERE r.user_id = :user_id AND r.session_id = :state_session
        AND EXISTS (
            SELECT FROM {schema}.state_heads
            WHERE user_id = :user_id AND session_id = :state_session
                AND (now() - updated_at < {settings.state_ttl}::bigint * interval '1 second') IS NOT FALSE
        )
),
created_head AS (
    -- What remains of deleted states is a head without rounds. Its numbers are not used again.
    INSERT INTO {schema}.state_heads AS head (user_id, session_id, next_round, last_round)
    SELECT :user_id, :new_id, max(round) + 1, max(round)
    FROM rounds
    HAVING count(*) > 0
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            next_round = greatest(head.next_round, excluded.next_round),
            last_round = excluded.last_round,
            updated_at = excluded.updated_at
        WHERE head.last_round = 0
    RETURNING 1
),
created_rounds AS (
    INSERT INTO {schema}.state_rounds (user_id, session_id, round, payload, packed, metadata, size, saved_at)
    SELECT :user_id, :new_id, round, payload, packed, metadata, size, saved_at
    FROM rounds
    WHERE EXISTS (SELECT FROM created_head)
    RETURNING 1
),
target AS MATERIALIZED (
    -- No row if there are rounds to copy, and a concurrent save has stored others under the new id.
    SELECT seq
    FROM copied
    WHERE EXISTS (SELECT FROM created_head) OR NOT EXISTS (SELECT FROM rounds)
),
created AS (
    INSERT INTO {schema}.sessions (user_id, id, next_seq, removed, title, metadata, forked_from, forked_at, ttl, app)
    SELECT
        :user_id, :new_id, target.seq + 1,
        CASE
            WHEN source.removed = 0 THEN 0
            ELSE target.seq - (
                    SELECT count(*) FROM {schema}.messages AS m
                    WHERE m.user_id = :user_id AND m.session_id = :session_id AND m.seq <= target.seq
                )
        END,
        source.title, source.metadata, source.id, target.seq, source.ttl, source.app
    FROM source
    CROSS JOIN target
    RETURNING 1
),
created_messages AS (
    INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT :user_id, :new_id, m.seq, m.id, m.payload, m.created_at
    FROM {schema}.messages AS m
    JOIN target ON m.seq <= least(target.seq, :most)
    WHERE m.user_id = :user_id AND m.session_id = :session_id
    RETURNING 1
),
created_values AS (
    -- They have no history: these are the present ones, whatever the message.
    INSERT INTO {schema}.session_values (user_id, session_id, key, value)
    SELECT :user_id, :new_id, v.key, v.value
    FROM {schema}.session_values AS v
    CROSS JOIN target
    WHERE v.user_id = :user_id AND v.session_id = :session_id
    RETURNING 1
)
SELECT
    source.id, last_message.seq,
    last_message.seq IS NOT NULL AND (:in_steps OR last_message.seq <= :most) AND (SELECT count(*) FROM target) = 0
        AS is_taken,
    NOT :in_steps AND last_message.seq > :most AS is_large
FROM source
LEFT JOIN last_message ON TRUE
