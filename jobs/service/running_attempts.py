"""What a worker writes and asks while attempts run: leases, cancels, progress. Their ends are in `attempts`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import case, select

from jobs.db.database import Transaction
from jobs.db.tables import Job
from jobs.lifecycle import EventKind, Stage, State, overall_progress
from jobs.service.transitions import append_event, update_where


@dataclass(frozen=True)
class Progress:
    """Progress of an attempt: `fraction` (0..1) of `stage`, the sampling step if any, the estimated seconds left."""

    job_id: str
    attempt: int
    stage: Stage
    fraction: float
    step: int | None = None
    eta_s: float | None = None


def renew_leases(
    tx: Transaction,
    leased: Iterable[tuple[str, int]],
    *,
    worker_id: str,
    lease_s: float,
    run_time_left_s: Mapping[str, float] | None = None,
) -> set[str]:
    """Extend the leases of (job, attempt) pairs; return the ids of the jobs whose lease this worker has lost.

    Args:
        run_time_left_s: by job id, how long its worker lets it run; a deadline in the row that is earlier moves there.
    """
    tx.require_platform()
    lost = set()
    for job_id, attempt in leased:
        values: dict[str, Any] = {"lease_expires_at": tx.now + timedelta(seconds=lease_s)}
        if run_time_left_s is not None and job_id in run_time_left_s:
            until = tx.now + timedelta(seconds=run_time_left_s[job_id])
            values["run_deadline_at"] = case((Job.run_deadline_at > until, Job.run_deadline_at), else_=until)
        if not update_where(
            tx,
            job_id,
            Job.state == State.RUNNING,
            Job.attempt == attempt,
            Job.worker_id == worker_id,
            values=values,
        ):
            lost.add(job_id)
    return lost


def cancel_requests(tx: Transaction, leased: Sequence[tuple[str, int]]) -> set[str]:
    """Return the ids of the jobs to stop: a cancel was requested, or the attempt is no longer current."""
    tx.require_platform()
    if not leased:
        return set()
    rows = tx.session.execute(
        select(Job.id, Job.attempt, Job.state, Job.cancel_requested_at).where(
            Job.id.in_([job_id for job_id, _ in leased])
        )
    )
    current = {row.id: row for row in rows}
    stop = set()
    for job_id, attempt in leased:
        row = current.get(job_id)
        if row is None or row.state is not State.RUNNING or row.attempt != attempt or row.cancel_requested_at:
            stop.add(job_id)
    return stop


def record_progress(tx: Transaction, reports: Iterable[Progress]) -> None:
    """Store progress. It never decreases within an attempt; a report of a lost attempt changes nothing."""
    tx.require_platform()
    for report in reports:
        progress = overall_progress(report.stage, report.fraction)
        before = tx.session.execute(
            select(Job.stage, Job.tenant).where(
                Job.id == report.job_id, Job.state == State.RUNNING, Job.attempt == report.attempt
            )
        ).one_or_none()
        changed = update_where(
            tx,
            report.job_id,
            Job.state == State.RUNNING,
            Job.attempt == report.attempt,
            Job.progress <= progress,
            values={
                "stage": report.stage,
                "progress": progress,
                "step": report.step,
                "eta_s": None if report.eta_s is None else round(report.eta_s, 1),
                "version": Job.version + 1,
            },
        )
        if changed and before is not None and before.stage != report.stage:
            data = {"stage": str(report.stage)}
            append_event(tx, report.job_id, EventKind.STAGE, report.attempt, data, tenant=before.tenant)
