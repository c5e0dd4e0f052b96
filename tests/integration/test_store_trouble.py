"""Trouble of the platform's store: no attempt is spent on it, and the worker takes no jobs until it is over."""

from __future__ import annotations

import threading

from jobs.lifecycle import AttemptOutcome, State
from jobs.request import JobRequest
from jobs.service.queries import job_attempts
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import store_upload
from local_services.commands import wait_until
from local_services.faulty_http import Fault
from local_services.s3 import CREDENTIALS
from tests.integration.worker_harness import WorkerHarness

ACCESS_KEY = CREDENTIALS["AWS_ACCESS_KEY_ID"]
PATIENCE_S = 60.0


def submit_with_upload(worker: WorkerHarness) -> str:
    upload = store_upload(
        worker.db.of_tenant("t"), worker.store, b"no video", filename="a.mp4", content_type="video/mp4", ttl_s=3600
    )
    with worker.db.of_tenant("t").transaction() as tx:
        request = JobRequest(video=upload, seed=1, num_steps=2, audio_format="wav")
        return submit(tx, request, policy=SubmitPolicy.from_settings(worker.settings, ("tiny_16k",))).job.id


def outcomes(worker: WorkerHarness, job_id: str) -> list[tuple[AttemptOutcome | None, str | None]]:
    with worker.db.reading() as tx:
        return [(a.outcome, (a.error or {}).get("code")) for a in job_attempts(tx, job_id)]


def spent(worker: WorkerHarness, job_id: str) -> int:
    """Return how many of the job's attempts counted."""
    job = worker.job(job_id)
    return worker.settings.max_attempts - (job.max_attempts - job.attempt)


def test_a_host_that_the_store_refuses_gives_the_job_back_and_says_so(on_s3: WorkerHarness) -> None:
    job_id = submit_with_upload(on_s3)
    on_s3.schedule.refuse_key = ACCESS_KEY
    on_s3.runner.run(job_id)
    assert on_s3.job(job_id).state is State.QUEUED
    assert outcomes(on_s3, job_id) == [(AttemptOutcome.REQUEUED, "storage_refused")]
    assert spent(on_s3, job_id) == 0
    trouble = on_s3.availability.trouble()
    assert trouble is not None
    assert trouble["code"] == "storage_refused"
    assert "InvalidAccessKeyId" in trouble["message"]

    on_s3.runner.run(job_id)  # a message that was on its way: the worker takes nothing
    assert len(outcomes(on_s3, job_id)) == 1

    on_s3.schedule.refuse_key = None
    wait_until(lambda: on_s3.availability.available, within_s=PATIENCE_S, what="a check that succeeds")


def test_an_object_that_is_gone_is_the_jobs_own_fault(on_s3: WorkerHarness) -> None:
    job_id = submit_with_upload(on_s3)
    on_s3.store.delete(list(on_s3.store.list_keys("uploads/")))
    on_s3.runner.run(job_id)
    job = on_s3.job(job_id)
    assert (job.state, job.error_code) == (State.FAILED, "input_missing")
    assert on_s3.availability.available


def test_a_finished_result_waits_for_the_store(on_s3: WorkerHarness) -> None:
    job_id = on_s3.submit()
    on_s3.schedule.next_calls_fail("PUT", *[Fault.ERROR_503] * 2)
    on_s3.runner.run(job_id)
    job = on_s3.job(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)


def test_a_result_that_waits_is_canceled_at_once(on_s3: WorkerHarness) -> None:
    job_id = on_s3.submit()
    on_s3.schedule.rate, on_s3.schedule.only = 1.0, (Fault.ERROR_503,)
    thread = threading.Thread(target=on_s3.runner.run, args=(job_id,))
    thread.start()
    wait_until(lambda: not on_s3.availability.available, within_s=PATIENCE_S, what="a worker that holds its result")
    on_s3.cancel(job_id)
    thread.join(PATIENCE_S)
    assert on_s3.job(job_id).state is State.CANCELED
    on_s3.schedule.rate = 0.0
