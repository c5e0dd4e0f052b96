"""Judges a run as Jepsen's checkers do: what was accepted against what is there at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from chaos.history import illegal_events
from chaos.ledger import METADATA_KEY, Entry, Kind, Ledger
from jobs.db.database import Database, Transaction
from jobs.db.tables import Artifact, Job
from jobs.lifecycle import State
from jobs.service.artifacts import artifacts_by_job
from jobs.service.queries import job_attempts, job_events
from jobs.storage.delivery import ATTEMPT_FIELD
from jobs.storage.errors import ObjectNotFoundError
from jobs.storage.protocol import ObjectStore


@dataclass
class CheckResult:
    """What became of the jobs.

    Attributes:
        lost: accepted, and no row, no end, or no artifact that can be read.
        duplicated: one request made two jobs, or one job was published twice.
        unexpected: a job nobody asked for, an end that the request does not allow, a story that cannot be.
        recovered: ended well after more than one attempt, or submitted again after an answer that never came.
        left_over: objects of attempts that nobody points at; `mmaudio doctor --fix` removes them.
    """

    submitted: int = 0
    accepted: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    recovered: int = 0
    left_over: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected) and self.accepted == self.submitted

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "good": self.good}


class Checker:
    """Reads rows, events and objects of a run that has come to rest."""

    def __init__(self, db: Database, store: ObjectStore, delivered: ObjectStore | None, ledger: Ledger) -> None:
        self._db, self._store, self._delivered, self._ledger = db, store, delivered, ledger

    def unended(self) -> int:
        """Return how many jobs still wait or run."""
        with self._db.reading() as tx:
            query = select(func.count()).select_from(Job).where(Job.state.in_([State.QUEUED, State.RUNNING]))
            return tx.session.scalar(query) or 0

    def check(self) -> CheckResult:
        check_result = CheckResult(submitted=len(self._ledger.entries), accepted=len(self._ledger.accepted))
        with self._db.reading() as tx:
            by_key: dict[str, list[Job]] = {}
            for job in tx.session.scalars(select(Job)):
                by_key.setdefault(job.request.get("metadata", {}).get(METADATA_KEY, ""), []).append(job)
            entries = {entry.key: entry for entry in self._ledger.entries}
            for key, jobs in by_key.items():
                if key not in entries:
                    check_result.unexpected += [f"{job.id} was not asked for" for job in jobs]
                elif len(jobs) > 1:
                    check_result.duplicated.append(f"{key} made {len(jobs)} jobs")
            for entry in self._ledger.entries:
                self._check_entry(tx, check_result, entry, by_key.get(entry.key, []))
            published = set(tx.session.scalars(select(Artifact.storage_key)))
        check_result.left_over = sum(key not in published for key in self._store.list_keys("jobs/"))
        return check_result

    def _check_entry(self, tx: Transaction, check_result: CheckResult, entry: Entry, jobs: list[Job]) -> None:
        job = next((job for job in jobs if job.id == entry.job_id), jobs[0] if jobs else None)
        if job is None:
            if entry.job_id is not None:
                check_result.lost.append(f"{entry.key} was accepted as {entry.job_id}, which is not there")
            return
        name = f"{entry.key} ({entry.kind}, {job.id})"
        check_result.ends[str(job.state)] += 1
        if not job.state.is_terminal:
            check_result.lost.append(f"{name} is still {job.state} in attempt {job.attempt}")
            return
        if not entry.right_end(str(job.state), job.error_code):
            check_result.unexpected.append(f"{name} ended {job.state}: {job.error}")
        check_result.unexpected += [f"{name}: {fault}" for fault in illegal_events(job, job_events(tx, job.id))]
        attempts = job_attempts(tx, job.id)
        check_result.outcomes.update(str(attempt.outcome) for attempt in attempts)
        wins = sum(attempt.outcome == "succeeded" for attempt in attempts)
        if wins > 1:
            check_result.duplicated.append(f"{name} succeeded {wins} times")
        if (wins == 1) != (job.state is State.SUCCEEDED):
            check_result.unexpected.append(f"{name} is {job.state} and has {wins} attempts that succeeded")
        if job.state is State.SUCCEEDED and (len(attempts) > 1 or entry.tries > 1):
            check_result.recovered += 1
        artifacts = artifacts_by_job(tx, [job.id])[job.id]
        self._check_artifacts(check_result, entry, job, artifacts, name)
        if entry.kind is Kind.DELIVERED:
            self._check_delivery(check_result, job, artifacts, name)

    def _check_artifacts(
        self, check_result: CheckResult, entry: Entry, job: Job, rows: list[Artifact], name: str
    ) -> None:
        if job.state is not State.SUCCEEDED:
            check_result.unexpected += [f"{name} is {job.state} and has artifact {row.name}" for row in rows]
            return
        wanted = entry.fields.get("num_samples", 1) * (2 if entry.kind is Kind.VIDEO else 1)
        if len(rows) != wanted:
            check_result.lost.append(f"{name} has {len(rows)} artifacts of {wanted}")
        for row in rows:
            if not row.storage_key.startswith(f"jobs/{job.id}/{job.attempt}/"):
                check_result.unexpected.append(f"{name}: {row.storage_key} is not of attempt {job.attempt}")
            try:
                found = self._store.head(row.storage_key)
            except ObjectNotFoundError:
                check_result.lost.append(f"{name}: {row.storage_key} is not there")
                continue
            if (found.size_bytes, found.sha256) != (row.size_bytes, row.sha256):
                check_result.unexpected.append(f"{name}: {row.storage_key} is another file than the row says")

    def _check_delivery(self, check_result: CheckResult, job: Job, rows: list[Artifact], name: str) -> None:
        """What lies in the caller's bucket is what the rows say, of the attempt that won, and nothing else."""
        assert self._delivered is not None
        there = {key: self._delivered.head(key) for key in self._delivered.list_keys(f"{job.id}/")}
        for row in rows:
            found = there.pop(f"{job.id}/{row.name}", None)
            if found is None or row.delivered_to is None:
                check_result.lost.append(f"{name}: {row.name} was not delivered")
            elif found.sha256 != row.sha256 or found.user_metadata.get(ATTEMPT_FIELD) != str(job.attempt):
                check_result.duplicated.append(f"{name}: {row.name} was delivered by another attempt")
        check_result.unexpected += [f"{name}: {key} was delivered and is in no row" for key in there]
