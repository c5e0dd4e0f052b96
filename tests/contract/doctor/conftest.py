"""What the doctor's tests share: a platform on each kind of database and store, and what is in both."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, text

from jobs.cli.doctor import doctor
from jobs.db.base import Base
from jobs.db.database import Database
from jobs.db.tables import AuditEvent, Upload
from jobs.errors import Failure
from jobs.lifecycle import ArtifactKind
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.artifact_metadata import artifact_metadata
from jobs.service.attempts import Claim, NewArtifact
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import announce_upload, mark_upload_checked
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.identity import MARKER_KEY
from jobs.storage.protocol import ObjectStore
from local_services.s3 import CREDENTIALS
from tests.databases import migrated_postgres, migrated_sqlite


@dataclass
class Harness:
    db: Database
    store: ObjectStore
    broker: Broker
    folder: Path

    def submit(self, **fields: Any) -> str:
        policy = SubmitPolicy(variants=("tiny_16k",), output_buckets=frozenset({"theirs"}))
        with self.db.of_tenant("t").transaction() as tx:
            return submit(tx, JobRequest(**{"prompt": "rain", **fields}), policy=policy).job.id

    def claim(self, job_id: str) -> Claim:
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id="w", lease_s=60)
        assert claim is not None
        return claim

    def put(self, key: str) -> None:
        self.store.put_stream(key, io.BytesIO(b"sound"), content_type="audio/flac", max_bytes=5)

    def store_artifact(self, claim: Claim, name: str = "audio.flac", **more: Any) -> NewArtifact:
        """Store the file of an attempt as a worker does."""
        key = f"jobs/{claim.job_id}/{claim.attempt}/{name}"
        fields = {"kind": ArtifactKind.AUDIO, "format": "flac", "duration_s": 8.000062, "take": 0, "seed": 2**62 + 1}
        artifact = NewArtifact(
            name, content_type="audio/flac", storage_key=key, size_bytes=0, sha256="", **{**fields, **more}
        )
        path = self.folder / name
        path.write_bytes(b"sound")
        metadata = artifact_metadata(claim, artifact, artifact_ttl_s=3600)
        stored = self.store.put_file(key, path, content_type="audio/flac", user_metadata=metadata, if_absent=True)
        assert stored.sha256 is not None
        return replace(artifact, size_bytes=stored.size_bytes, sha256=stored.sha256)

    def succeeded(self, **fields: Any) -> str:
        """Run a job to its end; return its id."""
        job_id = self.submit(**fields)
        claim = self.claim(job_id)
        artifact = self.store_artifact(claim)
        if fields.get("deliver_to"):
            artifact = replace(artifact, delivered_to=f"{fields['deliver_to']}{job_id}/{artifact.name}")
        self.complete(claim, artifact)
        return job_id

    def complete(self, claim: Claim, *artifacts: NewArtifact) -> None:
        with self.db.transaction() as tx:
            assert attempts.complete(tx, claim, artifacts, warnings=[], timings={}, artifact_ttl_s=3600)

    def failed(self) -> str:
        """Run a job to a failure, with a file of the attempt left behind; return its id."""
        job_id = self.submit()
        claim = self.claim(job_id)
        self.store_artifact(claim)
        with self.db.transaction() as tx:
            attempts.fail(tx, claim, Failure("model_fault", "No."))
        return job_id

    def forget(self, table: str, job_id: str) -> None:
        """Lose the rows of a job in a table, as a partial restore of a backup does."""
        column = "id" if table == "jobs" else "job_id"
        with self.db.transaction() as tx:
            tx.session.execute(text(f"DELETE FROM {table} WHERE {column} = :id"), {"id": job_id})

    def contents(self) -> dict[str, Any]:
        """Return all rows but those of the audit, and all keys but the marker."""
        with self.db.reading() as tx:
            rows = {
                table.name: sorted(repr(tuple(row)) for row in tx.session.execute(select(table)))
                for table in Base.metadata.sorted_tables
                if table.name not in {"audit_events", "platform_identity"}
            }
        return {**rows, "keys": [key for key in self.store.list_keys("") if key != MARKER_KEY]}

    def audited(self) -> list[tuple[str, str, str]]:
        """Return action, subject and outcome of all repairs."""
        with self.db.reading() as tx:
            events = tx.session.scalars(select(AuditEvent).order_by(AuditEvent.id))
            return [(event.action, event.subject, event.detail["outcome"]) for event in events]

    def upload(self) -> Upload:
        with self.db.of_tenant("t").transaction() as tx:
            upload = announce_upload(tx, filename="v", content_type="video/mp4", size_bytes=5, sha256=None, ttl_s=3600)
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
            assert finding["fixed"] is ("--fix" in options and finding["action"] != "keep")
            kinds.setdefault(finding["kind"], []).append(finding["subject"])
        return kinds


@pytest.fixture(params=["sqlite+folder", "postgresql+s3"])
def harness(
    request: pytest.FixtureRequest, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    monkeypatch.setenv("MMAUDIO_DATA_DIR", str(tmp_path / "data"))
    if request.param == "sqlite+folder":
        migrated_sqlite(tmp_path / "data" / "mmaudio.db")
        yield from _harness(broker_url, tmp_path, monkeypatch)
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
        yield from _harness(broker_url, tmp_path, monkeypatch)


def _harness(broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("MMAUDIO_BROKER_URL", broker_url)
    settings = Settings()
    db, broker = Database(settings.database_url).of_platform(), Broker(broker_url)
    broker._redis.flushall()
    with db.transaction() as tx:  # only variants with a live worker are published
        register_worker(tx, worker_id="w", hostname="h", pid=1, device="cpu:0", slots=8, variants=["tiny_16k"])
    (tmp_path / "files").mkdir()
    yield Harness(db, open_store(settings), broker, tmp_path / "files")
    broker._redis.flushall()
    broker.close()
    db.close()
