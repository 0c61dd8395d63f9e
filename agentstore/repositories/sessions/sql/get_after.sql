-- Read the messages of a session after a position: as many as fit in one batch of an iterator.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, after_seq bigint, limit bigint
-- Rows: seq, payload, place, by seq: at most `limit`, and only as many as have about 8 MB together, but at least
--   one
-- Races: none, since it only reads
WITH following AS (
    SELECT seq, created_at, payload
    FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND seq > :after_seq
        AND EXISTS (
            SELECT FROM {schema}.sessions AS s
            WHERE s.user_id = :user_id AND s.id = :session_id
                AND (
                    now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second'
                ) IS NOT FALSE
        )
    ORDER BY seq
    LIMIT :limit
),
sized AS (
    -- The size as stored, so that a payload that is stored out of line (TOAST) is not fetched for it.
    SELECT
        seq, created_at, payload,
        sum(pg_column_size(payload)) OVER (ORDER BY seq) - pg_column_size(payload) AS bytes_before
    FROM following
)
SELECT seq, json_send(payload) AS payload, int8send(seq) || timestamptz_send(created_at) AS place
FROM sized
WHERE bytes_before < 8000000
ORDER BY seq
