-- Append messages to a session, none of which is stored already.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, ids text[], payloads text[], count bigint, expected bigint
-- Rows: that of append.sql, and rows of nulls, one for each message but the first
-- Races: those of append.sql
--
-- Citus sends a query that is nothing but this call to the server of the user, and executes it there.
SELECT written_at, first_seq, message_count
FROM {schema}.citus_append_messages_1(
        :user_id, :session_id, :ids, :payloads, :count, :expected, {settings.session_ttl}::bigint,
        {settings.lock_timeout}
    )
