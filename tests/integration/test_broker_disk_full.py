"""The embedded broker on a disk that fills: it refuses messages, and goes on by itself when there is space again."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.queue import RUN_JOB_TASK, Broker, BrokerUnavailableError
from jobs.settings import Settings
from local_services.commands import wait_until
from tests.small_disk import MIB, fill, small_disk
from workers.consumer.celery_app import make_app, make_celery_worker
from workers.host.valkey import EmbeddedValkey, prepare_valkey

VARIANT = "tiny_16k"
PATIENCE_S = 60


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 16 * MIB) as disk:
        yield disk


@pytest.fixture
def valkey(disk: Path) -> Iterator[EmbeddedValkey]:
    valkey = prepare_valkey(disk)
    with subprocess.Popen(valkey.spec.command) as process:
        yield valkey
        process.kill()
    valkey.close()


@pytest.mark.filterwarnings("ignore::celery.exceptions.SecurityWarning")  # the disk needs root
def test_publisher_and_consumer_outlast_a_full_disk_of_the_broker(disk: Path, valkey: EmbeddedValkey) -> None:
    app, received = make_app(Settings(data_dir=disk, broker_url=valkey.url)), set[str]()

    def run_job(job_id: str) -> None:
        received.add(job_id)

    app.task(name=RUN_JOB_TASK, shared=False)(run_job)
    consumer = make_celery_worker(app, worker_id="w", slots=2, variants=[VARIANT], log_level="CRITICAL")
    consuming = threading.Thread(target=consumer.start, daemon=True)
    broker = Broker(valkey.url)

    def published(job_id: str) -> bool:
        try:
            broker.publish([job_id], variant=VARIANT)
        except BrokerUnavailableError:
            return False
        return True

    wait_until(lambda: published("before"), within_s=PATIENCE_S, what="an answer of the broker")
    consuming.start()
    wait_until(lambda: "before" in received, within_s=PATIENCE_S, what="the first message")
    filler = fill(disk)
    # The server refuses once it has noticed: with the next write of its file.
    wait_until(lambda: not published("x" * 10_000), within_s=PATIENCE_S, what="a refusal")
    filler.unlink()
    wait_until(lambda: published("after"), within_s=PATIENCE_S, what="the broker accepting messages again")
    wait_until(lambda: "after" in received, within_s=PATIENCE_S, what="the message after it")
    assert consuming.is_alive()
    consumer.stop()
    consuming.join(PATIENCE_S)
    broker.close()
