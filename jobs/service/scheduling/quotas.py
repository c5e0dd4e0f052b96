"""What an operator says of the queues: a variant paused, a tenant's weight and how many of its jobs may run."""

from __future__ import annotations

from sqlalchemy import select

from jobs.db.database import Transaction
from jobs.db.tables import TenantQuota, VariantQueue


def pause(tx: Transaction, variant: str) -> None:
    """Start no more jobs of a variant; what runs goes on, what is submitted waits. Idempotent."""
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
    return tx.session.scalar(select(VariantQueue.paused_at).where(VariantQueue.variant == variant)) is not None


def paused_variants(tx: Transaction) -> set[str]:
    return set(tx.session.scalars(select(VariantQueue.variant).where(VariantQueue.paused_at.is_not(None))))


def set_quota(tx: Transaction, tenant: str, *, weight: float | None = None, max_running: int | None = None) -> None:
    """Set a tenant's weight in the fair order, or how many of its jobs may run at once; None leaves it as it is.

    Raises:
        ValueError: the weight is not positive, or the limit is negative.
    """
    if weight is not None and not 0.001 <= weight <= 1000:
        raise ValueError(f"Got weight {weight:g}; allowed is 0.001 to 1000 (1 is what every tenant has).")
    if max_running is not None and max_running < 0:
        raise ValueError(f"Got a limit of {max_running} running jobs; allowed is 0 (none may start) or more.")
    share = tx.session.get(TenantQuota, tenant)
    if share is None:
        share = TenantQuota(tenant=tenant, weight=1.0)
        tx.session.add(share)
    share.weight = weight if weight is not None else share.weight
    share.max_running = max_running if max_running is not None else share.max_running


def clear_quota(tx: Transaction, tenant: str) -> None:
    """Give a tenant back what every tenant has."""
    share = tx.session.get(TenantQuota, tenant)
    if share is not None:
        tx.session.delete(share)


def tenant_quotas(tx: Transaction) -> list[TenantQuota]:
    """Return what was set, by tenant."""
    return list(tx.session.scalars(select(TenantQuota).order_by(TenantQuota.tenant)))
