-- Return the memories of some sessions of a user from the offset on, by session and position.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, wanted_sessions text[], excluded text[], after_session text, after bigint, offset bigint,
--   limit bigint
-- Rows: session_id, seq, payload, kind, valid_until, namespace, time
-- Races: none, since it only reads
--
-- They are those of `wanted_sessions`, or of all sessions if that is null, without those of `excluded`, after the
-- position `after` of the session `after_session`.
WITH parts AS MATERIALIZED (
    -- The parts of the page, each of one session, are computed from the counts of the buckets, so no memory outside of
    -- these is read.
    SELECT session_id, skipped + greatest(:offset - before, 0) AS after_seq
    FROM (
        SELECT session_id, skipped, remaining, (sum(remaining) OVER preceding - remaining)::bigint AS before
        FROM (
            -- Each has a memory at least.
            SELECT session_id, skipped, count - skipped AS remaining
            FROM {schema}.memory_buckets
            JOIN LATERAL (
                SELECT CASE WHEN session_id = :after_session THEN :after ELSE 0 END AS skipped
            ) AS done ON TRUE
            WHERE user_id = :user_id
                AND session_id >= :after_session
                AND count > skipped
                AND session_id <> ALL((SELECT :excluded)::text[])
                AND ((SELECT :wanted_sessions) IS NULL OR session_id = ANY((SELECT :wanted_sessions)::text[]))
            ORDER BY session_id
            LIMIT :offset + :limit
        ) AS counted
        WINDOW preceding AS (ORDER BY session_id ROWS UNBOUNDED PRECEDING)
    ) AS summed
    WHERE before + remaining > :offset AND before < :offset + :limit
    ORDER BY session_id
    LIMIT :limit
)
SELECT parts.session_id, m.seq, m.payload, m.kind, m.valid_until, m.namespace, m.time
FROM parts
JOIN LATERAL (
    SELECT seq, payload::text AS payload, kind, valid_until, namespace, time
    FROM {schema}.memories
    WHERE user_id = :user_id AND session_id = parts.session_id AND seq > parts.after_seq
    ORDER BY seq
    LIMIT :limit
) AS m ON TRUE
ORDER BY parts.session_id, m.seq
LIMIT :limit
