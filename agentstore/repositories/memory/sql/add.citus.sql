-- Insert messages into a bucket, and their user and bucket if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, count bigint, all_tokens bigint, analysis text, namespace text,
--   ids text[], payloads text[], roles text[], question_shares smallint[], times timestamptz[], tokens bigint[],
--   lexemes text[], cuts boolean[], speakers text[]
-- Rows: those of add.sql
-- Races: those of add.sql
--
-- See sessions/sql/append.citus.sql.
SELECT number
FROM {schema}.citus_add_memories_1(
        :user_id, :session_id, :count, :all_tokens, :analysis, :namespace, :ids, :payloads, :roles, :question_shares,
        :times, :tokens, :lexemes, :cuts, :speakers, {settings.lock_timeout}
    )
