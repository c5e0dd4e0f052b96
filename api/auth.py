"""The tenant of a request. There are no API keys yet: every request belongs to the tenant `default`."""

from __future__ import annotations

DEFAULT_TENANT = "default"


def current_tenant() -> str:
    """Return the tenant of the current request."""
    return DEFAULT_TENANT
