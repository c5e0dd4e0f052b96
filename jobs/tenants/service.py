"""Reads and changes what operators set for tenants; each change is in the audit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, union

from jobs.api_keys.service import check_tenant_name
from jobs.cursor import place_of
from jobs.db.database import Transaction
from jobs.db.key_tables import TENANT_LIMITS, ApiKey, TenantSettings
from jobs.db.tables import TenantQuota
from jobs.errors import FieldProblem, RequestInvalidError
from jobs.service.audit import record_action
from jobs.service.scheduling.quotas import MAX_WEIGHT, MIN_WEIGHT
from jobs.settings_values import check_source_host
from jobs.tenants.locations import check_location

MAX_PAGE = 200
MAX_ENTRIES = 200
_CHECKS = {"input_buckets": check_location, "output_buckets": check_location, "input_hosts": check_source_host}
LISTS = tuple(_CHECKS)
QUOTAS = ("weight", "max_running")
FIELDS = (*LISTS, *TENANT_LIMITS, *QUOTAS)
_LARGEST = {"max_stored_upload_bytes": 2**60, "max_stored_result_bytes": 2**60}
TENANT_PLACE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class TenantPage:
    """Names of tenants in their order, and the cursor of the next page (None: this is the last page)."""

    tenants: list[str]
    next_cursor: str | None


def known_tenants(tx: Transaction, *, cursor: str | None = None, limit: int = MAX_PAGE) -> TenantPage:
    """Return a page of the tenants that have keys or settings of their own.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    after = place_of(cursor, TENANT_PLACE) if cursor is not None else ""
    limit = min(max(limit, 1), MAX_PAGE)
    # Each part comes in order from an index and stops after a page.
    parts = [
        select(table.tenant).where(table.tenant > after).distinct().order_by(table.tenant).limit(limit + 1).subquery()
        for table in (ApiKey, TenantSettings, TenantQuota)
    ]
    names = union(*(select(part.c.tenant) for part in parts)).subquery()
    found = list(tx.session.scalars(select(names.c.tenant).order_by(names.c.tenant).limit(limit + 1)))
    return TenantPage(found[:limit], found[limit - 1] if len(found) > limit else None)


def tenant_values(tx: Transaction, tenant: str) -> dict[str, Any]:
    """Return what is set for a tenant, by field; None: as in the settings."""
    row, quota = tx.session.get(TenantSettings, tenant), tx.session.get(TenantQuota, tenant)
    values = {name: getattr(row, name, None) for name in (*LISTS, *TENANT_LIMITS)}
    return values | {name: getattr(quota, name, None) for name in QUOTAS}


def change_tenant(tx: Transaction, tenant: str, changes: Mapping[str, Any], *, actor: str) -> None:
    """Set fields of a tenant; None restores the default of one.

    Raises:
        RequestInvalidError: a value is not allowed; names each field.
        TenantUnboundError: the transaction is not the platform's.
    """
    tx.require_platform()
    check_tenant_name(tenant)
    checked = _checked(changes)
    row = tx.session.get(TenantSettings, tenant)
    if row is None:
        row = TenantSettings(tenant=tenant, updated_at=tx.now)
        tx.session.add(row)
    quota = tx.session.get(TenantQuota, tenant)
    if quota is None and any(name in checked for name in QUOTAS):
        quota = TenantQuota(tenant=tenant, weight=1.0)
        tx.session.add(quota)
    for name, value in checked.items():
        if name not in QUOTAS:
            setattr(row, name, value)
        elif quota is not None:
            setattr(quota, name, 1.0 if name == "weight" and value is None else value)
    row.updated_at = tx.now
    tx.session.flush()
    record_action(tx, actor, "tenant.change", tenant, changes=checked)


def restore_defaults(tx: Transaction, tenant: str, *, actor: str) -> None:
    """Remove everything that is set for a tenant. Idempotent; only the platform may."""
    tx.require_platform()
    rows = [tx.session.get(TenantSettings, tenant), tx.session.get(TenantQuota, tenant)]
    for row in rows:
        if row is not None:
            tx.session.delete(row)
    if any(row is not None for row in rows):
        record_action(tx, actor, "tenant.restore", tenant)


def _checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    problems: list[FieldProblem] = []
    checked: dict[str, Any] = {}
    for name, value in changes.items():
        try:
            checked[name] = _checked_value(name, value)
        except ValueError as exc:
            problems.append(FieldProblem(name, str(exc)))
    if problems:
        raise RequestInvalidError(problems)
    return checked


def _checked_value(name: str, value: Any) -> Any:
    if name not in FIELDS:
        raise ValueError(f"there is no such field; give {', '.join(FIELDS)}")
    if value is None:
        return None
    if name in LISTS:
        if len(value) > MAX_ENTRIES:
            raise ValueError(f"got {len(value)} entries; give at most {MAX_ENTRIES}")
        return list(dict.fromkeys(_CHECKS[name](entry) for entry in value))
    if name == "weight":
        if not MIN_WEIGHT <= value <= MAX_WEIGHT:
            raise ValueError(f"got {value:g}; give {MIN_WEIGHT:g} to {MAX_WEIGHT:g} (the default is 1)")
        return float(value)
    largest = _LARGEST.get(name, 10**9)
    if not 0 <= value <= largest:
        raise ValueError(f"got {value}; give 0 to {largest}")
    return int(value)
