"""How an attempt waits for its takes, with a real engine and a fake model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.db.database import Database
from jobs.errors import DeviceOutOfMemoryError
from jobs.lifecycle import ArtifactKind, Stage, overall_progress
from jobs.request import JobRequest
from jobs.service.attempts import Claim
from jobs.settings import Settings
from jobs.storage.errors import StorageUnavailableError
from jobs.storage.factory import open_store
from jobs.storage.local import LocalStore
from local_services.commands import wait_until
from mmaudio_model.media.probe import MediaLimits
from tests.unit.workers.models import CountingModel, engine_of
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.disk import DiskFeatureStore
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.runner.active_jobs import ActiveJob, StoppedError, StopReason
from workers.runner.attempt import AttemptPipeline
from workers.runner.eta import EtaEstimator
from workers.runner.worker_context import WorkerContext


@dataclass
class AttemptHarness:
    """Text-only jobs, their engine, and the recorded progress."""

    settings: Settings
    model: CountingModel = field(default_factory=CountingModel)
    reports: list[tuple[Stage, float, int | None]] = field(default_factory=list)
    etas: list[float | None] = field(default_factory=list)
    eta: EtaEstimator = field(default_factory=EtaEstimator)
    stop_in: Stage | None = None

    def __post_init__(self) -> None:
        self.engine = engine_of(lambda variant: self.model, max_batch=self.settings.max_batch)

    def report(
        self, active_job: ActiveJob, stage: Stage, fraction: float, step: int | None, eta_s: float | None = None
    ) -> None:
        self.etas.append(eta_s)
        self.reports.append((stage, fraction, step))
        if stage is self.stop_in:
            active_job.stop(StopReason.DRAINED)

    def job(self, job_id: str = "job_1", **fields: Any) -> AttemptPipeline:
        request = JobRequest(**{"prompt": "rain", "seed": 1, "num_steps": 4, "audio_format": "wav", **fields})
        claim = Claim(
            job_id=job_id,
            attempt=1,
            worker_id="worker-1",
            tenant="default",
            variant="tiny_16k",
            request=request.model_dump(mode="json"),
            input_key=None,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
            queued_s=0.0,
        )
        sandbox = MediaSandbox(MediaLimits(), SandboxLimits(), self.settings.data_dir / "scratch")
        active_job = ActiveJob(claim, on_stop=sandbox.stop)
        no_database = cast(Database, None)  # a text-only job writes nothing to it
        store = open_store(self.settings)
        context = WorkerContext(
            self.settings,
            no_database,
            store,
            self.engine,
            sandbox,
            self.report,
            FeatureCache(DiskFeatureStore(self.settings.data_dir / "features", max_bytes=10**6), store, ttl_s=3600),
            lambda variant, parts: "revision 1",
            self.eta,
        )
        return AttemptPipeline(active_job, context)


@pytest.fixture
def harness(tmp_path: Path) -> AttemptHarness:
    return AttemptHarness(Settings(data_dir=tmp_path, scratch_dir=tmp_path, max_batch=1))


def test_takes_have_seeds_of_their_own_and_become_files_in_their_order(harness: AttemptHarness) -> None:
    harness.engine.start()
    output = harness.job(num_samples=3).run()
    harness.engine.close()

    assert harness.model.batches == [[1], [2], [3]]
    assert [(artifact.name, artifact.seed) for artifact in output.artifacts] == [
        ("audio-1.wav", 1),
        ("audio-2.wav", 2),
        ("audio-3.wav", 3),
    ]
    assert output.stored_keys == [f"jobs/job_1/1/audio-{take}.wav" for take in (1, 2, 3)]
    assert {"encode_s", "sample_s", "vocode_s", "device_wait_s", "mux_s", "upload_s"} <= set(output.timings)


def test_takes_that_are_a_constant_are_named_in_a_warning(harness: AttemptHarness) -> None:
    harness.engine.start()
    # The sound of the fake model is (seed, number of steps), so the second take is one.
    output = harness.job(seed=3, num_samples=2, num_steps=4).run()
    alone = harness.job(seed=4, num_steps=4).run()
    harness.engine.close()

    def texts(warnings: list[dict[str, str]]) -> list[str]:
        return [warning["message"] for warning in warnings if warning["code"] == "silent"]

    assert texts(output.warnings) == ["Take 2 is silent; try another seed or prompt."]
    assert texts(alone.warnings) == ["The sound is silent; try another seed or prompt."]


@pytest.mark.timeout(30)
def test_a_job_that_is_stopped_while_the_device_is_busy_with_others_ends_at_once(harness: AttemptHarness) -> None:
    # The engine was never started: it is as busy as can be.
    harness.stop_in = Stage.ENCODE

    with pytest.raises(StoppedError, match="drained"):
        harness.job(num_samples=3).run()

    harness.engine.start()
    harness.engine.close()
    assert harness.model.batches == []


def test_a_job_waits_for_the_device_until_the_device_takes_it(harness: AttemptHarness) -> None:
    run, seen = harness.job(), list[bool]()
    harness.model.during_step = lambda step: seen.append(run.active_job.waits_for_device)
    with ThreadPoolExecutor(1) as pool:
        output = pool.submit(run.run)
        # The engine has not begun: it is as busy as can be.
        wait_until(lambda: run.active_job.waits_for_device, within_s=30, what="a job that waits for the device")
        harness.engine.start()
        output.result(timeout=30)
    harness.engine.close()

    assert seen == [False] * 4
    assert not run.active_job.waits_for_device


@pytest.mark.timeout(30)
def test_a_job_that_is_stopped_while_it_is_sampled_takes_no_further_step(harness: AttemptHarness) -> None:
    harness.stop_in = Stage.SAMPLE
    run = harness.job(num_samples=1, num_steps=100)
    harness.engine.start()

    with pytest.raises(StoppedError, match="drained"):
        run.run()
    harness.engine.close()

    # It was reported, and so stopped, when its sampling began.
    assert harness.model.steps == {1: 1}
    assert run.stage is Stage.SAMPLE


@pytest.mark.timeout(30)
def test_a_take_that_cannot_be_made_ends_the_job_with_its_own_error(harness: AttemptHarness) -> None:
    harness.model.fits = 0
    run = harness.job(num_samples=3)
    harness.engine.start()

    with pytest.raises(DeviceOutOfMemoryError):
        run.run()
    harness.engine.close()

    assert run.output.stored_keys == []


def test_a_job_reports_the_take_that_is_furthest_behind_and_never_goes_back(harness: AttemptHarness) -> None:
    run = harness.job(num_samples=2)
    harness.engine.start()
    run.run()
    harness.engine.close()

    progress = [overall_progress(stage, fraction) for stage, fraction, _ in harness.reports]
    assert progress == sorted(progress)
    first_step = next(place for place, (_, _, step) in enumerate(harness.reports) if step == 1)
    # The first take makes seven calls before the second one starts.
    encode_began = next(place for place, (stage, _, _) in enumerate(harness.reports) if stage is Stage.ENCODE)
    assert first_step > encode_began + 7
    assert harness.reports[-1] == (Stage.UPLOAD, 1.0, None)


def test_nothing_of_a_job_stays_on_this_machine(harness: AttemptHarness) -> None:
    harness.engine.start()
    harness.job().run()
    harness.engine.close()

    assert [path.name for path in harness.settings.data_dir.iterdir() if path.name.startswith("mmaudio-job-")] == []


def test_a_second_job_of_the_same_words_has_nothing_encoded_and_knows_when_it_ends(harness: AttemptHarness) -> None:
    harness.engine.start()
    harness.job(seed=1).run()
    assert set(harness.etas[:3]) == {None}  # nothing was measured yet
    harness.etas.clear()
    harness.job("job_2", seed=2).run()
    harness.engine.close()

    assert harness.model.encoded == ["rain"]
    assert None not in harness.etas
    assert harness.etas[-1] == 0.0


def test_each_take_has_a_preview_of_its_own(harness: AttemptHarness) -> None:
    harness.engine.start()
    output = harness.job(num_samples=2, seed=5).run()
    harness.engine.close()

    assert [(one.name, one.kind, one.take, one.seed) for one in output.previews] == [
        ("preview-1.png", ArtifactKind.PREVIEW, 0, 5),
        ("preview-2.png", ArtifactKind.PREVIEW, 1, 6),
    ]
    store = open_store(harness.settings)
    for preview in output.previews:
        assert store.head(preview.storage_key).sha256 == preview.sha256
        assert preview.detail is not None
        assert preview.detail["peaks"]["length"] > 0
        assert preview.delivered_to is None


def test_a_preview_that_cannot_be_made_is_a_warning(harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_sound: object) -> None:
        raise MemoryError

    monkeypatch.setattr("workers.runner.preview.spectrogram_of", fail)
    harness.engine.start()
    output = harness.job().run()
    harness.engine.close()
    assert (len(output.artifacts), output.previews) == (1, [])
    assert "preview_failed" in [warning["code"] for warning in output.warnings]


def test_a_preview_that_cannot_be_stored_is_a_warning(harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    put_file = LocalStore.put_file

    def refuse(store: LocalStore, key: str, *args: Any, **named: Any) -> Any:
        if "preview" in key:
            raise StorageUnavailableError("away", "local")
        return put_file(store, key, *args, **named)

    monkeypatch.setattr(LocalStore, "put_file", refuse)
    harness.engine.start()
    output = harness.job().run()
    harness.engine.close()
    assert (len(output.artifacts), output.previews) == (1, [])
    assert "preview_failed" in [warning["code"] for warning in output.warnings]
