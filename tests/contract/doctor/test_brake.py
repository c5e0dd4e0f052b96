"""When `mmaudio doctor --fix` refuses, what `--dry-run` and `--adopt` do, and that repairs are audited."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from jobs.db.tables import AuditEvent, Job, VariantQueue
from jobs.doctor.brake import ALWAYS_ALLOWED, Population, excesses
from jobs.doctor.finding import Kind
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.scheduling.fairness import AGING_INTERVAL
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.settings import Settings
from jobs.storage.identity import MARKER_KEY, check_identity
from tests.contract.doctor.conftest import Harness


@pytest.fixture
def many_missing(harness: Harness) -> Harness:
    """A platform that has lost the objects of more than 5 % of its artifacts, and of more than 10."""
    check_identity(harness.db, harness.store)
    jobs = [harness.succeeded() for _ in range(ALWAYS_ALLOWED + 4)]
    harness.store.delete([f"jobs/{job_id}/1/audio.flac" for job_id in jobs[: ALWAYS_ALLOWED + 1]])
    return harness


def test_more_than_a_share_is_repaired_only_when_asked_for(many_missing: Harness) -> None:
    harness = many_missing
    key = f"jobs/{harness.failed()}/1/audio.flac"
    before = harness.contents()
    done = harness.doctor("--fix")
    assert done.exit_code == 1
    assert "refused, nothing was repaired: artifact_missing: 11 of 14 artifacts, which is more than 5%" in done.stderr
    assert "--yes-all" in done.stderr
    assert done.stdout.endswith("12 inconsistencies found, 0 fixed\n")
    assert harness.contents() == before  # not the orphan either
    done = harness.doctor("--fix", "--yes-all")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("12 inconsistencies found, 12 fixed\n")
    assert key not in harness.contents()["keys"]
    assert Counter(action for action, _, _ in harness.audited()) == {"mark_deleted": 11, "delete_object": 1}


def test_a_dry_run_says_what_fix_would_do_and_does_nothing(many_missing: Harness) -> None:
    harness = many_missing
    job_id = harness.succeeded()
    harness.forget("artifacts", job_id)
    before = harness.contents()
    for options in (["--dry-run"], ["--dry-run", "--fix"]):
        done = harness.doctor(*options)
        assert done.exit_code == 1
        assert "would refuse: artifact_missing: 11 of 14 artifacts" in done.stderr
        assert done.stdout.count("does not exist (would mark the row as deleted)\n") == 11
        assert done.stdout.count("has no row (would restore the row from the object's metadata)\n") == 1
    assert harness.contents() == before
    assert harness.audited() == []
    planned = [json.loads(line) for line in harness.doctor("--dry-run", "--yes-all", "--json").stdout.splitlines()]
    done_lines = harness.doctor("--fix", "--yes-all", "--json").stdout.splitlines()
    assert [{**json.loads(line), "fixed": False} for line in done_lines] == planned


def test_a_dry_run_writes_no_marker(harness: Harness) -> None:
    harness.succeeded()
    for options in ([], ["--dry-run"], ["--dry-run", "--adopt"]):
        assert harness.doctor(*options).exit_code == 0
    assert MARKER_KEY not in list(harness.store.list_keys(""))
    assert harness.doctor("--fix").exit_code == 0
    assert MARKER_KEY in list(harness.store.list_keys(""))
    assert harness.audited() == [("adopt_store", harness.store.location, "fixed")]


def test_an_audit_row_says_what_was_repaired_why_and_how_it_ended(harness: Harness) -> None:
    check_identity(harness.db, harness.store)
    key = f"jobs/{harness.failed()}/1/audio.flac"
    assert harness.doctor("--fix").exit_code == 0
    with harness.db.reading() as tx:
        event = tx.session.scalars(select(AuditEvent)).one()
    assert (event.actor, event.action, event.subject) == ("doctor", "delete_object", key)
    assert event.detail["kind"] == "object_orphaned"
    assert event.detail["outcome"] == "fixed"
    assert "of attempt 1; no row points at it" in event.detail["reason"]


def test_adopting_needs_proof_or_insistence(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    check_identity(harness.db, harness.store)
    job_id = harness.succeeded()
    right = Settings().storage_url
    monkeypatch.setenv("MMAUDIO_STORAGE_URL", f"{right}2")
    done = harness.doctor("--adopt")
    assert done.exit_code == 2
    assert "has none of the objects of 1 rows that were looked for" in done.stderr
    assert "--yes-all" in done.stderr
    monkeypatch.setenv("MMAUDIO_STORAGE_URL", right)
    harness.store.delete([MARKER_KEY])  # a lifecycle rule may have done it
    assert harness.doctor().exit_code == 0
    assert harness.doctor("--adopt").exit_code == 0
    assert MARKER_KEY in list(harness.store.list_keys(""))
    # All objects are lost, and the platform goes on with another store.
    monkeypatch.setenv("MMAUDIO_STORAGE_URL", f"{right}3")
    done = harness.doctor("--adopt", "--yes-all", "--fix")
    assert (done.exit_code, done.stdout) == (
        0,
        f"artifact_missing: {job_id}/audio.flac: jobs/{job_id}/1/audio.flac does not exist (fixed)\n"
        "1 inconsistency found, 1 fixed\n",
    )
    assert "is now the store of this database" in done.stderr


def test_republishing_keeps_the_running_limit_of_a_tenant(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_MAX_RUNNING_PER_TENANT", "1")
    jobs = [harness.submit() for _ in range(6)]
    assert dispatch(harness.db, harness.broker, policy=DispatchPolicy.from_settings(Settings())).published == 1
    harness.broker._redis.flushall()
    with harness.db.transaction() as tx:
        tx.session.execute(
            update(Job).where(Job.published_at.is_not(None)).values(published_at=tx.now - timedelta(seconds=60))
        )
    assert harness.found("--fix") == {"message_missing": [jobs[0]]}
    assert harness.broker.enqueued_job_ids("tiny_16k") == {jobs[0]}
    assert harness.audited()[-1] == ("republish", jobs[0], "fixed")


def test_republishing_keeps_the_ageing_of_priorities(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_PRIORITY_AGING_S", "60")
    monkeypatch.setenv("MMAUDIO_MAX_RUNNING_PER_TENANT", "1")
    old, new = harness.submit(priority="low"), harness.submit(priority="high")
    with harness.db.transaction() as tx:
        # The next selection is one of those that take a job for its age.
        tx.session.add(VariantQueue(variant="tiny_16k", virtual_time=0.0, dispatch_count=AGING_INTERVAL - 1))
        aged = {"created_at": tx.now - timedelta(seconds=300), "available_at": tx.now - timedelta(seconds=300)}
        tx.session.execute(update(Job).where(Job.id == old).values(**aged))
        tx.session.execute(update(Job).where(Job.id == new).values(published_at=tx.now - timedelta(seconds=60)))
    assert harness.found("--fix") == {"message_missing": [new]}
    assert harness.broker.enqueued_job_ids("tiny_16k") == {old}


@pytest.mark.parametrize(
    ("count", "examined", "allowed"),
    [(10, 10, True), (11, 11, False), (11, 220, True), (12, 220, False), (50, 1000, True), (51, 1000, False)],
)
def test_the_brake_allows_ten_or_a_twentieth(count: int, examined: int, allowed: bool) -> None:
    found = excesses(Counter({Kind.UPLOAD_MISSING: count}), Counter({Population.UPLOADS: examined}))
    assert (found == []) is allowed


def test_other_programs_unfinished_writes_are_none_of_ours(harness: Harness) -> None:
    if harness.store.backend == "local":
        pytest.skip("nobody else writes into the drafts folder")
    job_id = harness.succeeded()
    store = harness.store
    for key in ("p/theirs.bin", "p/jobs/job_0/1/audio.flac", f"p/jobs/{job_id}/1/audio.flac", "p/features/00000001/a"):
        store._client.create_multipart_upload(Bucket=store._bucket, Key=key)  # type: ignore[attr-defined]
    wanted = ["p/features/00000001/a", f"p/jobs/{job_id}/1/audio.flac"]  # moto says of every one that it began in 2010
    found = harness.found("--fix")
    assert {kind: sorted(subjects) for kind, subjects in found.items()} == {"write_unfinished": wanted}
    left = {write.name for write in store.unfinished_writes(older_than_s=0)}
    assert left == {"p/theirs.bin", "p/jobs/job_0/1/audio.flac"}
