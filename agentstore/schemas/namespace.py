"""Namespaces of memories: paths such as "project/x"."""

from agentstore.errors import InvalidContent
from agentstore.schemas.payload import check_id, shortened
from agentstore.settings import Settings


def check_namespace(value: str | None, settings: Settings) -> str | None:
    """Validate a namespace: segments separated by "/", none of them empty; or None.

    Raises:
        InvalidContent: it is not a string, has an empty segment, or is not text that Postgres can store.
    """
    if value is None:
        return None
    if not all(check_id(value, "namespace", settings).split("/")):
        raise InvalidContent(f'namespace must be segments separated by "/", such as "a/b", got {shortened(value)}')
    return value
