-- Find sessions of a range of users that have expired, or were written before a time: a page of their keys.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, from_user text, from_session text, limit bigint
-- Rows: user_id, id, rows (the number of its messages, memories and states, about), listed_at, updated_at (by which
--   they are ranked), has_expired; by user and id
-- Races: none, since it only reads
SELECT
    s.user_id, s.id,
    s.next_seq - 1
    + coalesce(
        (SELECT b.count FROM {schema}.memory_buckets AS b WHERE b.user_id = s.user_id AND b.session_id = s.id), 0
    )
    -- The number of a round may be any, and the sum must not overflow.
    + coalesce(
        (
            SELECT least(h.last_round, 1000000)
            FROM {schema}.state_heads AS h
            WHERE h.user_id = s.user_id AND h.session_id = s.id
        ), 0
    ) AS rows,
    s.listed_at, s.updated_at,
    (
        now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second'
    ) IS FALSE AS has_expired
FROM {schema}.sessions AS s
WHERE s.user_id <= :last_user AND (s.user_id, s.id) >= (:from_user, :from_session)
    AND (
        s.updated_at < :before
        OR (now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second') IS FALSE
    )
ORDER BY s.user_id, s.id
LIMIT :limit
