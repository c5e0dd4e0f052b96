"""The control worker as a process, with the times that are the default: what it notices, and who leads."""

from __future__ import annotations

import signal
import time

import redis
from sqlalchemy import select

from jobs.db.tables import Leadership, Worker
from jobs.lifecycle import State
from jobs.service import attempts
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.workers import record_heartbeat, register_worker
from jobs.settings import Settings
from local_services.commands import wait_until
from tests.integration.conftest import PATIENCE_S, TIMES, PlatformHarness
from workers.maintenance.control import ROLE

NOTICED_WITHIN_S = 15.0


def start_control(platform: PlatformHarness) -> None:
    """Start `mmaudio control` with the default times, and wait until somebody leads."""
    environment = platform.commands.environment
    platform.commands.environment = {name: value for name, value in environment.items() if name not in TIMES}
    platform.commands.start("control")
    wait_until(lambda: leader(platform) is not None, within_s=PATIENCE_S, what="a leader")


def leader(platform: PlatformHarness) -> str | None:
    with platform.db.reading() as tx:
        query = select(Leadership.holder).where(Leadership.role == ROLE, Leadership.expires_at > tx.now)
        return tx.session.scalar(query)


def enter_worker(platform: PlatformHarness, slots: int) -> None:
    with platform.db.transaction() as tx:
        register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=slots, variants=["tiny_16k"])


def test_the_default_times_let_a_dead_worker_be_noticed_within_fifteen_seconds() -> None:
    lease_s, every_s = (Settings.model_fields[name].default for name in ("lease_s", "maintenance_interval_s"))
    # Its lease ends, and the next pass of maintenance takes its jobs back.
    assert lease_s + every_s < NOTICED_WITHIN_S


def test_a_dead_worker_is_noticed(platform: PlatformHarness) -> None:
    start_control(platform)
    (job_id,) = platform.submit()
    enter_worker(platform, slots=1)
    with platform.db.transaction() as tx:  # its last sign of life: it claims, and dies
        assert attempts.claim(tx, job_id, worker_id="w1", lease_s=Settings.model_fields["lease_s"].default) is not None
    wait_until(lambda: platform.job(job_id).state is State.QUEUED, within_s=PATIENCE_S, what="the lost job queued")
    assert platform.outcomes(job_id) == ["lost"]

    def said_lost() -> bool:
        with platform.db.reading() as tx:
            return tx.session.get_one(Worker, "w1").state == "lost"

    wait_until(said_lost, within_s=PATIENCE_S, what="the worker said to be lost")


def test_a_wiped_broker_is_refilled(platform: PlatformHarness) -> None:
    start_control(platform)
    ids = platform.submit(12)
    assert platform.broker.enqueued_job_ids("tiny_16k") == set()  # there is no slot to wait for
    enter_worker(platform, slots=12)
    dispatch(platform.db, platform.broker)

    def full() -> bool:
        with platform.db.transaction() as tx:  # the worker lives, and its slots with it
            record_heartbeat(tx, "w1", state="ready", variants_loaded=[], memory_bytes=None)
        return platform.broker.enqueued_job_ids("tiny_16k") == set(ids)

    wait_until(full, within_s=PATIENCE_S, what="a full queue")  # it may be the control process that fills it
    redis.Redis.from_url(platform.settings.broker_url).flushall()
    wait_until(full, within_s=PATIENCE_S, what="the queue full again")


def test_when_the_leader_dies_another_one_leads(platform: PlatformHarness) -> None:
    start_control(platform)
    first = leader(platform)
    platform.commands.start("control")
    time.sleep(1)
    assert leader(platform) == first
    platform.commands.started[0].send_signal(signal.SIGKILL)
    wait_until(lambda: leader(platform) not in {None, first}, within_s=PATIENCE_S, what="another leader")
