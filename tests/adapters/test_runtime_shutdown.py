"""The same as tests/integration/test_shutdown.py with uvicorn, which the runtime installs."""

import pytest

from tests.integration.test_shutdown import check_shutdown


@pytest.mark.runtime
@pytest.mark.parametrize("state", ["idle", "in use", "connecting"])
async def test_uvicorn_with_silent_connections_ends_soon_after_sigterm(
    own_tcp_server: tuple[str, int], state: str
) -> None:
    await check_shutdown("uvicorn", state, own_tcp_server)
