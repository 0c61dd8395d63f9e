"""Saved states of AgentScope modules, in place of JSONSession."""

# pyright: reportMissingImports=false
from typing import Any

from agentscope.module import StateModule
from agentscope.session import SessionBase

from agentstore.errors import NotFound
from agentstore.interfaces import StateService
from agentstore.schemas.page import check_count


class NoState(NotFound, ValueError):
    """A session has no saved state. Also a ValueError, as in AgentScope's own sessions."""


class AgentScopeSession(SessionBase):  # type: ignore[misc]
    """Saves and loads the states of modules, such as agents, by session. Use it in place of JSONSession."""

    def __init__(self, service: Any, keep_rounds: int | None = 10) -> None:
        """Create it on `service`, a StateService. Each save is a new round; the last `keep_rounds` are retained.

        With None all rounds are retained. A state that contains its conversation grows with it, and so does each round.

        Raises:
            InvalidContent: `keep_rounds` is not an integer from 1.
        """
        if keep_rounds is not None:
            check_count(keep_rounds, "keep_rounds", minimum=1)
        self._states: StateService = getattr(service, "inner", service)
        self._keep_rounds = keep_rounds

    async def save_session_state(
        self, session_id: str, user_id: str = "", **state_modules_mapping: StateModule
    ) -> None:
        """Save the states of the modules as one round, under their names."""
        state = {name: module.state_dict() for name, module in state_modules_mapping.items()}
        saved = await self._states.save_state(user_id, state, session_id)
        if self._keep_rounds is not None and saved > self._keep_rounds:
            await self._states.delete_state(user_id, session_id, saved - self._keep_rounds)

    async def load_session_state(
        self, session_id: str, user_id: str = "", allow_not_exist: bool = True, **state_modules_mapping: StateModule
    ) -> None:
        """Load the last saved round into the modules, by their names; names that were not saved are skipped.

        Raises:
            NoState: nothing was saved, and `allow_not_exist` is false.
        """
        state = await self._states.export_state(user_id, session_id)
        if state is None:
            if not allow_not_exist:
                raise NoState(f"user {user_id!r} has no saved state of session {session_id!r}")
            return
        for name, module in state_modules_mapping.items():
            if name in state:
                module.load_state_dict(state[name])
