-- Create the session to which a rewind moves what it removes, and move the state rounds saved since a time.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, state_session text, new_id text, at bigint, since timestamptz
-- Rows: is_taken: states are stored under the new id, and nothing was changed
-- Races: fails with 23505 if a session has the new id. The rows of the session and of its states must be locked.
--
-- The messages after the number `at` are moved by cut.sql, and keep their numbers: those up to `at` count as removed.
-- `since` is when the first of them was stored.
WITH tail AS MATERIALIZED (
    SELECT count(*) AS count FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND seq > :at
),
taken AS MATERIALIZED (
    SELECT 1 FROM {schema}.state_heads
    WHERE user_id = :user_id AND session_id = :new_id AND last_round > 0
        AND (now() - updated_at < {settings.state_ttl}::bigint * interval '1 second') IS NOT FALSE
),
rounds AS MATERIALIZED (
    SELECT r.round
    FROM {schema}.state_rounds AS r
    WHERE r.user_id = :user_id AND r.session_id = :state_session AND r.saved_at >= :since
        AND NOT EXISTS (SELECT FROM taken)
        AND EXISTS (
            SELECT FROM {schema}.state_heads
            WHERE user_id = :user_id AND session_id = :state_session
                AND (now() - updated_at < {settings.state_ttl}::bigint * interval '1 second') IS NOT FALSE
        )
),
created_head AS (
    -- What remains of deleted states is a head without rounds. Its numbers are not used again.
    INSERT INTO {schema}.state_heads AS head (user_id, session_id, next_round, last_round)
    SELECT :user_id, :new_id, max(round) + 1, max(round)
    FROM rounds
    HAVING count(*) > 0
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            next_round = greatest(head.next_round, excluded.next_round),
            last_round = excluded.last_round,
            updated_at = excluded.updated_at
        WHERE head.last_round = 0
    RETURNING 1
),
moved_rounds AS (
    -- An array, whose rounds are looked up in the index.
    UPDATE {schema}.state_rounds AS r
    SET session_id = :new_id
    WHERE r.user_id = :user_id AND r.session_id = :state_session
        AND r.round = ANY(ARRAY(SELECT rounds.round FROM rounds))
        AND EXISTS (SELECT FROM created_head)
    RETURNING 1
),
target AS MATERIALIZED (
    -- No row if a concurrent save has stored states under the new id.
    SELECT tail.count
    FROM tail
    WHERE NOT EXISTS (SELECT FROM taken)
        AND (EXISTS (SELECT FROM created_head) OR NOT EXISTS (SELECT FROM rounds))
),
created AS (
    INSERT INTO {schema}.sessions (user_id, id, next_seq, removed, title, metadata, forked_from, forked_at, ttl, app)
    SELECT
        :user_id, :new_id, s.next_seq, s.next_seq - 1 - target.count, s.title, s.metadata, s.id, s.next_seq - 1, s.ttl,
        s.app
    FROM {schema}.sessions AS s
    CROSS JOIN target
    WHERE s.user_id = :user_id AND s.id = :session_id
    RETURNING 1
),
created_values AS (
    INSERT INTO {schema}.session_values (user_id, session_id, key, value)
    SELECT :user_id, :new_id, v.key, v.value
    FROM {schema}.session_values AS v
    CROSS JOIN target
    WHERE v.user_id = :user_id AND v.session_id = :session_id
    RETURNING 1
)
SELECT (SELECT count(*) FROM target) = 0 AS is_taken
