"""What the domain's tests share: a policy, a queue in memory, and steps in transactions of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from jobs.db.database import Database, Transaction
from jobs.db.tables import Job
from jobs.queue import BrokerUnavailableError
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.attempts import Claim
from jobs.service.queries import get_job
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.workers import register_worker

TENANT = "default"


@dataclass
class FakeQueue:
    """A queue in memory with the behaviour that dispatch relies on; the real one is tested in integration."""

    messages: dict[str, list[str]] = field(default_factory=dict)
    down: bool = False

    def take(self, variant: str = "tiny_16k") -> str | None:
        """Remove and return the first message, as a worker does."""
        waiting = self.messages.get(variant, [])
        return waiting.pop(0) if waiting else None

    def publish(self, job_ids: list[str], *, variant: str) -> None:
        self._check()
        self.messages.setdefault(variant, []).extend(job_ids)

    def enqueued_job_ids(self, variant: str) -> set[str]:
        self._check()
        return set(self.messages.get(variant, []))

    def _check(self) -> None:
        if self.down:
            raise BrokerUnavailableError("the queue is switched off by the test")

    @property
    def published(self) -> list[str]:
        return [job_id for ids in self.messages.values() for job_id in ids]


@dataclass
class Steps:
    """Each step of a job's life in a transaction of its own."""

    db: Database
    policy: SubmitPolicy

    def submit(self, tenant: str = TENANT, **fields: Any) -> Job:
        with self.db.of_tenant(tenant).transaction() as tx:
            return submit(tx, JobRequest(**{"prompt": "rain", **fields}), policy=self.policy).job

    def submit_many(self, tx: Transaction, count: int, *, tenant: str) -> None:
        """Queue many jobs in one transaction."""
        with tx.as_tenant(tenant) as own:
            for _ in range(count):
                submit(own, JobRequest(prompt="rain"), policy=self.policy)

    def add_worker(self, worker_id: str = "worker-1", *, slots: int = 4, variants: tuple[str, ...] = ()) -> None:
        """Register a worker with free slots: jobs are published only for these."""
        with self.db.transaction() as tx:
            register_worker(
                tx, worker_id=worker_id, hostname="h", pid=1, device="cpu:0", slots=slots,
                variants=list(variants or self.policy.variants),
            )  # fmt: skip

    def claim(self, job_id: str, worker_id: str = "worker-1", lease_s: float = 12) -> Claim | None:
        with self.db.transaction() as tx:
            return attempts.claim(tx, job_id, worker_id=worker_id, lease_s=lease_s)

    def claimed(self, job_id: str, worker_id: str = "worker-1") -> Claim:
        claim = self.claim(job_id, worker_id)
        assert claim is not None
        return claim

    def complete(self, claim: Claim) -> bool:
        with self.db.transaction() as tx:
            return attempts.complete(tx, claim, [], warnings=[], timings={}, artifact_ttl_s=60)

    def job(self, job_id: str, tenant: str = TENANT) -> Job:
        with self.db.of_tenant(tenant).reading() as tx:
            return get_job(tx, job_id)


@pytest.fixture
def policy() -> SubmitPolicy:
    return SubmitPolicy(
        variants=("tiny_16k", "small_16k"),
        input_buckets=frozenset({"inbox"}),
        output_buckets=frozenset({"theirs"}),
        draw_seed=lambda: 7,
    )


@pytest.fixture
def steps(db: Database, policy: SubmitPolicy) -> Steps:
    return Steps(db, policy)


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()
