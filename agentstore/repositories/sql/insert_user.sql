-- Insert the user if missing, before the rows whose foreign keys refer to the user.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text
-- Rows: inserted, 1 or 0; one row, so that what is inserted from it is inserted after the user
-- Races: a concurrent deletion of the user may come between; the insertion that follows then fails with 23503
WITH inserted_user AS (
    INSERT INTO {schema}.users (id)
    SELECT :user_id
    WHERE NOT EXISTS (SELECT FROM {schema}.users WHERE id = :user_id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
),
owner AS (
    SELECT count(*) AS inserted FROM inserted_user
)
SELECT inserted FROM owner
