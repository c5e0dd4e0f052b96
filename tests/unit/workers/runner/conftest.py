"""The platform that the executor's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.db.database import Database
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from tests.conftest import FakeClock
from tests.databases import migrated_sqlite
from tests.unit.workers.models import CountingModel, engine_of
from tests.unit.workers.runner.executor_harness import ExecutorHarness
from workers.disk_full import DiskFullLog


@pytest.fixture
def platform(tmp_path: Path, clock: FakeClock) -> Iterator[ExecutorHarness]:
    settings = Settings(data_dir=tmp_path, scratch_dir=tmp_path / "scratch", max_batch=1, result_wait_s=0)
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db"), clock=clock).of_platform()
    with db.transaction() as tx:
        register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=2, variants=["tiny_16k"])
    model = CountingModel()
    engine = engine_of(lambda _: model, max_batch=1)
    engine.start()
    disk_full = DiskFullLog.from_settings(settings)
    yield ExecutorHarness(settings, db, open_store(settings), engine, clock, disk_full)
    engine.close()
    db.close()
