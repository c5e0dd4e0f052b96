"""Jobs that deliver to a caller's own bucket: the worker's own code, a real bucket, a model that only counts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from jobs.db.database import Database
from jobs.db.tables import Artifact, Job
from jobs.errors import RequestInvalidError
from jobs.lifecycle import Stage, State
from jobs.request import JobRequest
from jobs.service.cancel import cancel
from jobs.service.queries import get_job, job_artifacts
from jobs.service.submission import SubmitPolicy, submit
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.s3 import S3Store
from migrations.upgrade import upgrade
from mmaudio_model.media.probe import MediaLimits
from tests.contract.domain.conftest import RememberingBelt
from tests.servers.faulty_http import Fault, Weather, faulty_proxy
from tests.servers.s3 import CREDENTIALS
from tests.unit.workers.models import CountingModel
from workers.engine import Engine
from workers.in_hand import HeldJob, JobsInHand, StopReason
from workers.job_run import Tools
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.reporter import Reporter
from workers.tasks import JobRunner


@dataclass
class Desk:
    """One worker without a process around it; `cancel_in` cancels the job when it comes to that stage."""

    settings: Settings
    db: Database
    weather: Weather
    theirs: S3Store
    cancel_in: Stage | None = None

    def __post_init__(self) -> None:
        self.store = open_store(self.settings)
        self.engine = Engine(lambda variant: CountingModel(), max_batch=4)
        self.engine.start()
        in_hand = JobsInHand()
        reporter = Reporter(
            self.db, in_hand, worker_id="w", lease_s=12, heartbeat_s=4, state=str, loaded=list, memory=lambda: None
        )
        sandbox = MediaSandbox(MediaLimits(), SandboxLimits(), self.settings.data_dir)
        tools = Tools(self.settings, self.db, self.store, self.engine, sandbox, self.report)
        belt: Any = RememberingBelt()
        self.runner = JobRunner(tools, belt, in_hand, reporter, worker_id="w")

    def report(self, held: HeldJob, stage: Stage, fraction: float, step: int | None) -> None:
        if stage is self.cancel_in and fraction > 0:
            with self.db.transaction() as tx:
                cancel(tx, held.claim.job_id, tenant="t")
            held.stop(StopReason.CANCELED)

    def submit(self, output: str) -> str:
        request = JobRequest(prompt="rain", seed=1, num_steps=2, audio_format="wav", num_samples=2, output=output)
        policy = SubmitPolicy.from_settings(self.settings, ("tiny_16k",))
        with self.db.transaction() as tx:
            return submit(tx, request, tenant="t", policy=policy).job.id

    def run(self, output: str) -> Job:
        job_id = self.submit(output)
        self.runner.run(job_id)
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        with self.db.reading() as tx:
            return get_job(tx, job_id, tenant="t")

    def artifacts(self, job: Job) -> list[Artifact]:
        with self.db.reading() as tx:
            return job_artifacts(tx, [job.id])[job.id]

    def delivered(self) -> list[str]:
        return list(self.theirs.list_keys(""))

    def kept(self) -> list[str]:
        return list(self.store.list_keys(""))


@pytest.fixture
def theirs() -> str:
    return f"theirs-{uuid.uuid4().hex}"


@pytest.fixture
def desk(tmp_path: Path, s3_endpoint: str, theirs: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=theirs)
    weather = Weather()
    with faulty_proxy(s3_endpoint, weather) as url:
        settings = Settings(
            data_dir=tmp_path,
            scratch_dir=tmp_path / "scratch",
            variants=["tiny_16k"],
            s3_endpoint_url=url,
            s3_addressing_style="path",
            s3_max_attempts=2,
            output_buckets=[theirs, "no-such-bucket"],
        )
        upgrade(settings.database_url)
        db = Database(settings.database_url)
        store = S3Store(f"s3://{theirs}", endpoint_url=s3_endpoint, addressing_style="path")
        desk = Desk(settings, db, weather, store)
        yield desk
        desk.engine.close()
        db.close()


def test_files_lie_in_the_callers_bucket_and_in_the_platforms_store(desk: Desk, theirs: str) -> None:
    job = desk.run(f"s3://{theirs}/out/")
    assert job.state is State.SUCCEEDED, job.error
    names = ["audio-1.wav", "audio-2.wav"]
    assert desk.delivered() == [f"out/{job.id}/{name}" for name in names]
    assert desk.kept() == [f"jobs/{job.id}/1/{name}" for name in names]
    for artifact in desk.artifacts(job):
        assert artifact.delivered_to == f"s3://{theirs}/out/{job.id}/{artifact.name}"
        assert desk.theirs.head(f"out/{job.id}/{artifact.name}").sha256 == artifact.sha256


def test_a_bucket_that_the_operator_does_not_allow_is_refused_at_once(desk: Desk) -> None:
    with pytest.raises(RequestInvalidError, match="not one that this server delivers to") as caught:
        desk.submit("s3://somebody-elses/out/")
    assert [problem.field for problem in caught.value.problems] == ["output"]


def test_a_bucket_that_refuses_fails_the_job_with_a_sentence_and_leaves_nothing(desk: Desk, theirs: str) -> None:
    desk.weather.next_calls_fail("PUT", Fault.FORBIDDEN)
    for output in (f"s3://{theirs}/out/", "s3://no-such-bucket/"):
        job = desk.run(output)
        assert (job.state, job.error_code, job.attempt) == (State.FAILED, "output_refused", 1)
        assert job.error is not None
        assert output in job.error["message"]
        assert job.error["stage"] == "upload"
    assert (desk.delivered(), desk.kept()) == ([], [])


def test_a_name_that_is_taken_fails_the_job_and_leaves_theirs_alone(desk: Desk, theirs: str, tmp_path: Path) -> None:
    job_id = desk.submit(f"s3://{theirs}/")
    (tmp_path / "x").write_bytes(b"theirs")
    desk.theirs.put_file(f"{job_id}/audio-2.wav", tmp_path / "x", content_type="a/b")
    desk.runner.run(job_id)
    job = desk.job(job_id)
    assert (job.state, job.error_code) == (State.FAILED, "output_taken")
    assert desk.delivered() == [f"{job_id}/audio-2.wav"]  # the first file was withdrawn
    assert b"".join(desk.theirs.open_read(f"{job_id}/audio-2.wav")) == b"theirs"


def test_a_store_that_is_down_puts_the_job_back_into_the_queue(desk: Desk, theirs: str) -> None:
    desk.weather.next_calls_fail("PUT", Fault.ERROR_503, Fault.ERROR_503)
    job = desk.run(f"s3://{theirs}/out/")
    assert (job.state, job.attempt) == (State.QUEUED, 1)
    with desk.db.transaction() as tx:
        tx.session.get_one(Job, job.id).available_at = tx.now
    desk.runner.run(job.id)
    job = desk.job(job.id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    assert len(desk.delivered()) == 2


def test_a_cancel_in_the_middle_of_the_delivery_withdraws_it(desk: Desk, theirs: str) -> None:
    desk.cancel_in = Stage.UPLOAD
    job = desk.run(f"s3://{theirs}/out/")
    assert job.state is State.CANCELED
    assert (desk.delivered(), desk.kept()) == ([], [])
