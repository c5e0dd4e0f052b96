"""The archive of a job's files, from a folder and from a bucket: whole, of the length that was announced, in pieces."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from api.app import create_app
from jobs.db.database import Database
from jobs.lifecycle import ArtifactKind
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.submission import SubmitPolicy, submit_and_commit
from jobs.settings import Settings
from jobs.storage.protocol import ObjectStore
from tests.databases import migrated_sqlite
from tests.unit.api.conftest import FakeBroker

TENANT = "default"
CONTENTS = {"audio-1.flac": b"a" * 3_000_001, "audio-2.flac": b"b" * 10, "video-1.mp4": bytes(range(256)) * 9_000}


def test_an_archive_has_all_files_and_is_sent_in_pieces(store: ObjectStore, tmp_path: Path) -> None:
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db"))
    app = create_app(Settings(data_dir=tmp_path), db=db, store=store, broker=FakeBroker())
    policy = SubmitPolicy(variants=("tiny_16k",))
    job_id = submit_and_commit(db.of_tenant(TENANT), JobRequest(num_samples=2), policy=policy).job.id
    with db.of_platform().transaction() as tx:
        claim = attempts.claim(tx, job_id, worker_id="w1", lease_s=12)
    assert claim is not None
    artifacts = [_stored(store, job_id, name, data) for name, data in CONTENTS.items()]
    with db.of_platform().transaction() as tx:
        attempts.complete(tx, claim, artifacts, warnings=[], timings={}, artifact_ttl_s=60)
    answer = app.test_client().get(f"/v1/jobs/{job_id}/artifacts.zip", buffered=False)
    pieces = list(answer.iter_encoded())
    data = b"".join(pieces)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(data)
    assert max(map(len, pieces)) < len(CONTENTS["audio-1.flac"]) / 2
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENTS
    db.close()


def _stored(store: ObjectStore, job_id: str, name: str, data: bytes) -> NewArtifact:
    key = f"jobs/{job_id}/1/{name}"
    stored = store.put_stream(key, io.BytesIO(data), content_type="audio/flac", max_bytes=len(data))
    return NewArtifact(
        name, ArtifactKind.AUDIO, "flac", "audio/flac", key, len(data), str(stored.sha256), 8.0, take=0, seed=1
    )
