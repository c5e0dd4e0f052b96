"""What every attempt of a worker process uses, and what one attempt has produced so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jobs.db.database import Database
from jobs.lifecycle import Stage
from jobs.service.attempts import NewArtifact
from jobs.settings import Settings
from jobs.storage.protocol import ObjectStore
from mmaudio_model.media.media_warning import MediaWarning
from workers.disk_full import DiskFullLog
from workers.engine.engine import Engine
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.job_features import Revision
from workers.media.sandbox import MediaSandbox
from workers.runner.active_jobs import ActiveJob
from workers.runner.attempt_errors import AttemptErrors
from workers.runner.availability import Availability
from workers.runner.delivery import AttemptDelivery
from workers.runner.eta import EtaEstimator

Report = Callable[[ActiveJob, Stage, float, int | None, float | None], None]
"""Called with the job, the stage, the fraction of it that is done, the sampling step and the estimated seconds left."""


@dataclass(frozen=True)
class WorkerContext:
    """What every attempt of this process uses."""

    settings: Settings
    db: Database
    store: ObjectStore
    engine: Engine
    sandbox: MediaSandbox
    report: Report
    features: FeatureCache
    revision: Revision
    eta: EtaEstimator = field(default_factory=EtaEstimator)
    disk_full: DiskFullLog = field(default_factory=DiskFullLog)
    availability: Availability = field(default_factory=lambda: Availability({}, variants=[], worker_id=""))

    @cached_property
    def errors(self) -> AttemptErrors:
        """Tells the platform's trouble from a job's fault."""
        return AttemptErrors(self.availability, self.disk_full, self.settings.scratch_dir)


@dataclass
class AttemptOutput:
    """What an attempt has produced so far: also what must be deleted when it is dropped."""

    artifacts: list[NewArtifact] = field(default_factory=list)
    previews: list[NewArtifact] = field(default_factory=list)
    stored_keys: list[str] = field(default_factory=list)
    preview_keys: list[str] = field(default_factory=list)
    delivery: AttemptDelivery | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    def warn(self, code: str, message: str) -> None:
        """Add a warning to the job, once."""
        if not any(known["code"] == code and known["message"] == message for known in self.warnings):
            self.warnings.append({"code": code, "message": message})

    def warn_of(self, warnings: Iterable[MediaWarning]) -> None:
        """Add warnings about media to the job, each once."""
        for warning in warnings:
            self.warn(str(warning.code), warning.text)
