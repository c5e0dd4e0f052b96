"""Whose rows a transaction sees and writes: one tenant's, or all of them for the platform itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


class TenantUnboundError(RuntimeError):
    """Raised where a transaction needs a tenant and is bound to none. A programming error, never retried."""


@dataclass(frozen=True)
class TenantScope:
    """A tenant, the platform, or neither.

    Attributes:
        tenant: the one tenant whose rows are seen and written; None: see `platform`.
        platform: the rows of all tenants, for workers and maintenance.
    """

    tenant: str | None = None
    platform: bool = False

    @classmethod
    def of(cls, tenant: str) -> Self:
        """Return the scope of one tenant."""
        return cls(tenant=tenant)

    def require_tenant(self) -> str:
        """Return the tenant.

        Raises:
            TenantUnboundError: there is no single one.
        """
        if self.tenant is None:
            bound = "the platform" if self.platform else "nothing"
            raise TenantUnboundError(f"Got a transaction bound to {bound}; open it with Database.of_tenant(...).")
        return self.tenant


UNBOUND = TenantScope()
PLATFORM = TenantScope(platform=True)
