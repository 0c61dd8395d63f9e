-- Find, for each of a range of users, the last of the heads of states that are retained.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: first_user text, last_user text, keep bigint, without_session boolean
-- Rows: user_id, updated_at, id; none for a user with fewer than `keep`, of which all are retained
-- Races: none, since it only reads
--
-- Those that have expired are not retained, and do not count. `without_session` counts only those whose session does
-- not exist.
SELECT u.id AS user_id, kept.updated_at, kept.session_id AS id
FROM {schema}.users AS u
JOIN LATERAL (
    SELECT r.updated_at, r.session_id
    FROM {schema}.state_heads AS r
    WHERE r.user_id = u.id
        AND (now() - r.updated_at >= {settings.state_ttl}::bigint * interval '1 second') IS NOT TRUE
        AND (
            NOT :without_session
            OR (SELECT count(*) FROM {schema}.sessions AS s WHERE s.user_id = r.user_id AND s.id = r.session_id) = 0
        )
    ORDER BY r.updated_at DESC, r.session_id DESC
    LIMIT 1 OFFSET :keep - 1
) AS kept ON TRUE
WHERE u.id >= :first_user AND u.id <= :last_user
