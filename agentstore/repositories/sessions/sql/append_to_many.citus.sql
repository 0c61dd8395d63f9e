-- Append messages to several sessions whose users are on one server.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: leader text, users text[], sessions text[], counts bigint[], firsts bigint[], ids text[],
--   payloads text[]
-- Rows: those of append_to_many.sql, each with the place of its user; for the sessions of users in another place also,
--   their number and place alone
-- Races: those of append_to_many.sql
--
-- `leader` is one of the users: Citus sends the call to the server of this user. A place is a server, as its number in
-- the catalog of Citus. The function appends to the sessions in the place where it is executed alone: so it fails with
-- no other server, and commits in one phase.
SELECT number, written_at, first_seq, message_count, place
FROM {schema}.citus_append_to_many_1(
        :leader, :users, :sessions, :counts, :firsts, :ids, :payloads, {settings.session_ttl}::bigint
    )
