"""Choose a sandbox provider from arguments and settings."""

from pydantic import SecretStr

from agentstore.errors import NotConfigured
from agentstore.interfaces import SandboxProvider
from agentstore.settings import Settings


def open_provider(
    settings: Settings,
    *,
    base_url: str | None = None,
    bearer_token: str | SecretStr | None = None,
    provider: SandboxProvider | str | None = None,
) -> SandboxProvider:
    """Return a sandbox provider that is not started yet.

    The name of the provider is, in this order, `provider`; "remote" if there is a `base_url`;
    AGENTSTORE_SANDBOX_PROVIDER; "remote" if AGENTSTORE_SANDBOX_URL is set; "bubblewrap". A SandboxProvider is returned
    unchanged.

    Raises:
        NotConfigured: there is no provider of that name, or no URL for "remote".
    """
    if provider is not None and not isinstance(provider, str):
        if base_url is not None:
            raise NotConfigured("pass either provider or base_url, not both")
        return provider
    url = base_url or settings.sandbox_url
    name = provider or ("remote" if base_url else settings.sandbox_provider) or ("remote" if url else "bubblewrap")
    if name == "remote":
        if url is None:
            raise NotConfigured(
                "the sandbox provider 'remote' needs the URL of a server: set AGENTSTORE_SANDBOX_URL, or pass base_url"
            )
        from agentstore.sandbox.remote import RemoteProvider

        return RemoteProvider(url, bearer_token or settings.sandbox_token, timeout=settings.sandbox_timeout)
    if name == "bubblewrap":
        from agentstore.sandbox.bubblewrap import BubblewrapProvider

        return BubblewrapProvider(python=settings.sandbox_python)
    if name == "unsafe_subprocess":
        from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider

        return UnsafeSubprocessProvider(python=settings.sandbox_python)
    if name == "agentscope_runtime":
        from agentstore.sandbox.agentscope_runtime import AgentScopeRuntimeProvider

        return AgentScopeRuntimeProvider(timeout=settings.sandbox_timeout)
    raise NotConfigured(
        f"there is no sandbox provider {name[:80]!r}: expected bubblewrap, remote, agentscope_runtime or "
        "unsafe_subprocess"
    )
