-- Read the values of an application, and those of sessions of several users and of these users in it.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: users text[], sessions text[], app text
-- Rows: as in get_values_of_sessions.sql
-- Races: none, since it only reads
--
-- `users` has the user of each of the `sessions`.
WITH given AS MATERIALIZED (
    SELECT DISTINCT t.user_id, t.session_id FROM unnest(:users, :sessions) AS t (user_id, session_id)
),
owners AS MATERIALIZED (
    SELECT DISTINCT user_id FROM given
)
SELECT
    'app' AS scope, NULL AS user_id, NULL AS session_id, json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
FROM {schema}.app_values AS v
WHERE v.app = :app
HAVING count(*) > 0
UNION ALL
SELECT 'user' AS scope, v.user_id, NULL AS session_id, json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
FROM owners
JOIN {schema}.user_values AS v ON owners.user_id = v.user_id
WHERE v.app = :app
GROUP BY v.user_id
UNION ALL
SELECT 'session' AS scope, s.user_id, s.id AS session_id, of_session.object
FROM given
JOIN {schema}.sessions AS s ON given.user_id = s.user_id AND given.session_id = s.id
CROSS JOIN
    LATERAL (
        SELECT json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
        FROM {schema}.session_values AS v
        WHERE v.user_id = s.user_id AND v.session_id = s.id
        HAVING count(*) > 0
    ) AS of_session
WHERE (now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
