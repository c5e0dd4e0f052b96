"""A real Celery worker on a real Valkey leaves the queues alone that it is told to leave alone."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from celery.worker import state as celery_state

from jobs.db.database import Database
from jobs.queue import RUN_JOB_TASK, Broker, queue_name
from jobs.settings import Settings
from local_services.commands import wait_until
from local_services.valkey import valkey_server
from tests.integration.conftest import PATIENCE_S
from workers.consumer.celery_app import make_app, make_celery_worker
from workers.consumer.queue_subscription import QueueSubscription

WARM, COLD = "small_16k", "large_44k"


def asks_for_warm_alone(said: dict[str, Any]) -> bool:
    """Say whether a command that Valkey was given takes the next message, of the warm variant alone."""
    command = str(said["command"])
    return command.startswith("BRPOP") and queue_name(WARM) in command and queue_name(COLD) not in command


# Celery warns a root user of pickled messages; ours are JSON, and nothing else is accepted.
@pytest.mark.filterwarnings("ignore:You're running the worker with superuser privileges")
def test_a_message_of_a_cold_variant_stays_for_others_until_the_worker_takes_it(tmp_path: Path) -> None:
    ran: list[str] = []
    with valkey_server(tmp_path / "valkey") as url:
        app = make_app(Settings(data_dir=tmp_path, broker_url=url))

        @app.task(name=RUN_JOB_TASK, shared=False)
        def run_job(job_id: str) -> None:
            ran.append(job_id)

        worker: Any = make_celery_worker(app, worker_id="w1", slots=2, variants=[WARM, COLD], log_level="WARNING")
        choice = QueueSubscription(
            cast(Database, None),  # what to take is said by the test
            worker,
            worker_id="w1",
            variants=[WARM, COLD],
            loaded=list,
            load_s=lambda variant: None,
            usable=list,
        )
        broker = Broker(url)
        thread = threading.Thread(target=worker.start, daemon=True)
        thread.start()
        try:
            broker.publish(["job_1", "job_2"], variant=COLD)
            wait_until(lambda: len(ran) == 2, within_s=PATIENCE_S, what="a worker that takes everything")

            with redis.Redis.from_url(url) as client, client.monitor() as monitor:
                choice._apply({WARM})
                # What it asked Valkey for before is over once it asks for the warm variant alone.
                wait_until(
                    lambda: asks_for_warm_alone(monitor.next_command()), within_s=PATIENCE_S, what="the next request"
                )
            broker.publish(["job_3"], variant=COLD)
            broker.publish(["job_4"], variant=WARM)
            wait_until(lambda: "job_4" in ran, within_s=PATIENCE_S, what="the warm variant's job")
            time.sleep(1)
            assert ran[2:] == ["job_4"]
            assert broker.enqueued_job_ids(COLD) == {"job_3"}

            choice._apply({WARM, COLD})
            wait_until(lambda: "job_3" in ran, within_s=PATIENCE_S, what="the cold variant's job")
        finally:
            celery_state.should_stop = 0
            thread.join(30)
            celery_state.should_stop = None
            broker.close()
            app.close()
    assert not thread.is_alive()
    assert sorted(ran) == ["job_1", "job_2", "job_3", "job_4"]
