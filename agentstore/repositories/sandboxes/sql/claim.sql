-- Insert the row of a sandbox that is about to be started, and the user if missing.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, type text, generation bigint, reserved text, provider text, owner text,
--   host text, lease_time interval
-- Rows: the generation of the row; no row if another process holds the key
-- Races: of concurrent claims one returns a row. 23503 if the user is deleted meanwhile.
--
-- An expired row of another provider is taken over, because no process that uses that provider may be left to end it.
WITH
-- include: ../../sql/insert_user.sql
claimed AS (
    INSERT INTO {schema}.sandboxes AS sandbox (
        user_id, session_id, type, generation, state, handle, provider, owner, host, created_at, lease_until
    )
    SELECT
        :user_id, :session_id, :type, :generation, 'starting' AS state, :reserved, :provider, :owner, :host,
        now() AS created_at, now() + :lease_time AS lease_until
    FROM owner
    ON CONFLICT (user_id, session_id, type) DO UPDATE
        SET
            generation = greatest(sandbox.generation + 1, excluded.generation),
            state = excluded.state,
            handle = excluded.handle,
            provider = excluded.provider,
            owner = excluded.owner,
            host = excluded.host,
            created_at = excluded.created_at,
            lease_until = excluded.lease_until
        WHERE sandbox.lease_until < excluded.created_at AND sandbox.provider <> excluded.provider
    RETURNING sandbox.generation
)
SELECT generation FROM claimed
