"""`mmaudio doctor` on each kind of database and store: it finds and repairs inconsistencies and nothing else."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from jobs.cli.doctor import doctor
from jobs.db.database import Database
from jobs.db.tables import Artifact, Job, Upload
from jobs.doctor.objects import ObjectsCheck
from jobs.lifecycle import State
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.attempts import Claim, NewArtifact
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import announce_upload, mark_upload_checked
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from local_services.s3 import CREDENTIALS
from local_services.valkey import valkey_server
from tests.databases import migrated_postgres, migrated_sqlite


@dataclass
class Harness:
    db: Database
    store: ObjectStore
    broker: Broker

    def submit(self) -> str:
        policy = SubmitPolicy(variants=("tiny_16k",))
        with self.db.transaction() as tx:
            return submit(tx, JobRequest(prompt="rain"), tenant="t", policy=policy).job.id

    def claim(self, job_id: str) -> Claim:
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id="w", lease_s=60)
        assert claim is not None
        return claim

    def put(self, key: str) -> None:
        self.store.put_stream(key, io.BytesIO(b"sound"), content_type="audio/flac", max_bytes=5)

    def succeeded(self) -> str:
        job_id = self.submit()
        claim, key = self.claim(job_id), f"jobs/{job_id}/1/audio.flac"
        self.put(key)
        artifact = NewArtifact("audio.flac", "audio", "flac", "audio/flac", key, 5, "0" * 64, 8.0, 0, 7)
        with self.db.transaction() as tx:
            assert attempts.complete(tx, claim, [artifact], warnings=[], timings={}, artifact_ttl_s=3600)
        return job_id

    def upload(self) -> Upload:
        with self.db.transaction() as tx:
            upload = announce_upload(
                tx, tenant="t", filename="v", content_type="video/mp4", size_bytes=5, sha256=None, ttl_s=3600
            )
            mark_upload_checked(tx, upload.id)
        self.put(upload.storage_key)
        return upload

    def doctor(self, *options: str) -> Result:
        return CliRunner().invoke(doctor, ["--grace", "-60", *options])

    def found(self, *options: str) -> dict[str, list[str]]:
        """Return the subjects of the findings, by kind."""
        kinds: dict[str, list[str]] = {}
        for line in self.doctor("--json", *options).stdout.splitlines():
            finding = json.loads(line)
            assert finding["fixed"] is ("--fix" in options)
            kinds.setdefault(finding["kind"], []).append(finding["subject"])
        return kinds


@pytest.fixture(params=["sqlite+folder", "postgresql+s3"])
def harness(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("MMAUDIO_DATA_DIR", str(tmp_path / "data"))
    if request.param == "sqlite+folder":
        migrated_sqlite(tmp_path / "data" / "mmaudio.db")
        yield from _harness(tmp_path, monkeypatch)
        return
    endpoint, bucket = request.getfixturevalue("s3_endpoint"), f"doctor-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    more = {
        "MMAUDIO_STORAGE_URL": f"s3://{bucket}/p",
        "MMAUDIO_S3_ENDPOINT_URL": endpoint,
        "MMAUDIO_S3_ADDRESSING_STYLE": "path",
    }
    with migrated_postgres(request.getfixturevalue("postgres_uri")) as url:
        for name, value in {**more, **CREDENTIALS, "MMAUDIO_DATABASE_URL": url}.items():
            monkeypatch.setenv(name, value)
        yield from _harness(tmp_path, monkeypatch)


def _harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    with valkey_server(tmp_path / "valkey") as broker_url:
        monkeypatch.setenv("MMAUDIO_BROKER_URL", broker_url)
        settings = Settings()
        db, broker = Database(settings.database_url), Broker(broker_url)
        with db.transaction() as tx:  # only variants with a live worker are published
            register_worker(tx, worker_id="w", hostname="h", pid=1, device="cpu:0", slots=4, variants=["tiny_16k"])
        yield Harness(db, open_store(settings), broker)
        broker.close()
        db.close()


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
    harness.put("jobs/job_nobody/1/audio.flac")
    lost, kept = harness.upload(), harness.upload()
    harness.store.delete([lost.storage_key])
    harness.put("uploads/upl_nobody/content")
    wanted = {
        "artifact_missing": [f"{broken}/audio.flac"],
        "upload_missing": [lost.id],
        "object_orphaned": [f"jobs/{whole}/2/audio.flac", "jobs/job_nobody/1/audio.flac", "uploads/upl_nobody/content"],
    }
    assert {kind: sorted(subjects) for kind, subjects in harness.found().items()} == wanted
    assert {kind: sorted(subjects) for kind, subjects in harness.found("--fix").items()} == wanted
    assert harness.doctor().exit_code == 0
    assert set(harness.store.list_keys("")) == {f"jobs/{whole}/1/audio.flac", kept.storage_key}
    with harness.db.reading() as tx:
        assert tx.session.get_one(Artifact, (broken, "audio.flac")).deleted_at is not None
        assert tx.session.get_one(Artifact, (whole, "audio.flac")).deleted_at is None
        assert tx.session.get_one(Upload, lost.id).deleted_at is not None
        assert tx.session.get_one(Job, broken).state is State.SUCCEEDED


def test_without_fix_nothing_is_changed_and_the_exit_status_is_1(harness: Harness) -> None:
    harness.put("jobs/job_nobody/1/audio.flac")
    done = harness.doctor()
    assert done.exit_code == 1
    assert "object_orphaned: jobs/job_nobody/1/audio.flac: 5 bytes, written" in done.stdout
    assert done.stdout.endswith("1 inconsistency found, 0 fixed\n")
    assert list(harness.store.list_keys("")) == ["jobs/job_nobody/1/audio.flac"]


def test_objects_younger_than_the_grace_are_skipped(harness: Harness) -> None:
    harness.put("jobs/job_nobody/1/audio.flac")
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


def test_an_unreachable_service_is_named_and_the_other_checks_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.put("jobs/job_nobody/1/audio.flac")
    monkeypatch.setenv("MMAUDIO_BROKER_URL", "redis://127.0.0.1:9/0")
    job_id = harness.submit()
    with harness.db.transaction() as tx:
        tx.session.get_one(Job, job_id).published_at = tx.now - timedelta(seconds=60)
    done = harness.doctor()
    assert done.exit_code == 1
    assert "object_orphaned" in done.stdout
    assert "check failed: rows and queue: " in done.stderr
