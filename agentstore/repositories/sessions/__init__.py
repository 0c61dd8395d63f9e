"""Sessions and their messages on Postgres."""
