"""Registers worker processes: their variants, slots, heartbeats and free capacity."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from jobs.db.database import Transaction
from jobs.db.tables import RUNNING, Job, Worker
from jobs.errors import WorkerNotFoundError
from jobs.lifecycle import WorkerState


def register_worker(
    tx: Transaction,
    *,
    worker_id: str,
    hostname: str,
    pid: int,
    device: str,
    slots: int,
    variants: list[str],
    sandbox_lacks: list[str] | None = None,
) -> None:
    """Register a worker that is starting. May be repeated.

    Args:
        sandbox_lacks: layers of confinement that its media processes do without; None: not known.
    """
    tx.session.merge(
        Worker(
            id=worker_id,
            hostname=hostname,
            pid=pid,
            device=device,
            state=WorkerState.STARTING,
            slots=slots,
            variants=variants,
            variants_loaded=[],
            sandbox_lacks=sandbox_lacks,
            started_at=tx.now,
            heartbeat_at=tx.now,
        )
    )


def record_heartbeat(
    tx: Transaction,
    worker_id: str,
    *,
    state: WorkerState,
    variants_loaded: list[str],
    memory_bytes: int | None,
    gpu: dict[str, Any] | None = None,
    unavailable: dict[str, Any] | None = None,
    clock_skew_s: float | None = None,
    variants: list[str] | None = None,
) -> bool:
    """Store a worker's heartbeat; return whether it must drain.

    Args:
        state: `starting`, `ready` or `draining`.
        unavailable: why it takes no jobs (`code`, `message`, `since`); None: it takes them.
        clock_skew_s: seconds that its clock is ahead of the database's.
        variants: those that it can load; None: as before.
    """
    worker = tx.session.get(Worker, worker_id)
    if worker is None:
        return False  # pruned after a long silence; its leases decide about its jobs
    worker.state = state
    worker.variants_loaded = variants_loaded
    worker.memory_bytes = memory_bytes
    worker.gpu = gpu
    worker.unavailable = unavailable
    worker.clock_skew_s = clock_skew_s
    if variants is not None:
        worker.variants = variants
    worker.heartbeat_at = tx.now
    return worker.drain_requested_at is not None


def request_drain(tx: Transaction, worker_id: str) -> Worker:
    """Request that a worker claims no more jobs, finishes or releases its running jobs, and exits.

    The worker learns of it with its next heartbeat. Idempotent; a worker that has stopped is left unchanged.

    Raises:
        WorkerNotFoundError: there is none of this id.
        TenantUnboundError: the transaction is not the platform's.
    """
    tx.require_platform()
    worker = tx.session.get(Worker, worker_id, with_for_update=True)
    if worker is None:
        raise WorkerNotFoundError(f"There is no worker {worker_id}.")
    if worker.drain_requested_at is None and worker.stopped_at is None:
        worker.drain_requested_at = tx.now
    return worker


def mark_worker_stopped(tx: Transaction, worker_id: str) -> None:
    """Record that a worker has exited in an orderly way."""
    worker = tx.session.get(Worker, worker_id)
    if worker is not None:
        worker.state = WorkerState.STOPPED
        worker.stopped_at = tx.now


@dataclass(frozen=True)
class Capacity:
    """Slots of the live workers that run a variant: in total, free, and busy with jobs of this variant."""

    slots: int = 0
    free: int = 0
    busy_with_variant: int = 0

    @property
    def window(self) -> int:
        """How many jobs may be enqueued for the variant: one for each free slot.

        When all slots are busy, but some with other variants, one job is enqueued for the next free slot: otherwise a
        variant that is always busy would starve the others.
        """
        return max(self.free, 1 if self.busy_with_variant < self.slots else 0)


def capacities(tx: Transaction, *, heard_within_s: float) -> dict[str, Capacity]:
    """Return the capacity of the live workers that take jobs, by variant. One of several variants counts for each.

    Args:
        heard_within_s: a worker is live for this many seconds after its last heartbeat.
    """
    tx.require_platform()
    running: dict[str, Counter[str]] = {}
    counted = select(Job.worker_id, Job.variant, func.count()).where(RUNNING).group_by(Job.worker_id, Job.variant)
    for worker_id, variant, number in tx.session.execute(counted):
        running.setdefault(str(worker_id), Counter())[variant] = number
    horizon = tx.now - timedelta(seconds=heard_within_s)
    live = select(Worker).where(
        Worker.heartbeat_at > horizon,
        Worker.stopped_at.is_(None),
        Worker.drain_requested_at.is_(None),
        Worker.state.in_([WorkerState.STARTING, WorkerState.READY]),
    )
    found: dict[str, Capacity] = {}
    for worker in tx.session.scalars(live):
        if worker.unavailable is not None:
            continue  # a message for it would only come back
        busy = running.get(worker.id, Counter())
        for variant in worker.variants:
            others = found.get(variant, Capacity())
            found[variant] = Capacity(
                others.slots + worker.slots,
                others.free + max(0, worker.slots - busy.total()),
                others.busy_with_variant + busy[variant],
            )
    return found


def mark_lost_workers(tx: Transaction, *, lost_after_s: float) -> list[str]:
    """Mark workers without a heartbeat for `lost_after_s` seconds as lost; return their ids.

    A later heartbeat replaces the state.
    """
    silent = (
        update(Worker)
        .where(
            Worker.heartbeat_at < tx.now - timedelta(seconds=lost_after_s),
            Worker.stopped_at.is_(None),
            Worker.state != WorkerState.LOST,
        )
        .values(state=WorkerState.LOST)
        .returning(Worker.id)
    )
    return list(tx.session.scalars(silent))


def prune_workers(tx: Transaction, *, kept_s: float) -> None:
    """Delete workers whose last heartbeat is older than `kept_s` seconds."""
    tx.session.execute(delete(Worker).where(Worker.heartbeat_at < tx.now - timedelta(seconds=kept_s)))


def variants_loaded_elsewhere(tx: Transaction, worker_id: str, *, heard_within_s: float = 15.0) -> set[str]:
    """Return the variants that other live workers run and have loaded."""
    horizon = tx.now - timedelta(seconds=heard_within_s)
    query = select(Worker).where(
        Worker.id != worker_id,
        Worker.heartbeat_at > horizon,
        Worker.stopped_at.is_(None),
        Worker.state == WorkerState.READY,
    )
    return {
        variant
        for worker in tx.session.scalars(query)
        for variant in worker.variants_loaded
        if variant in worker.variants
    }


def oldest_enqueued_age_s(tx: Transaction) -> dict[str, float]:
    """Return the age in seconds of the oldest published job of each variant that no worker has claimed yet."""
    tx.require_platform()
    query = (
        select(Job.variant, func.min(Job.published_at).label("since"))
        .where(Job.published_at.is_not(None))
        .group_by(Job.variant)
    )
    return {row.variant: (tx.now - row.since).total_seconds() for row in tx.session.execute(query)}
