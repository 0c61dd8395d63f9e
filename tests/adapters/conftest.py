"""What programs that the tests of adapters start need of the environment."""

import pytest

from tests.support.pgbouncer import PgBouncer


@pytest.fixture(autouse=True)
def _pooler(request: pytest.FixtureRequest, pgbouncer: PgBouncer | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--pooler``, a URL alone does not say that it is a pooler's."""
    if pgbouncer is not None and request.node.get_closest_marker("adapters"):
        direct_url = request.getfixturevalue("direct_url")  # whose migrations need a direct connection
        monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", direct_url)
