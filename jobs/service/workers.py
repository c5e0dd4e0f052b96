"""The register of worker processes: who is there, what they take, when they were last heard."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select

from jobs.db.database import Transaction
from jobs.db.tables import Job, Worker


def register_worker(
    tx: Transaction, *, worker_id: str, hostname: str, pid: int, device: str, slots: int, variants: list[str]
) -> None:
    """Enter a worker that is starting."""
    tx.session.add(
        Worker(
            id=worker_id,
            hostname=hostname,
            pid=pid,
            device=device,
            state="starting",
            slots=slots,
            variants=variants,
            variants_loaded=[],
            started_at=tx.now,
            heartbeat_at=tx.now,
        )
    )


def worker_heartbeat(
    tx: Transaction, worker_id: str, *, state: str, variants_loaded: list[str], memory_bytes: int | None
) -> None:
    """Note that a worker lives, and how it is (`starting`, `ready` or `draining`)."""
    worker = tx.session.get_one(Worker, worker_id)
    worker.state = state
    worker.variants_loaded = variants_loaded
    worker.memory_bytes = memory_bytes
    worker.heartbeat_at = tx.now


def worker_stopped(tx: Transaction, worker_id: str) -> None:
    """Note that a worker has ended by itself."""
    worker = tx.session.get(Worker, worker_id)
    if worker is not None:
        worker.state = "stopped"
        worker.stopped_at = tx.now


def slots_by_variant(tx: Transaction, *, heard_within_s: float) -> dict[str, int]:
    """Return how many jobs of each variant the living workers hold at once."""
    slots: dict[str, int] = {}
    horizon = tx.now - timedelta(seconds=heard_within_s)
    query = select(Worker).where(
        Worker.heartbeat_at > horizon, Worker.stopped_at.is_(None), Worker.state.in_(["starting", "ready"])
    )
    for worker in tx.session.scalars(query):
        for variant in worker.variants:
            slots[variant] = slots.get(variant, 0) + worker.slots
    return slots


def variants_held_by_others(tx: Transaction, worker_id: str, *, heard_within_s: float = 15.0) -> set[str]:
    """Return the variants that other living workers, which take jobs for them, have in memory."""
    horizon = tx.now - timedelta(seconds=heard_within_s)
    query = select(Worker).where(
        Worker.id != worker_id, Worker.heartbeat_at > horizon, Worker.stopped_at.is_(None), Worker.state == "ready"
    )
    return {
        variant
        for worker in tx.session.scalars(query)
        for variant in worker.variants_loaded
        if variant in worker.variants
    }


def longest_on_belt(tx: Transaction) -> dict[str, float]:
    """Return how many seconds the oldest published job of each variant has waited to be taken."""
    query = (
        select(Job.variant, func.min(Job.published_at).label("since"))
        .where(Job.published_at.is_not(None))
        .group_by(Job.variant)
    )
    return {row.variant: (tx.now - row.since).total_seconds() for row in tx.session.execute(query)}
