-- Say whether the ids of a user and a session can only have been swapped: a session exists with both swapped, and none
-- as they are given.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: user_id text, session_id text
-- Rows: one
-- Races: none, since it only reads
SELECT
    EXISTS (
        SELECT FROM {schema}.sessions AS swapped
        WHERE swapped.user_id = :session_id AND swapped.id = :user_id
    )
    AND NOT EXISTS (
        SELECT FROM {schema}.sessions AS given
        WHERE given.user_id = :user_id AND given.id = :session_id
    ) AS is_swapped
