"""Submitting: defaults, limits, uploads, idempotency."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.errors import IdempotencyMismatchError, QueueFullError, RequestInvalidError
from jobs.lifecycle import State
from jobs.request import JobRequest
from jobs.service.queries import job_events
from jobs.service.submission import Idempotency, SubmitPolicy, submit, submit_and_commit
from jobs.service.uploads import announce_upload, mark_upload_checked
from jobs.tenants.own_storage import OwnStorage
from tests.conftest import FakeClock
from tests.contract.domain.conftest import TENANT, Steps


def problems_of(caught: pytest.ExceptionInfo[RequestInvalidError]) -> dict[str, str]:
    return {problem.field: problem.message for problem in caught.value.problems}


def test_a_submitted_job_is_queued_and_reports_what_was_filled_in(steps: Steps) -> None:
    job = steps.job(steps.submit().id)
    assert (job.state, job.attempt, job.tenant) == (State.QUEUED, 0, TENANT)
    assert (job.request["variant"], job.request["seed"], job.request["duration_s"]) == ("tiny_16k", 7, 8.0)
    with steps.db.reading() as tx:
        assert [event.kind for event in job_events(tx, job.id)] == ["queued"]


def test_a_variant_that_is_not_offered_is_refused_by_name(steps: Steps) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        steps.submit(variant="huge_96k")
    assert "tiny_16k, small_16k" in problems_of(caught)["variant"]


def test_a_duration_beyond_the_variant_is_refused_with_the_limits(steps: Steps) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        steps.submit(duration_s=31)
    assert "0.32 to 30 s" in problems_of(caught)["duration_s"]


@pytest.mark.parametrize(
    ("field", "own", "other"),
    [
        ("video", "s3://media/jobs/job_1/1/video.mp4", "s3://media/in/a.mp4"),
        ("image", "s3://media/uploads/upl_1/content", "s3://media/in/a.png"),
        ("deliver_to", "s3://media/jobs/", "s3://media/out/"),
    ],
)
def test_the_platforms_own_files_are_nobodys_in_a_bucket_that_is_allowed(
    steps: Steps, field: str, own: str, other: str
) -> None:
    allowed = frozenset({"media"})
    storage = OwnStorage.from_url("s3://media")
    steps.policy = replace(steps.policy, input_buckets=allowed, output_buckets=allowed, own_storage=storage)
    with pytest.raises(RequestInvalidError) as caught:
        steps.submit(**{field: own})
    assert list(problems_of(caught)) == [field]
    steps.submit(**{field: other})


def _upload(steps: Steps, *, tenant: str = TENANT, checked: bool = True, ttl_s: int = 60) -> str:
    with steps.db.of_tenant(tenant).transaction() as tx:
        upload = announce_upload(tx, filename="a.mp4", content_type="video/mp4", size_bytes=3, sha256=None, ttl_s=ttl_s)
        if checked:
            mark_upload_checked(tx, upload.id)
    return upload.id


def test_a_checked_upload_becomes_the_jobs_input(steps: Steps) -> None:
    upload_id = _upload(steps)
    job = steps.submit(video=upload_id)
    assert job.input_key == f"uploads/{upload_id}/content"
    assert "duration_s" not in job.request  # the video's own length decides


def test_uploads_that_cannot_be_used_are_refused_at_submit(steps: Steps, clock: FakeClock) -> None:
    cases = {
        "upl_" + "0" * 32: "there is no upload",
        _upload(steps, tenant="somebody_else"): "there is no upload",
        _upload(steps, checked=False): "no content yet",
    }
    for upload_id, message in cases.items():
        with pytest.raises(RequestInvalidError) as caught:
            steps.submit(video=upload_id)
        assert message in problems_of(caught)["video"]
    expired = _upload(steps)
    clock.advance(61)
    with pytest.raises(RequestInvalidError, match="expired"):
        steps.submit(image=expired)


def test_only_listed_buckets_can_be_named(steps: Steps) -> None:
    assert steps.submit(video="s3://inbox/a b.mp4").input_key == "s3://inbox/a b.mp4"
    with pytest.raises(RequestInvalidError, match="does not read from bucket"):
        steps.submit(video="s3://secret-bucket/a.mp4")


def test_a_full_queue_is_said_and_holds_one_tenant_only(steps: Steps) -> None:
    small = Steps(steps.db, replace(steps.policy, max_queued_per_tenant=2))
    small.submit()
    small.submit()
    with pytest.raises(QueueFullError):
        small.submit()
    small.submit(tenant="somebody_else")


def test_a_refused_submit_leaves_nothing_behind(steps: Steps) -> None:
    with pytest.raises(RequestInvalidError):
        steps.submit(variant="huge_96k")
    with steps.db.reading() as tx:
        assert tx.session.scalar(select(func.count()).select_from(Job)) == 0


def test_the_same_key_and_body_give_the_same_job(db: Database, policy: SubmitPolicy) -> None:
    request = JobRequest(prompt="rain")
    key = Idempotency.of("POST /v1/jobs", "key-1", request)
    first = submit_and_commit(db.of_tenant(TENANT), request, policy=policy, idempotency=key)
    again = submit_and_commit(db.of_tenant(TENANT), request, policy=policy, idempotency=key)
    other_tenant = submit_and_commit(db.of_tenant("somebody_else"), request, policy=policy, idempotency=key)
    assert (first.replayed, again.replayed, other_tenant.replayed) == (False, True, False)
    assert first.job.id == again.job.id != other_tenant.job.id


def test_the_same_key_with_another_body_is_refused(db: Database, policy: SubmitPolicy) -> None:
    for prompt in ("rain", "wind"):
        request = JobRequest(prompt=prompt)
        key = Idempotency.of("POST /v1/jobs", "key-1", request)
        if prompt == "rain":
            submit_and_commit(db.of_tenant(TENANT), request, policy=policy, idempotency=key)
        else:
            with pytest.raises(IdempotencyMismatchError):
                submit_and_commit(db.of_tenant(TENANT), request, policy=policy, idempotency=key)


def test_racing_submits_with_one_key_make_one_job(db: Database, policy: SubmitPolicy) -> None:
    request = JobRequest(prompt="rain")
    key = Idempotency.of("POST /v1/jobs", "key-1", request)

    def send(_: int) -> str:
        return submit_and_commit(db.of_tenant(TENANT), request, policy=policy, idempotency=key).job.id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(16)))) == 1


def test_a_rolled_back_submit_leaves_no_key(db: Database, policy: SubmitPolicy) -> None:
    request = JobRequest(prompt="rain")
    key = Idempotency.of("POST /v1/jobs", "key-1", request)
    with pytest.raises(RuntimeError), db.of_tenant(TENANT).transaction() as tx:
        submit(tx, request, policy=policy, idempotency=key)
        raise RuntimeError("the process fails before the commit")
    assert not submit_and_commit(db.of_tenant(TENANT), request, policy=policy, idempotency=key).replayed
