"""The register of worker processes: who is there, what they take, when they were last heard."""

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
    tx: Transaction, *, worker_id: str, hostname: str, pid: int, device: str, slots: int, variants: list[str]
) -> None:
    """Enter a worker that is starting."""
    tx.session.add(
        Worker(
            id=worker_id,
            hostname=hostname,
            pid=pid,
            device=device,
            state=WorkerState.STARTING,
            slots=slots,
            variants=variants,
            variants_loaded=[],
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
) -> bool:
    """Note that a worker lives, and how it is (`starting`, `ready` or `draining`); return whether it shall drain."""
    worker = tx.session.get(Worker, worker_id)
    if worker is None:
        return False  # it was silent so long that it was forgotten; its leases are what matters
    worker.state = state
    worker.variants_loaded = variants_loaded
    worker.memory_bytes = memory_bytes
    worker.gpu = gpu
    worker.heartbeat_at = tx.now
    return worker.drain_requested_at is not None


def request_drain(tx: Transaction, worker_id: str) -> Worker:
    """Ask a worker to take no more jobs, finish or hand back what it runs, and end; it hears with its next heartbeat.

    Asking again, or a worker that has ended already, changes nothing.

    Raises:
        WorkerNotFoundError: there is none of that id.
    """
    worker = tx.session.get(Worker, worker_id, with_for_update=True)
    if worker is None:
        raise WorkerNotFoundError(f"There is no worker {worker_id}.")
    if worker.drain_requested_at is None and worker.stopped_at is None:
        worker.drain_requested_at = tx.now
    return worker


def mark_worker_stopped(tx: Transaction, worker_id: str) -> None:
    """Note that a worker has ended by itself."""
    worker = tx.session.get(Worker, worker_id)
    if worker is not None:
        worker.state = WorkerState.STOPPED
        worker.stopped_at = tx.now


@dataclass(frozen=True)
class Capacity:
    """What the living workers hold of one variant: `slots` in all, of which `free` run nothing, `busy_here` run it."""

    slots: int = 0
    free: int = 0
    busy_here: int = 0

    @property
    def window(self) -> int:
        """How many jobs may lie on the variant's queue: one for each free slot.

        When all slots are busy and some of them with other variants, one job stands in line for the next slot, or a
        variant that is always busy would keep the others away.
        """
        return max(self.free, 1 if self.busy_here < self.slots else 0)


def capacities(tx: Transaction, *, heard_within_s: float) -> dict[str, Capacity]:
    """Return what the living workers could take now, by variant. A worker of several variants counts for each."""
    running: dict[str, Counter[str]] = {}
    counted = select(Job.worker_id, Job.variant, func.count()).where(RUNNING).group_by(Job.worker_id, Job.variant)
    for worker_id, variant, number in tx.session.execute(counted):
        running.setdefault(str(worker_id), Counter())[variant] = number
    horizon = tx.now - timedelta(seconds=heard_within_s)
    living = select(Worker).where(
        Worker.heartbeat_at > horizon,
        Worker.stopped_at.is_(None),
        Worker.drain_requested_at.is_(None),
        Worker.state.in_([WorkerState.STARTING, WorkerState.READY]),
    )
    found: dict[str, Capacity] = {}
    for worker in tx.session.scalars(living):
        here = running.get(worker.id, Counter())
        for variant in worker.variants:
            before = found.get(variant, Capacity())
            found[variant] = Capacity(
                before.slots + worker.slots,
                before.free + max(0, worker.slots - here.total()),
                before.busy_here + here[variant],
            )
    return found


def mark_lost_workers(tx: Transaction, *, lost_after_s: float) -> list[str]:
    """Note which workers fell silent, so that nothing waits for their slots; return their ids. One that is heard again
    says itself how it is."""
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
    """Remove workers that were last heard longer than `kept_s` seconds ago."""
    tx.session.execute(delete(Worker).where(Worker.heartbeat_at < tx.now - timedelta(seconds=kept_s)))


def variants_loaded_elsewhere(tx: Transaction, worker_id: str, *, heard_within_s: float = 15.0) -> set[str]:
    """Return the variants that other living workers, which take jobs for them, have in memory."""
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
    """Return how many seconds the oldest published job of each variant has waited to be taken."""
    query = (
        select(Job.variant, func.min(Job.published_at).label("since"))
        .where(Job.published_at.is_not(None))
        .group_by(Job.variant)
    )
    return {row.variant: (tx.now - row.since).total_seconds() for row in tx.session.execute(query)}
