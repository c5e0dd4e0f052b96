"""Operators' controls of the queues: pauses of variants, weights and limits of tenants. Only the platform has them."""

from __future__ import annotations

from sqlalchemy import select

from jobs.db.database import Transaction
from jobs.db.tables import TenantQuota, VariantQueue

MIN_WEIGHT, MAX_WEIGHT = 0.001, 1000.0


def pause(tx: Transaction, variant: str) -> None:
    """Start no more jobs of a variant; running jobs continue, submitted jobs stay queued. Idempotent."""
    queue = tx.session.get(VariantQueue, variant)
    if queue is None:
        queue = VariantQueue(variant=variant, virtual_time=0.0, dispatch_count=0)
        tx.session.add(queue)
    if queue.paused_at is None:
        queue.paused_at = tx.now


def resume(tx: Transaction, variant: str) -> None:
    """Start jobs of a variant again. Idempotent."""
    queue = tx.session.get(VariantQueue, variant)
    if queue is not None:
        queue.paused_at = None


def is_paused(tx: Transaction, variant: str) -> bool:
    """Return whether an operator has paused a variant."""
    return tx.session.scalar(select(VariantQueue.paused_at).where(VariantQueue.variant == variant)) is not None


def paused_variants(tx: Transaction) -> set[str]:
    """Return the paused variants."""
    return set(tx.session.scalars(select(VariantQueue.variant).where(VariantQueue.paused_at.is_not(None))))


def set_quota(tx: Transaction, tenant: str, *, weight: float | None = None, max_running: int | None = None) -> None:
    """Set a tenant's weight, or how many of its jobs may run at once; None leaves a value unchanged.

    Raises:
        ValueError: the weight is not positive, or the limit is negative.
    """
    tx.require_platform()
    if weight is not None and not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise ValueError(f"Got weight {weight:g}; allowed is {MIN_WEIGHT:g} to {MAX_WEIGHT:g} (the default is 1).")
    if max_running is not None and max_running < 0:
        raise ValueError(f"Got a limit of {max_running} running jobs; allowed is 0 (none may start) or more.")
    quota = tx.session.get(TenantQuota, tenant)
    if quota is None:
        quota = TenantQuota(tenant=tenant, weight=1.0)
        tx.session.add(quota)
    quota.weight = weight if weight is not None else quota.weight
    quota.max_running = max_running if max_running is not None else quota.max_running


def clear_quota(tx: Transaction, tenant: str) -> None:
    """Restore a tenant's default weight and limit."""
    tx.require_platform()
    quota = tx.session.get(TenantQuota, tenant)
    if quota is not None:
        tx.session.delete(quota)


def tenant_quotas(tx: Transaction) -> list[TenantQuota]:
    """Return all tenants' quotas, by tenant."""
    tx.require_platform()
    return list(tx.session.scalars(select(TenantQuota).order_by(TenantQuota.tenant)))
