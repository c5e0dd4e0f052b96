"""How a job waits for its takes: the engine is real, the model counts, nothing else is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.db.database import Database
from jobs.errors import DeviceOutOfMemoryError
from jobs.lifecycle import Stage, overall_progress
from jobs.request import JobRequest
from jobs.service.work import Claim
from jobs.settings import Settings
from jobs.storage.factory import open_store
from mmaudio_model.media.probe import MediaLimits
from tests.servers.commands import wait_until
from tests.unit.workers.models import CountingModel, engine_of
from workers.features.cache import FeatureCache
from workers.features.disk import DiskFeatures
from workers.in_hand import HeldJob, StoppedError, StopReason
from workers.job_run import JobRun, Tools
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.pace import Pace


@dataclass
class Desk:
    """One job of words alone, its engine, and what was reported of it."""

    settings: Settings
    model: CountingModel = field(default_factory=CountingModel)
    reports: list[tuple[Stage, float, int | None]] = field(default_factory=list)
    etas: list[float | None] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    stop_in: Stage | None = None

    def __post_init__(self) -> None:
        self.engine = engine_of(lambda variant: self.model, max_batch=self.settings.max_batch)

    def report(
        self, held: HeldJob, stage: Stage, fraction: float, step: int | None, eta_s: float | None = None
    ) -> None:
        self.etas.append(eta_s)
        self.reports.append((stage, fraction, step))
        if stage is self.stop_in:
            held.stop(StopReason.DRAINED)

    def job(self, job_id: str = "job_1", **fields: Any) -> JobRun:
        request = JobRequest(**{"prompt": "rain", "seed": 1, "num_steps": 4, "audio_format": "wav", **fields})
        claim = Claim(
            job_id=job_id,
            attempt=1,
            worker_id="worker-1",
            tenant="default",
            variant="tiny_16k",
            request=request.model_dump(mode="json"),
            input_key=None,
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
            queued_s=0.0,
        )
        sandbox = MediaSandbox(MediaLimits(), SandboxLimits(), self.settings.data_dir / "scratch")
        held = HeldJob(claim, on_stop=sandbox.stop)
        no_database = cast(Database, None)  # a job of words alone learns nothing that it would write down
        store = open_store(self.settings)
        tools = Tools(
            self.settings,
            no_database,
            store,
            self.engine,
            sandbox,
            self.report,
            FeatureCache(DiskFeatures(self.settings.data_dir / "features", max_bytes=10**6), store, ttl_s=3600),
            lambda variant, parts: "revision 1",
            self.pace,
        )
        return JobRun(held, tools)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Settings(data_dir=tmp_path, scratch_dir=tmp_path, max_batch=1))


def test_takes_have_seeds_of_their_own_and_become_files_in_their_order(desk: Desk) -> None:
    desk.engine.start()
    made = desk.job(num_samples=3).run()
    desk.engine.close()

    assert desk.model.batches == [[1], [2], [3]]
    assert [(artifact.name, artifact.seed) for artifact in made.artifacts] == [
        ("audio-1.wav", 1),
        ("audio-2.wav", 2),
        ("audio-3.wav", 3),
    ]
    assert made.stored_keys == [f"jobs/job_1/1/audio-{take}.wav" for take in (1, 2, 3)]
    assert {"encode_s", "sample_s", "vocode_s", "device_wait_s", "mux_s", "upload_s"} <= set(made.timings)


@pytest.mark.timeout(30)
def test_a_job_that_is_stopped_while_the_device_is_busy_with_others_ends_at_once(desk: Desk) -> None:
    # The engine was never started: it is as busy as can be.
    desk.stop_in = Stage.ENCODE

    with pytest.raises(StoppedError, match="drained"):
        desk.job(num_samples=3).run()

    desk.engine.start()
    desk.engine.close()
    assert desk.model.batches == []


def test_a_job_waits_for_the_device_until_the_device_takes_it(desk: Desk) -> None:
    run, seen = desk.job(), list[bool]()
    desk.model.during_step = lambda step: seen.append(run.held.waits_for_device)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(run.run)
        # The engine has not begun: it is as busy as can be.
        wait_until(lambda: run.held.waits_for_device, within_s=30, what="a job that waits for the device")
        desk.engine.start()
        made.result(timeout=30)
    desk.engine.close()

    assert seen == [False] * 4
    assert not run.held.waits_for_device


@pytest.mark.timeout(30)
def test_a_job_that_is_stopped_while_it_is_sampled_takes_no_further_step(desk: Desk) -> None:
    desk.stop_in = Stage.SAMPLE
    run = desk.job(num_samples=1, num_steps=100)
    desk.engine.start()

    with pytest.raises(StoppedError, match="drained"):
        run.run()
    desk.engine.close()

    # It was reported, and so stopped, when its sampling began.
    assert desk.model.steps == {1: 1}
    assert run.stage is Stage.SAMPLE


@pytest.mark.timeout(30)
def test_a_take_that_cannot_be_made_ends_the_job_with_its_own_error(desk: Desk) -> None:
    desk.model.fits = 0
    run = desk.job(num_samples=3)
    desk.engine.start()

    with pytest.raises(DeviceOutOfMemoryError):
        run.run()
    desk.engine.close()

    assert run.made.stored_keys == []


def test_a_job_tells_of_the_take_that_is_furthest_behind_and_never_goes_back(desk: Desk) -> None:
    run = desk.job(num_samples=2)
    desk.engine.start()
    run.run()
    desk.engine.close()

    told = [overall_progress(stage, fraction) for stage, fraction, _ in desk.reports]
    assert told == sorted(told)
    first_step = next(place for place, (_, _, step) in enumerate(desk.reports) if step == 1)
    # Seven calls tell of the first take, and only then does the second one begin.
    encode_began = next(place for place, (stage, _, _) in enumerate(desk.reports) if stage is Stage.ENCODE)
    assert first_step > encode_began + 7
    assert desk.reports[-1] == (Stage.UPLOAD, 1.0, None)


def test_nothing_of_a_job_stays_on_this_machine(desk: Desk) -> None:
    desk.engine.start()
    desk.job().run()
    desk.engine.close()

    assert [path.name for path in desk.settings.data_dir.iterdir() if path.name.startswith("mmaudio-job-")] == []


def test_a_second_job_of_the_same_words_has_nothing_encoded_and_knows_when_it_ends(desk: Desk) -> None:
    desk.engine.start()
    desk.job(seed=1).run()
    assert set(desk.etas[:3]) == {None}  # nothing was measured yet
    desk.etas.clear()
    desk.job("job_2", seed=2).run()
    desk.engine.close()

    assert desk.model.encoded == ["rain"]
    assert None not in desk.etas
    assert desk.etas[-1] == 0.0
