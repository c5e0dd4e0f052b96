"""Share of time in which the device's thread is idle while jobs wait: a worker's parts in this process, no broker."""

from __future__ import annotations

import logging
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.platform_harness import VARIANT, PlatformHarness
from jobs.db.database import Database
from jobs.queue import Broker
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from migrations.upgrade import upgrade
from workers.worker_process import WorkerProcess

JOBS = 16


def main() -> None:
    """Run queued jobs, as many at once as a worker has slots; read the device's clock while some still wait."""
    logging.disable(logging.WARNING)  # no broker runs, which would be logged
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mmaudio-bench-") as name:
        settings = Settings(
            data_dir=Path(name),
            broker_url="redis://127.0.0.1:1/0",
            variants=[VARIANT],
            feature_cache_bytes=0,
            feature_ttl_s=0,
        )
        upgrade(settings.database_url)
        worker = WorkerProcess(settings, device="cpu:0", torch_device="cpu")
        db = Database(settings.database_url).of_platform()
        harness = PlatformHarness(settings, db, Broker(settings.broker_url), open_store(settings))
        # Submitted before a worker is registered: nothing is published, so no broker is needed.
        ids = [
            harness.submit(video=harness.video(1.0, number), prompt=f"prompt {number}", seed=number)
            for number in range(JOBS)
        ]
        with db.transaction() as tx:
            register_worker(
                tx,
                worker_id=worker.worker_id,
                hostname="benchmark",
                pid=1,
                device="cpu:0",
                slots=settings.worker_slots,
                variants=[VARIANT],
            )
        clock = worker.engine.clock
        worker.engine.start()
        worker.engine.preload(VARIANT)
        worker.reporter.start()
        with ThreadPoolExecutor(settings.worker_slots) as pool:
            futures = [pool.submit(worker.executor.run, job_id) for job_id in ids]
            while clock.busy_s == 0 or not any(future.done() for future in futures):
                time.sleep(0.01)
            busy_s, idle_s = clock.busy_s, clock.idle_s
            while not all(future.done() or future.running() for future in futures):
                time.sleep(0.01)
            busy_s, idle_s = clock.busy_s - busy_s, clock.idle_s - idle_s
        harness.wait(ids)
        worker.engine.close()
        worker.reporter.close()
        worker.close()
        harness.broker.close()
        db.close()
    print(f"device idle: {idle_s:.2f} s of {busy_s + idle_s:.2f} s while jobs wait: {idle_s / (busy_s + idle_s):.1%}")


if __name__ == "__main__":
    main()
