"""Which provider is meant: one that is given, a server's, or the one that the settings name."""

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
    """Return the provider that is meant, not yet started: a server's where there is a URL, else bubblewrap.

    Raises:
        NotConfigured: there is none of that name, or a server is meant and not named.
    """
    if provider is not None and not isinstance(provider, str):
        if base_url is not None:
            raise NotConfigured("Give either a provider or a base_url.")
        return provider
    url = base_url or settings.sandbox_url
    name = provider or ("remote" if base_url else settings.sandbox_provider) or ("remote" if url else "bubblewrap")
    if name == "remote":
        if url is None:
            raise NotConfigured("No sandbox server is named: set AGENTSTORE_SANDBOX_URL, or give base_url.")
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
        f"There is no provider of sandboxes {name!r}: bubblewrap, remote, agentscope_runtime, unsafe_subprocess."
    )
