"""From rows to what callers see. Clients follow the links that are given here; they never build one."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from api.context import AppContext
from jobs.db.database import Transaction
from jobs.db.tables import Artifact, Job, JobAttempt, Upload
from jobs.lifecycle import State
from jobs.service.artifacts import artifact_expired, artifacts_by_job
from jobs.service.queries import attempts_by_job
from jobs.service.scheduling.queue_stats import queue_position

# Signed links change once in this time only, so that an unchanged job stays the same document.
LINK_STEP_S = 600


def iso(time: datetime | None) -> str | None:
    """Return a UTC time as callers see it."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z") if time is not None else None


def present_job(ctx: AppContext, job_id: str) -> dict[str, Any]:
    """Return a job by its id."""
    with ctx.db.reading() as tx:
        return JobPresenter(ctx, tx).job(tx.session.get_one(Job, job_id))


class JobPresenter:
    """Presents jobs as they are in one transaction."""

    def __init__(self, ctx: AppContext, tx: Transaction) -> None:
        self._ctx, self._tx = ctx, tx
        self._base = ctx.settings.public_url.rstrip("/")

    def job(self, job: Job) -> dict[str, Any]:
        """Return one job, with its place in the queue."""
        artifacts = artifacts_by_job(self._tx, [job.id])[job.id] if job.state is State.SUCCEEDED else []
        attempts = attempts_by_job(self._tx, [job.id])[job.id] if job.attempt else []
        return self._document(job, artifacts, attempts, queue_position(self._tx, job))

    def jobs(self, jobs: list[Job]) -> list[dict[str, Any]]:
        """Return a page of jobs. Places in the queue are left out: each would cost a count of its own."""
        ids = [job.id for job in jobs]
        artifacts, attempts = artifacts_by_job(self._tx, ids), attempts_by_job(self._tx, ids)
        return [self._document(job, artifacts[job.id], attempts[job.id], None) for job in jobs]

    @staticmethod
    def etag_of(document: dict[str, Any]) -> str:
        """Return a validator that changes whenever the document does."""
        return hashlib.sha256(repr(document).encode()).hexdigest()[:32]

    def _document(
        self, job: Job, artifacts: list[Artifact], attempts: list[JobAttempt], position: int | None
    ) -> dict[str, Any]:
        path = f"{self._base}/v1/jobs/{job.id}"
        return {
            "id": job.id,
            "state": str(job.state),
            "stage": str(job.stage) if job.stage else None,
            "progress": round(job.progress, 4),
            "step": job.step,
            "eta_s": job.eta_s if job.state is State.RUNNING else None,
            "queue_position": position,
            "attempt": job.attempt,
            "max_attempts": job.max_attempts,
            "attempts": [_attempt(attempt) for attempt in attempts],
            "request": job.request,
            "error": job.error,
            "warnings": job.warnings,
            "timings": job.timings,
            "artifacts": [self._artifact(artifact) for artifact in artifacts],
            "preview": None,
            "worker": job.worker_id,
            "retry_of": job.retry_of,
            "cancel_requested": job.cancel_requested_at is not None,
            "created_at": iso(job.created_at),
            "started_at": iso(job.started_at),
            "finished_at": iso(job.finished_at),
            "links": {
                "self": path,
                "events": None,
                "cancel": None if job.state.is_terminal else f"{path}/cancel",
                "retry": f"{path}/retry" if job.state.is_terminal else None,
            },
        }

    def _artifact(self, artifact: Artifact) -> dict[str, Any]:
        expired = artifact_expired(artifact, self._tx.now)
        path = f"/v1/jobs/{artifact.job_id}/artifacts/{quote(artifact.name)}"
        return {
            "name": artifact.name,
            "kind": artifact.kind,
            "format": artifact.format,
            "url": None if expired else self._signed(path),
            "size_bytes": artifact.size_bytes,
            "sha256": artifact.sha256,
            "duration_s": artifact.duration_s,
            "sample_index": artifact.sample_index,
            "seed": artifact.seed,
            "delivered_to": artifact.delivered_to,
            "expires_at": iso(artifact.expires_at),
            "expired": expired,
        }

    def _signed(self, path: str) -> str:
        until = self._tx.now + timedelta(seconds=self._ctx.settings.signed_url_ttl_s)
        step = timedelta(seconds=LINK_STEP_S)
        until += step - (until - datetime.min.replace(tzinfo=until.tzinfo)) % step
        return f"{self._base}{path}?{self._ctx.signer.query('GET', path, until)}"


def _attempt(attempt: JobAttempt) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "worker": attempt.worker_id,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "outcome": attempt.outcome,
        "error": attempt.error,
    }


def present_upload(upload: Upload, now: datetime) -> dict[str, Any]:
    """Return an upload without the way to fill it."""
    if upload.deleted_at is not None or upload.expires_at <= now:
        state = "expired"
    else:
        state = "ready" if upload.checked_at is not None else "pending"
    return {
        "id": upload.id,
        "state": state,
        "filename": upload.filename,
        "content_type": upload.content_type,
        "size_bytes": upload.size_bytes,
        "sha256": upload.sha256,
        "created_at": iso(upload.created_at),
        "expires_at": iso(upload.expires_at),
    }
