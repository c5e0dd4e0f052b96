"""The app under test: SQLite in a folder, objects in a folder, a queue in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from api.app import new_app
from api.circuit_breaker import CircuitBreaker
from api.context import EXTENSION, AppContext
from jobs.db.database import Database
from jobs.lifecycle import ArtifactKind
from jobs.log_limit import LogLimit
from jobs.queue import BrokerUnavailableError
from jobs.secret_key import load_secret_key
from jobs.service import attempts
from jobs.service.attempts import Claim, NewArtifact
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.local import LocalStore
from jobs.storage.signing import LinkSigner
from tests.conftest import FakeClock
from tests.databases import migrated_sqlite
from tests.in_memory_bucket import InMemoryBucket

EVENTS_TOKEN = "a shared token of callers"


PREVIEW_DETAIL = {
    "peaks": {
        "version": 2,
        "channels": 1,
        "sample_rate": 16_000,
        "samples_per_pixel": 2,
        "bits": 8,
        "length": 2,
        "data": [-1, 1, -128, 127],
    },
    "picture": {"width": 512, "height": 128, "min_hz": 40.0, "max_hz": 8000.0, "floor_db": -80.0},
}


@dataclass
class FakeBroker:
    """Remembers what is published; `down`: accepts nothing."""

    published: list[str] = field(default_factory=list)
    down: bool = False

    def publish(self, job_ids: list[str], *, variant: str) -> None:
        if self.down:
            raise BrokerUnavailableError("switched off by the test")
        self.published += job_ids

    def enqueued_job_ids(self, variant: str) -> set[str]:
        return set(self.published)


@dataclass
class MonotonicClock:
    """A clock in seconds that stands still until a test moves it."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Harness:
    """The app and its dependencies."""

    app: Flask
    db: Database
    store: LocalStore
    queue: FakeBroker
    clock: FakeClock
    bucket_contents: InMemoryBucket
    monotonic: MonotonicClock

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def add_worker(self, slots: int = 4) -> None:
        """Register a worker with free slots: jobs are published only for these."""
        with self.db.transaction() as tx:
            register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=slots, variants=["tiny_16k"])

    def submit(self, **fields: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/jobs", json={"prompt": "rain", **fields})
        assert answer.status_code == 202, answer.json
        return dict(answer.json or {})

    def upload(self, data: bytes = b"video", **fields: Any) -> str:
        announced = self.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": len(data), **fields}).json
        assert announced is not None
        how = announced["upload"]
        assert self.client.open(how["url"], method=how["method"], data=data).status_code == 204
        return str(announced["id"])

    def claim(self, job_id: str) -> Claim:
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id="w1", lease_s=12)
        assert claim is not None
        return claim

    def succeed(self, job_id: str, data: bytes = b"0123456789", *, takes: int = 1, previews: bool = False) -> None:
        """Complete a job as a worker does, with an audio file per take, and a preview of each."""
        claim = self.claim(job_id)
        artifacts = [
            self._store(job_id, f"audio-{take + 1}.flac" if takes > 1 else "audio.flac", data, take)
            for take in range(takes)
        ]
        if previews:
            artifacts += [
                replace(
                    self._store(job_id, f"preview-{take + 1}.png", b"picture", take),
                    kind=ArtifactKind.PREVIEW,
                    format="png",
                    content_type="image/png",
                    detail=PREVIEW_DETAIL,
                )
                for take in range(takes)
            ]
        with self.db.transaction() as tx:
            attempts.complete(tx, claim, artifacts, warnings=[], timings={"sample_s": 1.0}, artifact_ttl_s=3600)

    def _store(self, job_id: str, name: str, data: bytes, take: int) -> NewArtifact:
        key = f"jobs/{job_id}/1/{name}"
        stored = self.store.put_stream(key, io.BytesIO(data), content_type="audio/flac", max_bytes=len(data))
        return NewArtifact(
            name=name,
            kind=ArtifactKind.AUDIO,
            format="flac",
            content_type="audio/flac",
            storage_key=key,
            size_bytes=len(data),
            sha256=str(stored.sha256),
            duration_s=8.0,
            take=take,
            seed=7 + take,
        )


@cache
def shared_app() -> Flask:
    """Return the app of all tests: making one takes longer than most tests. A test replaces what its routes use."""
    return new_app(access_log=False)


@pytest.fixture
def harness(tmp_path: Path, clock: FakeClock) -> Iterator[Harness]:
    settings = Settings(
        data_dir=tmp_path,
        max_upload_bytes=1000,
        max_queued_per_tenant=20,
        variants=["tiny_16k"],
        input_buckets=["videos"],
        output_buckets=["videos", "sounds"],
        s3_events_token=SecretStr(EVENTS_TOKEN),
    )
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db"), clock=clock).of_platform()
    store, queue = LocalStore(tmp_path / "objects"), FakeBroker()
    bucket_contents, monotonic = InMemoryBucket(), MonotonicClock()
    app = shared_app()
    app.extensions[EXTENSION] = AppContext(
        settings=settings,
        database=db,
        store=store,
        broker=queue,
        signer=LinkSigner(load_secret_key(settings)),
        buckets=bucket_contents,
        breaker=CircuitBreaker(monotonic),
        log_limit=LogLimit(monotonic),
    )
    yield Harness(app, db, store, queue, clock, bucket_contents, monotonic)
    db.close()
