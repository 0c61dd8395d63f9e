-- Read the values of an application. They belong to no user, so row-level security need not know one.
--
-- Scope: none
-- Repeatable: yes
-- Parameters: app text
-- Rows: scope ('app'), the values as one JSON object, by key; none if there are no values
-- Races: none, since it only reads
SELECT 'app' AS scope, json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
FROM {schema}.app_values AS v
WHERE v.app = :app
HAVING count(*) > 0
