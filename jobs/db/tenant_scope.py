"""Whose rows a transaction sees and writes: one tenant's, or all of them for the platform itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

MAX_TENANT = 64
ALL_TENANTS = "*"
"""What the platform has in place of a tenant in PostgreSQL's setting (`migrations.row_security`)."""


class TenantUnboundError(RuntimeError):
    """Raised where a transaction needs another binding than it has. A programming error, never retried."""


class ForeignRowError(RuntimeError):
    """Raised where a transaction that is bound to one tenant would write another's row. A programming error."""


@dataclass(frozen=True)
class TenantScope:
    """A tenant, the platform, or neither.

    Attributes:
        tenant: the one tenant whose rows are seen and written; None: see `platform`.
        platform: the rows of all tenants, for workers and maintenance.
    """

    tenant: str | None = None
    platform: bool = False

    def __post_init__(self) -> None:
        if self.tenant is not None and (not 0 < len(self.tenant) <= MAX_TENANT or self.tenant == ALL_TENANTS):
            raise ValueError(
                f"Got the tenant {self.tenant[: MAX_TENANT + 1]!r}; a tenant has 1 to {MAX_TENANT} characters and is "
                f"not {ALL_TENANTS!r}, which stands for all tenants."
            )

    @classmethod
    def of(cls, tenant: str) -> Self:
        """Return the scope of one tenant.

        Raises:
            ValueError: it cannot be the name of one.
        """
        return cls(tenant=tenant)

    def require_tenant(self) -> str:
        """Return the tenant.

        Raises:
            TenantUnboundError: there is no single one.
        """
        if self.tenant is None:
            raise TenantUnboundError(f"Got a transaction bound to {self}; open it with Database.of_tenant(...).")
        return self.tenant

    def require_platform(self) -> None:
        """Check that the rows of all tenants are seen.

        Raises:
            TenantUnboundError: they are not.
        """
        if not self.platform:
            raise TenantUnboundError(f"Got a transaction bound to {self}; open it with Database.of_platform().")

    def require_any(self) -> None:
        """Check that there is a tenant, or the platform.

        Raises:
            TenantUnboundError: there is neither.
        """
        if self.tenant is None and not self.platform:
            raise TenantUnboundError(
                f"Got a transaction bound to {self}; open it with Database.of_tenant(...) or Database.of_platform()."
            )

    def __str__(self) -> str:
        if self.tenant is not None:
            return f"tenant {self.tenant!r}"
        return "the platform" if self.platform else "nothing"


UNBOUND = TenantScope()
PLATFORM = TenantScope(platform=True)
