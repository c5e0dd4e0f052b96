"""Jobs that deliver to a caller's own bucket: the worker's own code, a real bucket, a model that only counts."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.db.tables import Job, JobAttempt
from jobs.errors import RequestInvalidError
from jobs.lifecycle import Stage, State
from jobs.service.cancellation import cancel
from jobs.service.maintenance import rescue_expired_leases
from jobs.service.retention import ATTEMPT_GRACE_S
from local_services.faulty_http import Fault
from tests.integration.worker_harness import WorkerHarness
from workers.maintenance.control import Control


def test_files_lie_in_the_callers_bucket_and_in_the_platforms_store(worker: WorkerHarness, theirs: str) -> None:
    job = worker.run(f"s3://{theirs}/out/")
    assert job.state is State.SUCCEEDED, job.error
    names = ["audio-1.wav", "audio-2.wav"]
    assert worker.delivered() == [f"out/{job.id}/{name}" for name in names]
    assert worker.kept() == [f"jobs/{job.id}/1/{name}" for name in names]
    for artifact in worker.artifacts(job):
        assert artifact.delivered_to == f"s3://{theirs}/out/{job.id}/{artifact.name}"
        assert worker.theirs.head(f"out/{job.id}/{artifact.name}").sha256 == artifact.sha256


def test_a_bucket_that_the_operator_does_not_allow_is_refused_at_once(worker: WorkerHarness) -> None:
    with pytest.raises(RequestInvalidError, match="does not deliver to bucket") as caught:
        worker.submit("s3://somebody-elses/out/")
    assert [problem.field for problem in caught.value.problems] == ["deliver_to"]


def test_a_bucket_that_refuses_fails_the_job_with_a_sentence_and_leaves_nothing(
    worker: WorkerHarness, theirs: str
) -> None:
    worker.schedule.next_calls_fail("PUT", Fault.FORBIDDEN)
    for output in (f"s3://{theirs}/out/", "s3://no-such-bucket/"):
        job = worker.run(output)
        assert (job.state, job.error_code, job.attempt) == (State.FAILED, "output_refused", 1)
        assert job.error is not None
        assert output in job.error["message"]
        assert job.error["stage"] == "upload"
    assert (worker.delivered(), worker.kept()) == ([], [])


def test_a_name_that_is_taken_fails_the_job_and_leaves_theirs_alone(
    worker: WorkerHarness, theirs: str, tmp_path: Path
) -> None:
    job_id = worker.submit(f"s3://{theirs}/")
    (tmp_path / "x").write_bytes(b"theirs")
    worker.theirs.put_file(f"{job_id}/audio-2.wav", tmp_path / "x", content_type="a/b")
    worker.runner.run(job_id)
    job = worker.job(job_id)
    assert (job.state, job.error_code) == (State.FAILED, "output_taken")
    assert worker.delivered() == [f"{job_id}/audio-2.wav"]  # the first file was withdrawn
    assert b"".join(worker.theirs.open_read(f"{job_id}/audio-2.wav")) == b"theirs"


def test_a_bucket_that_is_down_for_a_moment_costs_no_second_attempt(worker: WorkerHarness, theirs: str) -> None:
    worker.schedule.next_calls_fail("PUT", Fault.ERROR_503, Fault.ERROR_503)
    job = worker.run(f"s3://{theirs}/out/")
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    assert len(worker.delivered()) == 2


def test_a_bucket_that_stays_down_gives_the_job_back_unspent(impatient: WorkerHarness, theirs: str) -> None:
    impatient.schedule.next_calls_fail("PUT", Fault.ERROR_503, Fault.ERROR_503)
    job = impatient.run(f"s3://{theirs}/out/")
    assert (job.state, job.max_attempts - job.attempt) == (State.QUEUED, impatient.settings.max_attempts)
    assert impatient.availability.available  # the bucket of one caller stops no worker
    with impatient.db.transaction() as tx:
        tx.session.get_one(Job, job.id).available_at = tx.now
    impatient.runner.run(job.id)
    job = impatient.job(job.id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    assert len(impatient.delivered()) == 2


def test_a_cancel_in_the_middle_of_the_delivery_withdraws_it(worker: WorkerHarness, theirs: str) -> None:
    worker.cancel_in = Stage.UPLOAD
    job = worker.run(f"s3://{theirs}/out/")
    assert job.state is State.CANCELED
    assert (worker.delivered(), worker.kept()) == ([], [])


def test_what_a_killed_worker_delivered_for_a_job_that_is_canceled_is_removed(
    worker: WorkerHarness, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between delivery and commit: the files are there, and no row says so."""

    def killed(*_: object) -> None:
        raise SystemExit

    job_id = worker.submit(f"s3://{theirs}/out/")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(worker.runner, "_publish", killed)
        worker.runner.run(job_id)
    assert len(worker.delivered()) == 2
    with worker.db.transaction() as tx:
        cancel(tx, job_id)
        tx.session.get_one(Job, job_id).lease_expires_at = tx.now - timedelta(seconds=1)
    rescue_expired_leases(worker.db)
    assert worker.job(job_id).state is State.CANCELED
    control = Control(worker.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}), threading.Event())
    assert control.prune_once().attempts == 0
    with worker.db.transaction() as tx:
        earlier = tx.now - timedelta(seconds=ATTEMPT_GRACE_S + 1)
        tx.session.get_one(Job, job_id).finished_at = earlier
        tx.session.get_one(JobAttempt, (job_id, 1)).finished_at = earlier
    assert control.prune_once().attempts == 1
    assert (worker.delivered(), worker.kept()) == ([], [])
    control.close()
