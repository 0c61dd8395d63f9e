"""The command-line clients of the bundled server."""

import subprocess

from agentstore.embedded.postgres import bundled_binaries


def psql(url: str, sql: str) -> None:
    """Run a script with psql, statement by statement, up to the first error."""
    command = [str(bundled_binaries() / "bin" / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", url]
    done = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def pg_dump(url: str, *, beside_upgrade: bool = False) -> None:
    """Dump a database with pg_dump, to /dev/null.

    `beside_upgrade` accepts that pg_dump fails on an index that a migration has just replaced, as it does for every
    REINDEX CONCURRENTLY: the locks that it held until then are what matters.
    """
    command = [str(bundled_binaries() / "bin" / "pg_dump"), "--file=/dev/null", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (beside_upgrade and "cache lookup failed for index" in done.stderr):
        assert done.returncode == 0, done.stderr
