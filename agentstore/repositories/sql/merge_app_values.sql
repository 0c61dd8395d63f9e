-- Set and delete values of an application.
--
-- Scope: none
-- Repeatable: yes
-- Parameters: app text, keys text[], texts text[], removed text[]
-- Rows: one
-- Races: as in merge_values.sql. In a transaction it is the last statement, since writers of all users may write the
--   same key, and wait for the commit.
WITH locked_values AS MATERIALIZED (
    SELECT key
    FROM {schema}.app_values
    WHERE app = :app AND key = ANY(:keys || :removed)
    ORDER BY key
    FOR UPDATE
),
deleted_values AS (
    DELETE FROM {schema}.app_values
    WHERE app = :app AND key = ANY(:removed) AND (SELECT count(*) FROM locked_values) >= 0
    RETURNING key
),
merged_values AS (
    INSERT INTO {schema}.app_values (app, key, value)
    SELECT :app, given.key, given.value::json
    FROM unnest(:keys, :texts) WITH ORDINALITY AS given (key, value, position)
    WHERE (SELECT count(*) FROM locked_values) >= 0
    ORDER BY given.position
    ON CONFLICT (app, key) DO UPDATE SET value = excluded.value
    RETURNING key
)
SELECT (SELECT count(*) FROM deleted_values) + (SELECT count(*) FROM merged_values) AS changed
