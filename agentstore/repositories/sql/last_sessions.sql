-- Find, for each of a range of users, the last of the sessions that are retained.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: first_user text, last_user text, keep bigint
-- Rows: user_id, listed_at, updated_at, id; none for a user with fewer than `keep`, of which all are retained
-- Races: none, since it only reads
--
-- Those that have expired are not retained, and do not count.
SELECT u.id AS user_id, kept.listed_at, kept.updated_at, kept.id
FROM {schema}.users AS u
JOIN LATERAL (
    SELECT r.listed_at, r.updated_at, r.id
    FROM {schema}.sessions AS r
    WHERE r.user_id = u.id
        AND (now() - r.updated_at < coalesce(r.ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
    ORDER BY r.listed_at DESC, r.updated_at DESC, r.id DESC
    LIMIT 1 OFFSET :keep - 1
) AS kept ON TRUE
WHERE u.id >= :first_user AND u.id <= :last_user
