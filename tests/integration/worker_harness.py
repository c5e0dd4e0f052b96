"""A worker without a process around it: its own code, a real bucket, SQLite, a folder, a model that only counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.api_keys.scope import DEFAULT_TENANT
from jobs.db.database import Database
from jobs.db.tables import Artifact, Job
from jobs.lifecycle import Stage
from jobs.request import JobRequest
from jobs.service.artifacts import artifacts_by_job
from jobs.service.cancellation import cancel
from jobs.service.queries import get_job, job_attempts
from jobs.service.submission import SubmitPolicy, submit
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.s3.store import S3Store
from local_services.faulty_http import FaultSchedule
from mmaudio_model.media.probe import MediaLimits
from tests.contract.domain.conftest import FakeQueue
from tests.unit.workers.models import CountingModel, engine_of
from workers.checks import make_checks
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.disk import DiskFeatureStore
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.runner.active_jobs import ActiveJob, ActiveJobs, StopReason
from workers.runner.availability import Availability
from workers.runner.executor import JobExecutor
from workers.runner.reporter import Reporter
from workers.runner.worker_context import WorkerContext


@dataclass
class WorkerHarness:
    """Runs jobs of two takes; `cancel_in` cancels the job when it comes to that stage."""

    settings: Settings
    db: Database
    schedule: FaultSchedule
    theirs: S3Store
    cancel_in: Stage | None = None

    def __post_init__(self) -> None:
        self.store = open_store(self.settings)
        self.engine = engine_of(lambda variant: CountingModel(), max_batch=4)
        self.engine.start()
        checks = make_checks(self.settings, self.db, worker_id="w", torch_device="cpu")
        self.availability = Availability(checks, variants=["tiny_16k"], worker_id="w")
        self.availability.start()
        self.active_jobs = active_jobs = ActiveJobs()
        reporter = Reporter(
            self.db, active_jobs, worker_id="w", lease_s=12, heartbeat_s=4, state=str, loaded=list, memory=lambda: None
        )
        self.sandbox = MediaSandbox(MediaLimits(), SandboxLimits(), self.settings.data_dir)
        features = FeatureCache(DiskFeatureStore(self.settings.data_dir / "features", max_bytes=0), self.store, ttl_s=0)
        context = WorkerContext(
            self.settings,
            self.db,
            self.store,
            self.engine,
            self.sandbox,
            self.report,
            features,
            lambda variant, parts: "revision 1",
            availability=self.availability,
        )
        queue: Any = FakeQueue()
        self.runner = JobExecutor(context, queue, active_jobs, reporter, worker_id="w")

    def close(self) -> None:
        self.availability.close()
        self.engine.close()
        self.sandbox.close()

    def cancel(self, job_id: str) -> None:
        """Cancel a running job, as the reporter does when it hears of it."""
        with self.db.transaction() as tx:
            cancel(tx, job_id)
        for active_job in self.active_jobs.all():
            active_job.stop(StopReason.CANCELED)

    def report(self, active_job: ActiveJob, stage: Stage, fraction: float, *_: Any) -> None:
        if stage is self.cancel_in and fraction > 0:
            with self.db.transaction() as tx:
                cancel(tx, active_job.claim.job_id)
            active_job.stop(StopReason.CANCELED)

    def submit(self, output: str | None = None) -> str:
        request = JobRequest(prompt="rain", seed=1, num_steps=2, audio_format="wav", num_samples=2, deliver_to=output)
        policy = SubmitPolicy.from_settings(self.settings, ("tiny_16k",))
        with self.db.of_tenant(DEFAULT_TENANT).transaction() as tx:
            return submit(tx, request, policy=policy).job.id

    def run(self, output: str | None = None) -> Job:
        job_id = self.submit(output)
        self.runner.run(job_id)
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        with self.db.reading() as tx:
            return get_job(tx, job_id)

    def failures(self, job_id: str) -> list[tuple[str, str | None]]:
        """Return how the attempts ended badly: code and stage."""
        with self.db.reading() as tx:
            return [(a.error["code"], a.error["stage"]) for a in job_attempts(tx, job_id) if a.error is not None]

    def artifacts(self, job: Job) -> list[Artifact]:
        with self.db.reading() as tx:
            return artifacts_by_job(tx, [job.id])[job.id]

    def delivered(self) -> list[str]:
        return list(self.theirs.list_keys(""))

    def kept(self) -> list[str]:
        return [key for key in self.store.list_keys("jobs/") if "/preview" not in key]
