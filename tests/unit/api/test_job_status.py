"""The document of a job is made once for each version of it, and is never an old one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from api import job_documents
from api.context import EXTENSION, AppContext
from api.job_documents import JobDocuments
from api.presentation import job_view
from api.queue_positions import LONGEST_S, READS_AT_ONCE, QueuePositions
from jobs.db.tables import Artifact
from jobs.lifecycle import Stage
from jobs.service.job_look import look_at_job
from jobs.service.running_attempts import Progress, record_progress
from jobs.service.scheduling.queue_positions import QueueSnapshot
from tests.unit.api.conftest import Harness, MonotonicClock

TENANT = "default"


def context(harness: Harness) -> AppContext:
    found: AppContext = harness.app.extensions[EXTENSION]
    return found


def get(harness: Harness, job: dict[str, Any]) -> dict[str, Any]:
    answer = harness.client.get(job["links"]["self"])
    assert answer.status_code == 200, answer.text
    return dict(answer.json or {})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the jobs whose documents were made, in order."""
    ids: list[str] = []

    def note(ctx: Any, tx: Any, job: Any, **options: Any) -> Any:
        ids.append(job.id)
        return job_view(ctx, tx, job, **options)

    monkeypatch.setattr("api.job_status.job_view", note)
    return ids


def test_a_document_is_made_once_for_each_version(harness: Harness, made: list[str]) -> None:
    job = harness.submit()
    harness.add_worker()
    assert get(harness, job) == get(harness, job) == job
    assert len(made) == 1
    harness.claim(job["id"])
    assert get(harness, job)["state"] == "running"
    with harness.db.transaction() as tx:
        record_progress(tx, [Progress(job["id"], 1, Stage.SAMPLE, 0.5, 3, 2.0)])
    running = get(harness, job)
    assert (running["stage"], running["step"], running["eta_s"]) == ("sample", 3, 2.0)
    assert get(harness, job) == running
    harness.client.post(job["links"]["cancel"])
    assert get(harness, job)["cancel_requested"] is True
    assert len(made) == 4


def test_a_document_changes_with_its_files(harness: Harness, made: list[str]) -> None:
    job = harness.submit()
    harness.add_worker()
    harness.succeed(job["id"])
    made.clear()
    url = get(harness, job)["artifacts"][0]["url"]
    assert get(harness, job)["artifacts"][0]["url"] == url
    assert len(made) == 1
    harness.clock.advance(601)
    later = get(harness, job)["artifacts"][0]["url"]
    assert later != url, "its signature would have expired at last"
    with harness.db.transaction() as tx:
        tx.session.execute(update(Artifact).values(deleted_at=tx.now))
    assert get(harness, job)["artifacts"][0]["expired"] is True


def test_files_expire_in_a_document_that_is_kept(harness: Harness) -> None:
    job = harness.submit()
    harness.add_worker()
    harness.succeed(job["id"])
    assert get(harness, job)["artifacts"][0]["expired"] is False
    harness.clock.advance(3601)
    artifact = get(harness, job)["artifacts"][0]
    assert (artifact["expired"], artifact["url"]) == (True, None)


def test_the_etag_is_that_of_the_document(harness: Harness) -> None:
    job = harness.submit()
    etag = harness.client.get(job["links"]["self"]).headers["ETag"]
    same = harness.client.get(job["links"]["self"], headers={"If-None-Match": etag})
    assert (same.status_code, same.data) == (304, b"")
    harness.client.post(job["links"]["cancel"])
    assert harness.client.get(job["links"]["self"], headers={"If-None-Match": etag}).status_code == 200


def test_a_prompt_cannot_take_the_place_of_the_position(harness: Harness) -> None:
    job = harness.submit(prompt='"queue_position":null', metadata={"queue_position": "null"})
    found = get(harness, job)
    assert (found["queue_position"], found["request"]["prompt"]) == (1, '"queue_position":null')


def test_positions_follow_the_queue(harness: Harness) -> None:
    jobs = [harness.submit() for _ in range(4)]
    assert [get(harness, job)["queue_position"] for job in jobs] == [1, 2, 3, 4]
    harness.client.post(jobs[1]["links"]["cancel"])
    assert [get(harness, job)["queue_position"] for job in jobs] == [1, None, 2, 3]
    harness.add_worker()
    harness.succeed(jobs[0]["id"])
    assert [get(harness, job)["queue_position"] for job in jobs] == [None, None, 1, 2]


def test_a_queue_that_changes_often_is_read_now_and_then(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    job, clock, reads = harness.submit(), MonotonicClock(100.0), [0]
    read = QueueSnapshot.read

    def count(*given: Any) -> Any:
        reads[0] += 1
        return read(*given)

    monkeypatch.setattr(QueueSnapshot, "read", count)
    positions, ctx = QueuePositions(clock), context(harness)
    look = look_at_job(ctx.database, TENANT, job["id"])
    for number in range(200):
        assert positions.position(ctx.platform_db, replace(look, queue=(number, number))) == 1
    assert reads[0] <= READS_AT_ONCE + 1
    before = reads[0]
    clock.advance(LONGEST_S)
    positions.position(ctx.platform_db, replace(look, queue=(0, 0)))
    assert reads[0] == before + 1


def test_documents_take_a_bounded_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_documents, "KEPT_BYTES", 1000)
    documents = JobDocuments()
    for number in range(30):
        documents.put(("t", f"j{number}"), 1, b"x" * 100)
        documents.get(("t", "j0"), 1)  # asked for again and again
    kept = [number for number in range(30) if documents.get(("t", f"j{number}"), 1) is not None]
    assert kept == [0, *range(21, 30)]
    assert documents.get(("t", "j0"), 2) is None
    assert documents.get(("u", "j0"), 1) is None
    documents.put(("t", "j0"), 2, b"y")
    assert documents.get(("t", "j0"), 2) == b"y"
