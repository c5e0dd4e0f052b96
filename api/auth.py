"""Who sends a request. There are no API keys yet: every request belongs to the tenant `default`, with all scopes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TENANT = "default"


class KeyScope(StrEnum):
    """What a key allows."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    ADMIN = "admin"


@dataclass(frozen=True)
class Principal:
    """The sender of a request.

    Attributes:
        tenant: whose jobs it sees and creates.
        scopes: what it may do.
        key_id: id of the API key; None: no keys are required, or the request came by a signed link.
    """

    tenant: str
    scopes: frozenset[KeyScope]
    key_id: str | None = None


def current_principal() -> Principal:
    """Return the sender of the current request."""
    return Principal(DEFAULT_TENANT, frozenset(KeyScope))


def current_tenant() -> str:
    """Return the tenant of the current request."""
    return current_principal().tenant
