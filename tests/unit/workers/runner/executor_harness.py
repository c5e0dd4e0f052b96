"""A platform with one worker in this process: real database, store, engine and executor; model and queue are fakes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.lifecycle import WorkerState
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service.queries import job_attempts
from jobs.service.submission import SubmitPolicy, submit_and_commit
from jobs.settings import Settings
from jobs.storage.protocol import ObjectStore
from mmaudio_model.media.probe import MediaLimits
from tests.conftest import FakeClock
from tests.contract.domain.conftest import FakeQueue
from workers.disk_full import DiskFullLog
from workers.engine.engine import Engine
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.disk import DiskFeatureStore
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.runner.active_jobs import ActiveJobs
from workers.runner.availability import Availability
from workers.runner.executor import JobExecutor
from workers.runner.reporter import Reporter
from workers.runner.worker_context import Report, WorkerContext

TENANT = "default"


@dataclass
class ExecutorHarness:
    """Submits jobs and runs attempts; `report` is called with the progress of each attempt."""

    settings: Settings
    db: Database
    store: ObjectStore
    engine: Engine
    clock: FakeClock
    disk_full: DiskFullLog
    queue: FakeQueue = field(default_factory=FakeQueue)
    report: Report = lambda *_: None
    availability: Availability = field(default_factory=lambda: Availability({}, variants=["tiny_16k"], worker_id="w1"))

    def submit(self, **fields: Any) -> str:
        request = JobRequest(
            **{"prompt": "rain", "num_samples": 2, "num_steps": 2, "audio_format": "wav", **fields}  # type: ignore[arg-type]
        )
        policy = SubmitPolicy(variants=("tiny_16k",))
        return submit_and_commit(self.db.of_tenant(TENANT), request, policy=policy).job.id

    def executor(self) -> JobExecutor:
        sandbox = MediaSandbox(MediaLimits(), SandboxLimits(), self.settings.data_dir / "scratch")
        features = FeatureCache(
            DiskFeatureStore(self.settings.data_dir / "features", max_bytes=10**6), None, ttl_s=3600
        )
        context = WorkerContext(
            self.settings, self.db, self.store, self.engine, sandbox, self.report, features, lambda *_: "revision 1",
            disk_full=self.disk_full, availability=self.availability,
        )  # fmt: skip
        active_jobs = ActiveJobs()
        reporter = Reporter(
            self.db, active_jobs, worker_id="w1", lease_s=12, heartbeat_s=4,
            state=lambda: WorkerState.READY, loaded=list, memory=lambda: None,
        )  # fmt: skip
        return JobExecutor(context, cast(Broker, self.queue), active_jobs, reporter, worker_id="w1")

    def run(self, job_id: str) -> Job:
        """Run one attempt of a job; return the job."""
        self.executor().run(job_id)
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        with self.db.reading() as tx:
            return tx.session.get_one(Job, job_id)

    def error_codes(self, job_id: str) -> list[str]:
        """Return the error codes of a job's attempts."""
        with self.db.reading() as tx:
            return [attempt.error["code"] for attempt in job_attempts(tx, job_id) if attempt.error is not None]
