"""Attempts at jobs with a video: real files, real media processes, a database; a model that makes a tone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.db.database import Database
from jobs.lifecycle import Stage
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import store_upload
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from mmaudio_model.features import Features
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.pipeline import GenerationRequest
from tests.databases import migrated_sqlite
from tests.unit.workers.models import CountingBatch, CountingModel, engine_of
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.disk import DiskFeatureStore
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.runner.active_jobs import ActiveJob
from workers.runner.attempt import AttemptPipeline
from workers.runner.worker_context import AttemptOutput, WorkerContext

RATE_HZ = 16_000


class ToneModel(CountingModel):
    """Makes a tone as long as the request; has visual features."""

    level = 0.1

    def encode(self, requests: Sequence[GenerationRequest]) -> CountingBatch:
        batch = super().encode(requests)
        batch.features = tuple(
            Features(clip=torch.zeros(1), sync=torch.zeros(1), text=torch.zeros(1)) for _ in requests
        )
        return batch

    def vocode(self, batch: CountingBatch) -> list[np.ndarray | None]:
        return [self._tone(request) for request in batch.requests]

    def _tone(self, request: GenerationRequest) -> np.ndarray:
        times = np.arange(round(request.duration_s * RATE_HZ)) / RATE_HZ
        tone: np.ndarray = (self.level * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
        return tone


@dataclass
class MediaAttempts:
    """Runs jobs in one thread; `calls` counts the media processes of each action."""

    folder: Path
    model: ToneModel = field(default_factory=ToneModel)
    calls: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = Settings(data_dir=self.folder, scratch_dir=self.folder / "scratch", max_batch=8)
        self.db = Database(migrated_sqlite(self.folder / "mmaudio.db")).of_platform()
        with self.db.transaction() as tx:
            register_worker(tx, worker_id="w", hostname="h", pid=1, device="cpu:0", slots=9, variants=["tiny_16k"])
        self.store = open_store(self.settings)
        self.engine = engine_of(lambda variant: self.model, max_batch=8)
        self.engine.start()
        self.sandbox = MediaSandbox(MediaLimits(), SandboxLimits(), self.folder / "media")
        answer = self.sandbox._calls.answer

        def counted(action: str, *arguments: Any, **named: Any) -> Any:
            self.calls.append(action)
            return answer(action, *arguments, **named)

        self.sandbox._calls.answer = counted  # type: ignore[method-assign]
        self.features = FeatureCache(DiskFeatureStore(self.folder / "features", max_bytes=10**6), None, ttl_s=3600)

    def close(self) -> None:
        self.engine.close()
        self.features.close()
        self.sandbox.close()
        self.db.close()

    def attempt(self, source: Path, *, kind: str = "video", **fields: Any) -> AttemptPipeline:
        """Return the attempt at a new job."""
        upload_id = store_upload(
            self.db.of_tenant("t"), self.store, source, filename=source.name, content_type="video/mp4", ttl_s=3600
        )
        request = JobRequest(**{kind: upload_id, "prompt": "rain", "seed": 1, "num_steps": 2, **fields})
        policy = SubmitPolicy.from_settings(self.settings, ("tiny_16k",))
        with self.db.of_tenant("t").transaction() as tx:
            job = submit(tx, request, policy=policy).job
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, job.id, worker_id="w", lease_s=600)
        assert claim is not None
        context = WorkerContext(
            self.settings,
            self.db,
            self.store,
            self.engine,
            self.sandbox,
            lambda job, stage, fraction, step, eta_s: self.stages.append(stage),
            self.features,
            lambda variant, parts: "revision 1",
        )
        return AttemptPipeline(ActiveJob(claim, on_stop=self.sandbox.stop), context)

    def run(self, source: Path, **fields: Any) -> AttemptOutput:
        return self.attempt(source, **fields).run()

    def file(self, output: AttemptOutput, name: str) -> Path:
        """Return a stored artifact as a file."""
        (artifact,) = [one for one in output.artifacts if one.name == name]
        path = self.folder / name
        self.store.download_to(artifact.storage_key, path)
        return path


def codes(output: AttemptOutput) -> list[str]:
    return [warning["code"] for warning in output.warnings if warning["code"] != "model_limits"]


def names(output: AttemptOutput) -> list[str]:
    return [artifact.name for artifact in output.artifacts]
