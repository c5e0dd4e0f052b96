"""A broker that dies while every slot is busy: the acknowledgements fail, and Celery's consumer never asks again."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.services import valkey
from jobs.db.database import Database
from jobs.lifecycle import State
from jobs.queue import Broker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from migrations.upgrade import upgrade
from tests.integration.conftest import TIMES, RealHouse
from tests.servers.commands import Commands, wait_until


@pytest.mark.timeout(600)
def test_a_worker_that_no_message_reaches_any_more_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with valkey(tmp_path / "valkey") as server:
        environment = {
            "MMAUDIO_DATA_DIR": str(tmp_path / "data"),
            "MMAUDIO_BROKER_URL": server.url,
            "MMAUDIO_WORKER_SLOTS": "2",
            "MMAUDIO_STALLED_S": "3",
            **TIMES,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = Settings()
        upgrade(settings.database_url)
        (tmp_path / "logs").mkdir()
        db, broker = Database(settings.database_url), Broker(server.url)
        house = RealHouse(settings, db, broker, open_store(settings), Commands(environment, tmp_path / "logs"))
        try:
            house.commands.start("control")
            house.commands.start("worker", "--devices", "cpu:0")
            house.wait_for_workers(1)
            busy = house.submit(2, duration_s=20, num_steps=60)
            wait_until(lambda: house.states()["running"] == 2, within_s=60, what="two running jobs")
            server.kill()
            assert {job.state for job in house.wait_for(busy, within_s=200)} == {State.SUCCEEDED}
            assert [house.outcomes(job_id) for job_id in busy] == [["succeeded"]] * 2
            server.start()
            later = house.submit(3)
            assert {job.state for job in house.wait_for(later, within_s=200)} == {State.SUCCEEDED}
        finally:
            house.commands.stop_all()
            broker.close()
            db.close()
