"""A platform of real parts: a database of each kind, Valkey, a folder or S3 as store, worker and control processes."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import select, update

from jobs.db.database import Database
from jobs.db.tables import RUNNING, Job, Worker
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service.artifacts import artifacts_by_job
from jobs.service.job_pages import list_jobs
from jobs.service.queries import JobFilter, get_job, job_attempts, job_events, list_workers
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import store_upload
from jobs.service.workers import request_drain
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store
from local_services.commands import Commands, wait_until
from local_services.faulty_http import FaultSchedule, faulty_proxy
from local_services.s3 import CREDENTIALS
from local_services.valkey import valkey_server
from tests.databases import migrated_postgres, migrated_sqlite
from tests.integration.worker_harness import WorkerHarness

TENANT = "default"
# Seconds. Nothing waits that long on a machine that is not overloaded; no test asserts how fast something was.
PATIENCE_S = 240.0
# Leases that outlast any pause of a busy machine: a test that needs one to end calls `expire_leases`.
TIMES = {
    "MMAUDIO_LEASE_S": "600",
    "MMAUDIO_HEARTBEAT_S": "1",
    "MMAUDIO_MAINTENANCE_INTERVAL_S": "0.5",
    "MMAUDIO_DRAIN_GRACE_S": "30",
}


@dataclass
class PlatformHarness:
    settings: Settings
    db: Database
    broker: Broker
    store: ObjectStore
    commands: Commands

    def submit(self, count: int = 1, **fields: Any) -> list[str]:
        """Queue jobs and publish them, as the API does."""
        request = JobRequest(**{"prompt": "rain", "duration_s": 0.64, "num_steps": 2, **fields})
        policy = SubmitPolicy.from_settings(self.settings, ("tiny_16k",))
        with self.db.of_tenant(TENANT).transaction() as tx:
            ids = [submit(tx, request, policy=policy).job.id for _ in range(count)]
        dispatch(self.db, self.broker)
        return ids

    def upload(self, data: bytes) -> str:
        return store_upload(
            self.db.of_tenant(TENANT), self.store, data, filename="v", content_type="video/mp4", ttl_s=3600
        )

    def job(self, job_id: str) -> Job:
        with self.db.reading() as tx:
            return get_job(tx, job_id)

    def ended(self, ids: list[str]) -> bool:
        return all(self.job(job_id).state.is_terminal for job_id in ids)

    def wait_for(self, ids: list[str], within_s: float = PATIENCE_S) -> list[Job]:
        try:
            wait_until(lambda: self.ended(ids), within_s=within_s, what=f"the end of {len(ids)} jobs")
        except AssertionError:
            raise AssertionError(self.commands.output()) from None
        return [self.job(job_id) for job_id in ids]

    def wait_for_workers(self, count: int) -> list[int]:
        """Wait until so many worker processes take jobs; return their pids."""

        def ready() -> list[int]:
            with self.db.reading() as tx:
                return [w.pid for w in list_workers(tx) if w.state == "ready" and "tiny_16k" in w.variants_loaded]

        try:
            wait_until(lambda: len(ready()) >= count, within_s=PATIENCE_S, what=f"{count} workers")
        except AssertionError:
            raise AssertionError(self.commands.output()) from None
        return ready()

    def pid_of_worker(self, job: Job) -> int:
        """Return the process of the worker that has a job."""
        with self.db.reading() as tx:
            return tx.session.get_one(Worker, job.worker_id).pid

    def running_in(self, pid: int) -> list[str]:
        """Return the jobs that a worker process has."""
        with self.db.reading() as tx:
            query = select(Job.id).join(Worker, Worker.id == Job.worker_id).where(Worker.pid == pid, RUNNING)
            return list(tx.session.scalars(query))

    def expire_leases(self, ids: list[str]) -> None:
        """Let the leases of running jobs end now, as when their workers have been silent for long."""
        with self.db.transaction() as tx:
            tx.session.execute(update(Job).where(Job.id.in_(ids), RUNNING).values(lease_expires_at=tx.now))

    def worker_states(self) -> list[str]:
        """Return how the workers are that have not ended."""
        with self.db.reading() as tx:
            return [worker.state for worker in list_workers(tx)]

    def drain(self) -> None:
        """Ask every worker to drain, as the API does."""
        with self.db.transaction() as tx:
            for worker in list_workers(tx):
                request_drain(tx, worker.id)

    def files_in_scratch(self) -> list[Path]:
        """Return what jobs have left in the folders of the workers."""
        assert self.settings.scratch_dir is not None
        return list(self.settings.scratch_dir.glob("*/*/*"))

    def story(self, job_id: str) -> list[str]:
        with self.db.reading() as tx:
            return [event.kind for event in job_events(tx, job_id) if event.kind != "stage"]

    def outcomes(self, job_id: str) -> list[str | None]:
        with self.db.reading() as tx:
            return [attempt.outcome for attempt in job_attempts(tx, job_id)]

    def stored(self, job_id: str) -> list[str]:
        return [key for key in self.store.list_keys(f"jobs/{job_id}/") if "/preview" not in key]

    def artifact_keys(self, job_id: str) -> list[str]:
        with self.db.reading() as tx:
            return sorted(artifact.storage_key for artifact in artifacts_by_job(tx, [job_id])[job_id])

    def states(self) -> Counter[str]:
        with self.db.of_tenant(TENANT).reading() as tx:
            page = list_jobs(tx, wanted=JobFilter(), cursor=None, limit=200)
            return Counter(str(job.state) for job in page.jobs)


BACKENDS = ["sqlite+folder", "postgresql+s3"]
"""The embedded default's parts, and production's."""
ON_SQLITE = pytest.mark.parametrize("platform", ["sqlite+folder"], indirect=True)
"""For what has nothing to do with the kind of database: tests/contract shows that both kinds do the same."""


@pytest.fixture(params=BACKENDS)
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlatformHarness]:
    """A platform of one test's own; the test starts the processes that it needs."""
    with _platform(request, tmp_path) as harness:
        yield harness


