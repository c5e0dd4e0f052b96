"""What a key allows, and the tenant of requests without a key."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

DEFAULT_TENANT = "default"


class KeyScope(StrEnum):
    """What a key allows."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    ADMIN = "admin"
    """To operate the platform: workers, keys and limits of all tenants. Implies the others."""


ALL_SCOPES = frozenset(KeyScope)


def effective_scopes(names: Iterable[str]) -> frozenset[KeyScope]:
    """Return the scopes that stored names allow; `admin` implies the others, names of later releases allow nothing."""
    known = {scope.value: scope for scope in KeyScope}
    scopes = frozenset(known[name] for name in names if name in known)
    return ALL_SCOPES if KeyScope.ADMIN in scopes else scopes
