"""Checks a run as Jepsen's checkers do: compares the accepted requests with rows, events and objects at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from chaos.history import check_history
from chaos.ledger import INBOX, METADATA_KEY, Entry, Kind, Ledger
from chaos.spent_attempts import spent_attempts
from jobs.db.database import Database, Transaction
from jobs.db.tables import Artifact, Job, Upload, Worker
from jobs.lifecycle import State
from jobs.service.artifacts import artifacts_by_job
from jobs.service.queries import job_attempts, job_events
from jobs.storage.errors import ObjectNotFoundError
from jobs.storage.protocol import ATTEMPT_FIELD, ObjectStore

FINDINGS = ("failed", "spent", "lost", "duplicated", "unexpected", "caller_errors")
"""The lists that must be empty."""


@dataclass
class CheckResult:
    """The outcome of a run. Each list names the jobs.

    Attributes:
        failed: a valid request that ended as failed: whatever its code, the platform's own trouble cost a job.
        spent: jobs of which an attempt was counted although no worker process of it was killed or frozen.
        lost: accepted, but without a row, a final state or a readable artifact.
        duplicated: one request made two jobs, or one job was published twice.
        unexpected: a job that was not requested, a final state that the request does not allow, an illegal history.
        caller_errors: what callers could not do, although they retried.
        recovered: succeeded after more than one attempt, or after the submission was retried.
        orphaned_objects: objects that no row points at; `mmaudio doctor --fix` removes those of unsuccessful attempts.
        states: number of jobs by final state.
        outcomes: number of attempts by outcome.
    """

    submitted: int = 0
    accepted: int = 0
    failed: list[str] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    caller_errors: list[str] = field(default_factory=list)
    recovered: int = 0
    orphaned_objects: int = 0
    states: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def valid(self) -> bool:
        """Whether every request was accepted and there is nothing in any list."""
        return not any(getattr(self, name) for name in FINDINGS) and self.accepted == self.submitted

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {**vars(self), "valid": self.valid}


class Checker:
    """Reads rows, events and objects of a run whose jobs have finished.

    Args:
        delivered: the callers' bucket.
        max_attempts: of a job that was just submitted.
        hit: pids of the worker processes that were killed or frozen.
    """

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        delivered: ObjectStore | None,
        ledger: Ledger,
        *,
        max_attempts: int,
        hit: Set[int] = frozenset(),
    ) -> None:
        self._db, self._store, self._delivered, self._ledger = db, store, delivered, ledger
        self._max_attempts, self._hit = max_attempts, hit

    def unfinished_jobs(self) -> int:
        """Return the number of jobs that are queued or running."""
        with self._db.reading() as tx:
            query = select(func.count()).select_from(Job).where(Job.state.in_([State.QUEUED, State.RUNNING]))
            return tx.session.scalar(query) or 0

    def check(self) -> CheckResult:
        """Check every request and every job."""
        entries = {entry.key: entry for entry in self._ledger.entries}
        check_result = CheckResult(submitted=len(entries), accepted=len(self._ledger.accepted))
        check_result.caller_errors += self._ledger.caller_errors
        with self._db.reading() as tx:
            by_key: dict[str, list[Job]] = {}
            odd: list[Job] = []
            names = _upload_names(tx)
            for job in tx.session.scalars(select(Job)):
                key = job.request.get("metadata", {}).get(METADATA_KEY, "")
                if key == INBOX:
                    key = names.get(job.request.get("video") or "", "")
                    if key not in entries:
                        odd.append(job)
                        continue
                by_key.setdefault(key, []).append(job)
            self._check_odd(check_result, odd)
            for key, jobs in by_key.items():
                if key not in entries:
                    check_result.unexpected += [f"{job.id} was not requested" for job in jobs]
                elif len(jobs) > 1:
                    check_result.duplicated.append(f"{key} made {len(jobs)} jobs")
            pids: dict[str, int] = {row.id: row.pid for row in tx.session.execute(select(Worker.id, Worker.pid))}
            self._hit_workers = {worker_id for worker_id, pid in pids.items() if pid in self._hit}
            for entry in self._ledger.entries:
                self._check_entry(tx, check_result, entry, by_key.get(entry.key, []))
            published = set(tx.session.scalars(select(Artifact.storage_key)))
        check_result.orphaned_objects = sum(key not in published for key in self._store.list_keys("jobs/"))
        return check_result

    def _check_entry(self, tx: Transaction, check_result: CheckResult, entry: Entry, jobs: list[Job]) -> None:
        job = next((job for job in jobs if job.id == entry.job_id), jobs[0] if jobs else None)
        if job is None:
            if entry.from_inbox:
                check_result.lost.append(f"{entry.key} was put into the inbox and has no job")
            elif entry.job_id is not None:
                check_result.lost.append(f"{entry.key} was accepted as {entry.job_id}, which has no row")
            return
        name = f"{entry.key} ({entry.kind}, {job.id})"
        check_result.states[str(job.state)] += 1
        if not job.state.is_terminal:
            check_result.lost.append(f"{name} is still {job.state} in attempt {job.attempt}")
            return
        if not entry.allows(str(job.state), job.error_code):
            wrong = check_result.failed if job.state is State.FAILED else check_result.unexpected
            wrong.append(f"{name} ended {job.state}: {job.error}")
        check_result.unexpected += [f"{name}: {violation}" for violation in check_history(job, job_events(tx, job.id))]
        attempts = job_attempts(tx, job.id)
        check_result.outcomes.update(str(attempt.outcome) for attempt in attempts)
        spent = spent_attempts(job, attempts, max_attempts=self._max_attempts, hit=self._hit_workers)
        if spent:
            check_result.spent.append(f"{name}: {spent}")
        successes = sum(attempt.outcome == "succeeded" for attempt in attempts)
        if successes > 1:
            check_result.duplicated.append(f"{name} succeeded {successes} times")
        if (successes == 1) != (job.state is State.SUCCEEDED):
            check_result.unexpected.append(f"{name} is {job.state} and has {successes} successful attempts")
        if job.state is State.SUCCEEDED and (len(attempts) > 1 or entry.tries > 1):
            check_result.recovered += 1
        artifacts = artifacts_by_job(tx, [job.id])[job.id]
        self._check_artifacts(check_result, entry, job, artifacts, name)
        if entry.kind is Kind.DELIVERED:
            self._check_delivery(check_result, job, artifacts, name)

    def _check_odd(self, check_result: CheckResult, jobs: list[Job]) -> None:
        """Check the jobs of the inbox's files with odd names, which are good videos; each may also be refused."""
        if len(jobs) > self._ledger.odd_files:
            check_result.duplicated.append(f"{self._ledger.odd_files} files with odd names made {len(jobs)} jobs")
        for job in jobs:
            check_result.states[str(job.state)] += 1
            if job.state is State.FAILED:
                check_result.failed.append(f"inbox ({job.id}) ended failed: {job.error}")
            elif job.state is not State.SUCCEEDED:
                check_result.lost.append(f"inbox ({job.id}) is {job.state}")

    def _check_artifacts(
        self, check_result: CheckResult, entry: Entry, job: Job, rows: list[Artifact], name: str
    ) -> None:
        if job.state is not State.SUCCEEDED:
            check_result.unexpected += [f"{name} is {job.state} and has artifact {row.name}" for row in rows]
            return
        expected = entry.fields.get("num_samples", 1) * (2 if entry.kind is Kind.VIDEO else 1)
        if len(rows) != expected:
            check_result.lost.append(f"{name} has {len(rows)} artifacts, expected {expected}")
        for row in rows:
            if not row.storage_key.startswith(f"jobs/{job.id}/{job.attempt}/"):
                check_result.unexpected.append(f"{name}: {row.storage_key} is not of attempt {job.attempt}")
            try:
                found = self._store.head(row.storage_key)
            except ObjectNotFoundError:
                check_result.lost.append(f"{name}: {row.storage_key} does not exist")
                continue
            if (found.size_bytes, found.sha256) != (row.size_bytes, row.sha256):
                check_result.unexpected.append(f"{name}: {row.storage_key} does not match its row in size or SHA-256")

    def _check_delivery(self, check_result: CheckResult, job: Job, rows: list[Artifact], name: str) -> None:
        """Check that the caller's bucket holds exactly the files of the successful attempt."""
        assert self._delivered is not None
        delivered = {key: self._delivered.head(key) for key in self._delivered.list_keys(f"{job.id}/")}
        for row in rows:
            found = delivered.pop(f"{job.id}/{row.name}", None)
            if found is None or row.delivered_to is None:
                check_result.lost.append(f"{name}: {row.name} was not delivered")
            elif found.sha256 != row.sha256 or found.user_metadata.get(ATTEMPT_FIELD) != str(job.attempt):
                check_result.duplicated.append(f"{name}: {row.name} was delivered by another attempt")
        check_result.unexpected += [f"{name}: {key} was delivered but has no row" for key in delivered]


def _upload_names(tx: Transaction) -> dict[str, str]:
    return {row.id: row.filename for row in tx.session.execute(select(Upload.id, Upload.filename))}
