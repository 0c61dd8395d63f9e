-- Read the values of an application, of a user in it, and of some of the user's sessions.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_ids text[], app text
-- Rows: scope, user_id, session_id (each null where the scope has none), the values as one JSON object, by key; none
--   for what has no values, and for a session that does not exist
-- Races: none, since it only reads
SELECT
    'app' AS scope, NULL AS user_id, NULL AS session_id, json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
FROM {schema}.app_values AS v
WHERE v.app = :app
HAVING count(*) > 0
UNION ALL
SELECT 'user' AS scope, v.user_id, NULL AS session_id, json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
FROM {schema}.user_values AS v
WHERE v.user_id = :user_id AND v.app = :app
GROUP BY v.user_id
UNION ALL
SELECT 'session' AS scope, s.user_id, s.id AS session_id, of_session.object
FROM {schema}.sessions AS s
-- By session, not in groups: it takes half the time, since the session is looked up once, and its keys are in order.
CROSS JOIN
    LATERAL (
        SELECT json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
        FROM {schema}.session_values AS v
        WHERE v.user_id = s.user_id AND v.session_id = s.id
        HAVING count(*) > 0
    ) AS of_session
WHERE s.user_id = :user_id AND s.id = ANY(:session_ids)
    AND (now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
