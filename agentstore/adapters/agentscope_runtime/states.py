"""The runtime's StateService."""

from collections.abc import Mapping
from typing import Any

from agentstore import repositories
from agentstore.adapters.agentscope_runtime.options import override_ttl
from agentstore.adapters.agentscope_runtime.service import PostgresService


class PostgresStateService(PostgresService):
    """The runtime's StateService on Postgres."""

    UPSTREAM_NAME = "agent_state.state_service.StateService"

    def _open(self) -> None:
        self.inner = repositories.PostgresStateService(
            database=self._shared.database, settings=override_ttl(self._settings, state_ttl=self._ttl)
        )
        """The wrapped service, with agentstore's own methods and classes."""

    async def save_state(
        self, user_id: str, state: Mapping[str, Any], session_id: str | None = None, round_id: int | None = None
    ) -> int:
        """Save a state as the next round, or overwrite round `round_id`; return the number of the round."""
        await self._ensure_started()
        return await self.inner.save_state(user_id, state, session_id, round_id)

    async def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> dict[str, Any] | None:
        """Return the state of a round, by default of the highest; None if it does not exist."""
        await self._ensure_started()
        state = await self.inner.export_state(user_id, session_id, round_id)
        if state is not None and self._ttl is not None:
            await self.inner.touch(user_id, session_id, idle=self._touch_interval)
        return state
