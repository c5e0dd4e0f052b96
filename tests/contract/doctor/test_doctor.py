"""`mmaudio doctor` on each kind of database and store: it finds and repairs inconsistencies and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from jobs.db.tables import Artifact, Job, Upload
from jobs.doctor.objects import ObjectsCheck
from jobs.lifecycle import ArtifactKind, State
from jobs.service.deletion import delete_job, delete_job_objects
from jobs.service.retention import prune
from jobs.service.scheduling.dispatch import dispatch
from jobs.storage.identity import MARKER_KEY
from tests.contract.doctor.conftest import Harness


def test_a_consistent_platform_has_no_findings(harness: Harness) -> None:
    harness.succeeded()
    harness.upload()
    running = harness.submit()
    harness.claim(running)
    harness.put(f"jobs/{running}/1/audio.flac")  # on its way: the attempt that holds the lease has just stored it
    harness.submit()
    dispatch(harness.db, harness.broker)
    done = harness.doctor()
    assert (done.exit_code, done.stdout) == (0, "no inconsistencies found\n")


def test_rows_without_objects_and_objects_without_rows_are_found_and_fixed(harness: Harness) -> None:
    whole, broken = harness.succeeded(), harness.succeeded()
    harness.store.delete([f"jobs/{broken}/1/audio.flac"])
    harness.put(f"jobs/{whole}/2/audio.flac")
    failed = harness.failed()
    lost, kept = harness.upload(), harness.upload()
    harness.store.delete([lost.storage_key])
    wanted = {
        "artifact_missing": [f"{broken}/audio.flac"],
        "upload_missing": [lost.id],
        "object_orphaned": sorted([f"jobs/{whole}/2/audio.flac", f"jobs/{failed}/1/audio.flac"]),
    }
    assert {kind: sorted(subjects) for kind, subjects in harness.found().items()} == wanted
    assert {kind: sorted(subjects) for kind, subjects in harness.found("--fix").items()} == wanted
    assert harness.doctor().exit_code == 0
    assert set(harness.store.list_keys("")) == {f"jobs/{whole}/1/audio.flac", kept.storage_key, MARKER_KEY}
    with harness.db.reading() as tx:
        assert tx.session.get_one(Artifact, (broken, "audio.flac")).deleted_at is not None
        assert tx.session.get_one(Artifact, (whole, "audio.flac")).deleted_at is None
        assert tx.session.get_one(Upload, lost.id).deleted_at is not None
        assert tx.session.get_one(Job, broken).state is State.SUCCEEDED


def test_without_fix_nothing_is_changed_and_the_exit_status_is_1(harness: Harness) -> None:
    key = f"jobs/{harness.failed()}/1/audio.flac"
    before = harness.contents()
    done = harness.doctor()
    assert done.exit_code == 1
    assert f"object_orphaned: {key}: 5 bytes, written" in done.stdout
    assert done.stdout.endswith("1 inconsistency found, 0 fixed\n")
    assert list(harness.store.list_keys("")) == [key]
    assert harness.contents() == before
    assert harness.audited() == []


def test_objects_younger_than_the_grace_are_skipped(harness: Harness) -> None:
    harness.put("jobs/job_nobody/1/audio.flac")
    harness.failed()
    assert list(ObjectsCheck(harness.db, harness.store, grace_s=3600).run()) == []


def test_more_rows_and_objects_than_a_range_are_compared(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.doctor.objects.RANGE", 2)
    jobs = [harness.succeeded() for _ in range(7)]
    for job_id in (jobs[0], jobs[3], jobs[6]):
        harness.store.delete([f"jobs/{job_id}/1/audio.flac"])
    assert harness.found() == {"artifact_missing": [f"{jobs[n]}/audio.flac" for n in (0, 3, 6)]}


def test_published_without_a_message_and_running_without_a_lease(harness: Harness) -> None:
    wiped, lost = harness.submit(), harness.submit()
    claim = harness.claim(lost)
    dispatch(harness.db, harness.broker)
    with harness.db.transaction() as tx:
        past = tx.now - timedelta(seconds=60)
        tx.session.execute(update(Job).where(Job.id == wiped).values(published_at=past))
        tx.session.execute(update(Job).where(Job.id == claim.job_id).values(lease_expires_at=past))
    harness.broker._redis.flushall()
    wanted = {"message_missing": [wiped], "lease_expired": [lost]}
    assert harness.found() == wanted
    assert harness.found("--fix") == wanted
    assert harness.found() == {}
    assert wiped in harness.broker.enqueued_job_ids("tiny_16k")


def test_unfinished_writes_are_discarded(harness: Harness) -> None:
    if harness.store.backend == "local":
        harness.store.check()
        (harness.store._drafts / "tmpabc").write_bytes(b"half")  # type: ignore[attr-defined]
    else:
        harness.store._client.create_multipart_upload(  # type: ignore[attr-defined]
            Bucket=harness.store._bucket,  # type: ignore[attr-defined]
            Key="p/jobs/x",
        )
    (write,) = harness.store.unfinished_writes(older_than_s=-60)
    if harness.store.backend == "local":  # moto says 2010 of every one
        assert list(harness.store.unfinished_writes(older_than_s=3600)) == []
    write.discard()
    assert list(harness.store.unfinished_writes(older_than_s=-60)) == []


def test_a_service_that_does_not_answer_is_named_and_nothing_is_repaired(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"jobs/{harness.failed()}/1/audio.flac"
    before = harness.contents()
    monkeypatch.setenv("MMAUDIO_BROKER_URL", "redis://127.0.0.1:9/0")
    for options in ([], ["--fix"], ["--fix", "--yes-all"]):
        done = harness.doctor(*options)
        assert done.exit_code == 2
        assert f"object_orphaned: {key}" in done.stdout
        assert "check failed: rows and queue: could not look: The broker did not answer" in done.stderr
    assert harness.contents() == before


def test_previews_and_deleted_jobs_are_no_inconsistencies(harness: Harness) -> None:
    kept, deleted = harness.submit(), harness.succeeded()
    claim = harness.claim(kept)
    preview = replace(
        harness.store_artifact(claim, "preview.png", kind=ArtifactKind.PREVIEW, format="png"), detail={"peaks": {}}
    )
    harness.complete(claim, harness.store_artifact(claim), preview)
    bound = harness.db.of_tenant("t")
    with bound.transaction() as tx:
        delete_job(tx, deleted)
    assert harness.found() == {}
    delete_job_objects(bound, harness.store, deleted)
    harness.forget("artifacts", deleted)
    assert harness.found() == {}
    harness.store.delete([preview.storage_key])
    assert harness.found("--fix") == {"artifact_missing": [f"{kept}/preview.png"]}


def test_the_row_of_a_preview_is_restored_from_its_object_without_its_peaks(harness: Harness) -> None:
    job_id = harness.submit(deliver_to="s3://theirs/")
    claim = harness.claim(job_id)
    preview = harness.store_artifact(claim, "preview.png", kind=ArtifactKind.PREVIEW, format="png")
    harness.complete(claim, harness.store_artifact(claim), preview)
    harness.forget("artifacts", job_id)
    assert len(harness.found("--fix")["artifact_row_missing"]) == 2
    with harness.db.reading() as tx:
        row = tx.session.get_one(Artifact, (job_id, "preview.png"))
        assert (row.kind, row.detail, row.delivered_to) == (ArtifactKind.PREVIEW, None, None)
        assert tx.session.get_one(Artifact, (job_id, "audio.flac")).delivered_to == f"s3://theirs/{job_id}/audio.flac"


def test_an_object_that_a_deleted_job_left_goes_again(harness: Harness) -> None:
    job_id = harness.succeeded()
    bound = harness.db.of_tenant("t")
    with bound.transaction() as tx:
        delete_job(tx, job_id)
    harness.forget("artifacts", job_id)
    harness.found("--fix")
    prune(harness.db, harness.store, lambda *_: 0)
    assert list(harness.store.list_keys("jobs/")) == []
