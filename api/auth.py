"""Whose request it is. Keys come with a later issue; until then everybody is the tenant `default`."""

from __future__ import annotations

DEFAULT_TENANT = "default"


def current_tenant() -> str:
    """Return the tenant of the current request."""
    return DEFAULT_TENANT
