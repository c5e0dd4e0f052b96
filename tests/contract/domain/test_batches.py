"""Batches: all or nothing, the end is recorded once, canceling goes on after a crash, counters stay right."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

import pytest
from sqlalchemy import select

from jobs.db.batch_tables import Batch
from jobs.db.database import Database
from jobs.db.tables import Job, JobEvent, Upload
from jobs.errors import BatchEndedError, BatchNotFoundError, QueueFullError, RequestInvalidError
from jobs.lifecycle import EventKind, State
from jobs.request import JobRequest
from jobs.service import batch_creation, batches
from jobs.service.batch_creation import BatchInvalidError, CreatedBatch, NewBatch, create_and_commit
from jobs.service.batches import cancel_jobs, finish_batches, get_batch, request_cancel, summary_of
from jobs.service.deletion import delete_job, delete_upload
from jobs.service.ended_counters import jobs_by_state
from jobs.service.maintenance import rescue
from jobs.service.submission import Idempotency, SubmitPolicy
from tests.contract.domain.conftest import TENANT, Steps
from tests.queue_counts import recount, stored_counts


@pytest.fixture
def bound(db: Database) -> Database:
    return db.of_tenant(TENANT)


def new_batch(count: int = 3, **fields: object) -> NewBatch:
    return NewBatch([JobRequest.model_validate({"prompt": f"rain {n}", **fields}) for n in range(count)])


def created(bound: Database, policy: SubmitPolicy, count: int = 3) -> str:
    return create_and_commit(bound, new_batch(count), policy=policy).batch.id


def jobs_of(bound: Database, batch_id: str) -> list[Job]:
    with bound.reading() as tx:
        return list(tx.session.scalars(select(Job).where(Job.batch_id == batch_id).order_by(Job.id)))


def test_jobs_are_as_single_submits_make_them(bound: Database, steps: Steps, policy: SubmitPolicy) -> None:
    single = steps.submit(prompt="rain 0", queue_ttl_s=9)
    batch = create_and_commit(bound, new_batch(queue_ttl_s=9), policy=policy).batch
    jobs = jobs_of(bound, batch.id)
    assert [(job.batch_index, job.request["prompt"]) for job in jobs] == [(n, f"rain {n}") for n in range(3)]
    ours = {"id", "batch_id", "batch_index"}
    columns = [column.name for column in Job.__table__.columns if column.name not in ours]
    assert {name: getattr(jobs[0], name) for name in columns} == {
        name: getattr(steps.job(single.id), name) for name in columns
    }
    with bound.reading() as tx:
        events = tx.session.scalars(select(JobEvent).order_by(JobEvent.id)).all()
        assert [(one.job_id, one.kind, one.attempt, one.data) for one in events] == [
            (job_id, EventKind.QUEUED, 0, {}) for job_id in (single.id, *(job.id for job in jobs))
        ]
        assert stored_counts(tx) == recount(tx)


def test_one_wrong_request_creates_nothing(bound: Database, policy: SubmitPolicy) -> None:
    wrong = JobRequest(video="s3://elsewhere/a.mp4")
    with pytest.raises(BatchInvalidError) as caught:
        create_and_commit(bound, NewBatch([*new_batch(2).requests, wrong]), policy=policy)
    assert [(item.index, item.problem.field) for item in caught.value.items] == [(2, "video")]
    with bound.reading() as tx:
        assert tx.session.scalars(select(Job.id)).all() == []
        assert tx.session.scalars(select(Batch.id)).all() == []
        assert stored_counts(tx) == {}


def test_the_limit_counts_all_its_jobs(bound: Database, steps: Steps, policy: SubmitPolicy) -> None:
    small = replace(policy, max_queued_per_tenant=4)
    steps.submit()
    steps.submit()
    with pytest.raises(QueueFullError):
        create_and_commit(bound, new_batch(3), policy=small)
    with pytest.raises(RequestInvalidError):
        create_and_commit(bound, new_batch(5), policy=small)
    create_and_commit(bound, new_batch(2), policy=small)


def test_racing_calls_with_one_key_make_one_batch(bound: Database, policy: SubmitPolicy) -> None:
    made: list[CreatedBatch] = []
    key = Idempotency("POST /v1/batches", "k", "0" * 64)

    def create() -> None:
        made.append(create_and_commit(bound, new_batch(20), policy=policy, idempotency=key))

    threads = [Thread(target=create) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.batch.id for one in made}) == 1
    assert sorted(one.replayed for one in made) == [False, True, True]
    with bound.reading() as tx:
        assert len(tx.session.scalars(select(Job.id)).all()) == 20
        assert stored_counts(tx) == recount(tx)


def test_the_end_is_recorded_once_with_an_event(
    bound: Database, db: Database, steps: Steps, policy: SubmitPolicy
) -> None:
    batch_id = created(bound, policy, 2)
    other = created(bound, policy, 1)
    first, second = (job.id for job in jobs_of(bound, batch_id))
    steps.complete(steps.claimed(first))
    assert finish_batches(db.of_platform()) == 0
    steps.complete(steps.claimed(second))
    for _ in range(2):
        rescue(db.of_platform())
    with bound.reading() as tx:
        batch = get_batch(tx, batch_id)
        assert batch.finished_at == steps.job(second).finished_at
        events = tx.session.scalars(select(JobEvent).where(JobEvent.kind == EventKind.BATCH_FINISHED)).all()
        counts = {"queued": 0, "running": 0, "succeeded": 2, "failed": 0, "canceled": 0}
        assert [(one.job_id, one.data) for one in events] == [
            (second, {"batch": batch_id, "counts": counts, "state": "succeeded"})
        ]
        assert get_batch(tx, other).finished_at is None


def test_progress_counts_what_running_jobs_have_done(bound: Database, steps: Steps, policy: SubmitPolicy) -> None:
    batch_id = created(bound, policy, 4)
    jobs = jobs_of(bound, batch_id)
    steps.complete(steps.claimed(jobs[0].id))
    steps.claimed(jobs[1].id)
    with bound.transaction() as tx:
        tx.session.get_one(Job, jobs[1].id).progress = 0.5
    with bound.reading() as tx:
        assert summary_of(tx, get_batch(tx, batch_id)).progress == pytest.approx(1.5 / 4)


def test_canceling_goes_on_by_maintenance_when_the_process_died(
    bound: Database, db: Database, steps: Steps, policy: SubmitPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "CANCELED_AT_ONCE", 2)
    batch_id = created(bound, policy, 5)
    running = jobs_of(bound, batch_id)[0].id
    claim = steps.claimed(running)
    bound.run(lambda tx: request_cancel(tx, batch_id), repeatable=True)
    finish_batches(db.of_platform())
    states = [job.state for job in jobs_of(bound, batch_id)]
    assert states == [State.RUNNING, *[State.CANCELED] * 4]
    assert steps.job(running).cancel_requested_at is not None
    assert steps.complete(claim) is False  # cancel wins
    assert finish_batches(db.of_platform()) == 1
    with bound.reading() as tx:
        assert jobs_by_state(tx)[State.CANCELED] == 5
        assert stored_counts(tx) == recount(tx)


def test_cancel_is_idempotent_and_refused_once_all_have_ended(
    bound: Database, db: Database, policy: SubmitPolicy
) -> None:
    batch_id = created(bound, policy)
    for _ in range(2):
        bound.run(lambda tx: request_cancel(tx, batch_id), repeatable=True)
        cancel_jobs(bound, batch_id)
    with pytest.raises(BatchNotFoundError), db.of_tenant("other").transaction() as tx:
        request_cancel(tx, batch_id)
    other = created(bound, policy, 1)
    cancel_jobs(bound, other)  # nobody has asked for it
    with pytest.raises(BatchEndedError), bound.transaction() as tx:
        request_cancel(tx, other)


def test_an_upload_that_is_deleted_before_the_jobs_are_written_refuses_the_batch(
    bound: Database, policy: SubmitPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = f"upl_{1:032x}"
    with bound.transaction() as tx:
        times = {"created_at": tx.now, "checked_at": tx.now, "expires_at": tx.now.replace(year=tx.now.year + 1)}
        tx.session.add(
            Upload(
                id=upload_id, tenant=TENANT, filename="a.mp4", content_type="video/mp4", size_bytes=1,
                storage_key="uploads/a", **times,
            )
        )  # fmt: skip
    original = batch_creation.commit_once

    def delete_first(*args: object, **named: object) -> object:
        with bound.transaction() as tx:
            delete_upload(tx, upload_id)
        return original(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(batch_creation, "commit_once", delete_first)
    with pytest.raises(BatchInvalidError, match="deleted"):
        create_and_commit(bound, NewBatch([JobRequest(video=upload_id)]), policy=policy)


def test_deleted_jobs_still_count_for_their_batch(
    bound: Database, db: Database, steps: Steps, policy: SubmitPolicy
) -> None:
    batch_id = created(bound, policy, 2)
    for job in jobs_of(bound, batch_id):
        steps.complete(steps.claimed(job.id))
        with bound.transaction() as tx:
            delete_job(tx, job.id)
    with bound.reading() as tx:
        assert summary_of(tx, get_batch(tx, batch_id)).progress == 1.0
    assert finish_batches(db.of_platform()) == 1
