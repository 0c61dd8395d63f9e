"""Sandboxes of AgentScope Runtime's sandbox server, which runs them as containers on another machine."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from agentstore.errors import AgentStoreError, InvalidContent, NotConfigured, SandboxFailed, SandboxUnavailable
from agentstore.http_client import ErrorStatus, HttpClient, NotSent, RequestFailed, ResponseLost
from agentstore.sandbox.managed import ATTEMPTS, ManagedProvider, RequestNotSent

_MAX_REPLY = 32_000_000


class RemoteProvider(ManagedProvider):
    """Sandboxes of a sandbox server, over HTTP.

    Its connections belong to one event loop at a time: stop() closes them, and the next call opens new ones.
    """

    def __init__(self, base_url: str, bearer_token: str | SecretStr | None = None, *, timeout: float = 60.0) -> None:
        """Create a provider; connections are opened when they are needed.

        `base_url` is the URL to which method names are appended. `timeout` is that of one call, in seconds. A user and
        password in `base_url` are sent to a proxy in front of the server. Like the token, they never appear in messages
        or logs.

        Raises:
            NotConfigured: httpx is not installed, or an argument is not valid.
        """
        super().__init__(timeout)
        # If the server closes an idle connection just as it is reused, a call that must not be retried fails. So the
        # client closes idle connections sooner than most servers do.
        self._client = HttpClient(
            base_url, bearer_token, what="the sandbox server", settings="AGENTSTORE_SANDBOX", keepalive=1.0
        )

    def __repr__(self) -> str:
        return f"RemoteProvider({self._client.url!r})"

    @property
    def name(self) -> str:
        """The provider's name in AGENTSTORE_SANDBOX_PROVIDER: "remote"."""
        return "remote"

    @property
    def _server(self) -> str:
        return self._client.url

    async def start(self) -> None:
        """Do nothing: connections are opened when they are needed."""

    async def stop(self) -> None:
        """Wait for cleanup to finish, for a limited time, and close the connections."""
        await super().stop()
        await self._client.close()

    async def _call(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """POST a request, and retry it up to `attempts` times in all.

        A request that could not be sent is retried in any case, up to :data:`ATTEMPTS` times in all.
        """
        try:
            body = json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidContent(
                f"the arguments of {method} cannot be encoded as JSON: {type(error).__name__}"
            ) from error
        try:
            reply = await self._client.post(
                f"/{method}",
                body,
                timeout=timeout,
                total=timeout,
                max_bytes=_MAX_REPLY,
                attempts=attempts,
                unsent_attempts=ATTEMPTS,
            )
        except RequestFailed as error:
            raise self._translate(method, error) from error.__cause__
        if not isinstance(reply, dict) or "data" not in reply:
            raise SandboxFailed(f"{self._client.url} sent a reply to {method} without data: it is not a sandbox server")
        return reply["data"]

    def _translate(self, method: str, error: RequestFailed) -> AgentStoreError:
        """Return the exception for a failed request."""
        if isinstance(error, NotSent):
            return RequestNotSent(str(error))
        if isinstance(error, ResponseLost):
            return SandboxUnavailable(str(error))
        if not isinstance(error, ErrorStatus):
            return SandboxFailed(str(error))
        if error.status in (401, 403):
            problem = "rejected the bearer token" if self._client.has_token else "requires a bearer token"
            return NotConfigured(f"{self._client.url} {problem} (status {error.status}): set AGENTSTORE_SANDBOX_TOKEN")
        return self._error_from_text(method, f"{error.status} {error.excerpt}")
