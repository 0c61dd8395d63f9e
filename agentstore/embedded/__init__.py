"""An embedded Postgres server: a child process for a first look and for tests."""
