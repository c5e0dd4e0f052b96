"""A worker without a process around it: its own code, a real bucket, SQLite, a folder, a model that only counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.db.database import Database
from jobs.db.tables import Artifact, Job
from jobs.lifecycle import Stage
from jobs.request import JobRequest
from jobs.service.cancel import cancel
from jobs.service.queries import get_job, job_artifacts, job_attempts
from jobs.service.submission import SubmitPolicy, submit
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.s3 import S3Store
from mmaudio_model.media.probe import MediaLimits
from tests.contract.domain.conftest import RememberingBelt
from tests.servers.faulty_http import Weather
from tests.unit.workers.models import CountingModel, engine_of
from workers.features.cache import FeatureCache
from workers.features.disk import DiskFeatures
from workers.in_hand import HeldJob, JobsInHand, StopReason
from workers.job_run import Tools
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.reporter import Reporter
from workers.tasks import JobRunner


@dataclass
class Desk:
    """Runs jobs of two takes; `cancel_in` cancels the job when it comes to that stage."""

    settings: Settings
    db: Database
    weather: Weather
    theirs: S3Store
    cancel_in: Stage | None = None

    def __post_init__(self) -> None:
        self.store = open_store(self.settings)
        self.engine = engine_of(lambda variant: CountingModel(), max_batch=4)
        self.engine.start()
        in_hand = JobsInHand()
        reporter = Reporter(
            self.db, in_hand, worker_id="w", lease_s=12, heartbeat_s=4, state=str, loaded=list, memory=lambda: None
        )
        self.sandbox = MediaSandbox(MediaLimits(), SandboxLimits(), self.settings.data_dir)
        features = FeatureCache(DiskFeatures(self.settings.data_dir / "features", max_bytes=0), self.store, ttl_s=0)
        tools = Tools(
            self.settings,
            self.db,
            self.store,
            self.engine,
            self.sandbox,
            self.report,
            features,
            lambda variant, parts: "revision 1",
        )
        belt: Any = RememberingBelt()
        self.runner = JobRunner(tools, belt, in_hand, reporter, worker_id="w")

    def report(self, held: HeldJob, stage: Stage, fraction: float, *_: Any) -> None:
        if stage is self.cancel_in and fraction > 0:
            with self.db.transaction() as tx:
                cancel(tx, held.claim.job_id, tenant="t")
            held.stop(StopReason.CANCELED)

    def submit(self, output: str | None = None) -> str:
        request = JobRequest(prompt="rain", seed=1, num_steps=2, audio_format="wav", num_samples=2, output=output)
        policy = SubmitPolicy.from_settings(self.settings, ("tiny_16k",))
        with self.db.transaction() as tx:
            return submit(tx, request, tenant="t", policy=policy).job.id

    def run(self, output: str | None = None) -> Job:
        job_id = self.submit(output)
        self.runner.run(job_id)
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        with self.db.reading() as tx:
            return get_job(tx, job_id, tenant="t")

    def failures(self, job_id: str) -> list[tuple[str, str | None]]:
        """Return how the attempts ended badly: code and stage."""
        with self.db.reading() as tx:
            return [(a.error["code"], a.error["stage"]) for a in job_attempts(tx, job_id) if a.error is not None]

    def artifacts(self, job: Job) -> list[Artifact]:
        with self.db.reading() as tx:
            return job_artifacts(tx, [job.id])[job.id]

    def delivered(self) -> list[str]:
        return list(self.theirs.list_keys(""))

    def kept(self) -> list[str]:
        return list(self.store.list_keys("jobs/"))
