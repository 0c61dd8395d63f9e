"""Connections with a role of the application."""

from urllib.parse import quote


def with_role(url: str, role: str) -> str:
    """Return the URL whose connections use a role, as after SET ROLE."""
    return f"{url}{'&' if '?' in url else '?'}options={quote('-c role=' + role)}"
