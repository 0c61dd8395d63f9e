"""Options of the services, which may come from the environment as strings."""

from collections.abc import Mapping
from typing import Any, Literal

from agentstore.errors import NotConfigured
from agentstore.settings import Settings

Compat = Literal["in_memory", "redis", "tablestore"]
"""The runtime's implementation whose behavior a service follows where they differ."""

# Connection and naming options of the runtime's other implementations: accepted and ignored.
_IGNORED = {
    "redis_url", "redis_client", "socket_timeout", "socket_connect_timeout", "max_connections", "retry_on_timeout",
    "health_check_interval", "socket_keepalive", "tablestore_client", "session_table_name", "message_table_name",
    "session_secondary_index_meta", "session_search_index_schema", "message_search_index_schema", "table_name",
    "search_index_schema", "text_field", "embedding_field", "vector_metric_type",
}  # fmt: skip


def check_options(service: type, options: Mapping[str, Any]) -> None:
    """Reject options that neither agentstore nor the runtime's other implementations have.

    Raises:
        NotConfigured: an option is unknown.
    """
    if unknown := sorted(options.keys() - _IGNORED):
        raise NotConfigured(f"{service.__name__} has no option {', '.join(map(repr, unknown))}")


def parse_number(value: int | str | None, name: str) -> int | None:
    """Return the integer of an option, which may be a string, or None.

    Raises:
        NotConfigured: it is not an integer from 1 to 2**31 - 1.
    """
    if value is None:
        return None
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 2**31:
        raise NotConfigured(f"{name} must be an integer from 1 to 2147483647, got {value!r:.80}")
    return number


def parse_flag(value: bool | str, name: str) -> bool:
    """Return the boolean of an option, which may be a string.

    Raises:
        NotConfigured: it is not true, false, 1 or 0, in any case.
    """
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())
    if found is None:
        raise NotConfigured(f"{name} must be true or false, got {value!r:.80}")
    return found


def override_ttl(settings: Settings, **ttl: int | None) -> Settings:
    """Return a copy of the settings with these times to live, in seconds; None leaves a setting unchanged."""
    return settings.model_copy(update={name: value for name, value in ttl.items() if value is not None})