@pytest.fixture(scope="module", params=BACKENDS)
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformHarness]:
    """A platform with a control process and two worker processes, for all tests of a module that leave them working."""
    with _platform(request, tmp_path_factory.mktemp("serving")) as harness:
        harness.commands.start("control")
        harness.commands.start("worker", "--devices", "cpu:0,cpu:1")
        harness.wait_for_workers(2)
        yield harness


@contextlib.contextmanager
def _platform(request: pytest.FixtureRequest, folder: Path) -> Iterator[PlatformHarness]:
    environment = {
        "MMAUDIO_DATA_DIR": str(folder / "data"),
        "MMAUDIO_SCRATCH_DIR": str(folder / "scratch"),
        "MMAUDIO_CPU_THREADS": "1",
        **TIMES,
    }
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite+folder":
            environment["MMAUDIO_DATABASE_URL"] = migrated_sqlite(folder / "data" / "mmaudio.db")
        else:
            endpoint, bucket = request.getfixturevalue("s3_endpoint"), f"platform-{uuid.uuid4().hex}"
            boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
            environment |= {
                "MMAUDIO_DATABASE_URL": stack.enter_context(migrated_postgres(request.getfixturevalue("postgres_uri"))),
                "MMAUDIO_STORAGE_URL": f"s3://{bucket}/platform",
                "MMAUDIO_S3_ENDPOINT_URL": endpoint,
                "MMAUDIO_S3_ADDRESSING_STYLE": "path",
                "MMAUDIO_INPUT_BUCKETS": bucket,
                **CREDENTIALS,
            }
        environment["MMAUDIO_BROKER_URL"] = stack.enter_context(valkey_server(folder / "valkey"))
        with pytest.MonkeyPatch.context() as patch:
            # For the settings alone: platforms of different backends may stand side by side.
            for name, value in environment.items():
                patch.setenv(name, value)
            settings = Settings()
        db = Database(settings.database_url).of_platform()
        stack.callback(db.close)
        broker = Broker(settings.broker_url)
        stack.callback(broker.close)
        (folder / "logs").mkdir()
        commands = Commands(environment, folder / "logs")
        stack.callback(commands.stop_all)
        yield PlatformHarness(settings, db, broker, open_store(settings), commands)


@pytest.fixture
def theirs() -> str:
    return f"theirs-{uuid.uuid4().hex}"


@contextlib.contextmanager
def worker_harness(folder: Path, s3_endpoint: str, bucket: str, **more: Any) -> Iterator[WorkerHarness]:
    """Run a harness whose buckets lie behind a proxy that injects faults; `more` are settings."""
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    schedule = FaultSchedule()
    with faulty_proxy(s3_endpoint, schedule) as url:
        values: dict[str, Any] = {
            "data_dir": folder,
            "scratch_dir": folder / "scratch",
            "variants": ["tiny_16k"],
            "s3_endpoint_url": url,
            "s3_addressing_style": "path",
            "s3_max_attempts": 2,
            "output_buckets": [bucket, "no-such-bucket"],
        }
        settings = Settings(**(values | more))
        db = Database(migrated_sqlite(folder / "mmaudio.db")).of_platform()
        store = S3Store(f"s3://{bucket}", ClientOptions(s3_endpoint, addressing_style="path"))
        worker = WorkerHarness(settings, db, schedule, store)
        try:
            yield worker
        finally:
            worker.close()
            db.close()


@pytest.fixture
def worker(tmp_path: Path, s3_endpoint: str, theirs: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerHarness]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with worker_harness(tmp_path, s3_endpoint, theirs) as worker:
        yield worker


@pytest.fixture
def impatient(
    tmp_path: Path, s3_endpoint: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkerHarness]:
    """A worker that gives a job back at once when its result cannot be stored."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with worker_harness(tmp_path, s3_endpoint, theirs, result_wait_s=0) as worker:
        yield worker


@pytest.fixture
def on_s3(tmp_path: Path, s3_endpoint: str, theirs: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerHarness]:
    """A worker whose platform stores in S3, behind the proxy."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with worker_harness(tmp_path, s3_endpoint, theirs, storage_url=f"s3://{theirs}/platform") as worker:
        yield worker
