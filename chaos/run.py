"""One run: services, platform, load and nemesis together; then quiet; then the check_result."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from chaos.checker import Checker, CheckResult
from chaos.faults import Nemesis, Target
from chaos.ledger import Kind, Ledger, draw_ledger
from chaos.load import Load
from chaos.processes import Processes
from chaos.services import Postgres, free_port, postgres, valkey
from jobs.db.database import Database
from jobs.db.tables import RUNNING, Job, Worker
from jobs.service.submission import SubmitPolicy
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.s3.store import S3Store
from local_services.faulty_http import FaultSchedule, faulty_proxy
from local_services.s3 import CREDENTIALS, s3_server
from migrations.upgrade import upgrade
from mmaudio_model.demo_video import render_demo_video

BUCKET, DELIVERY_BUCKET = "processes", "delivery"
DELIVERY = f"s3://{DELIVERY_BUCKET}/sounds/"
READY_WITHIN_S = 900.0


@dataclass(frozen=True)
class Plan:
    """What a run is; times in seconds.

    Attributes:
        production: PostgreSQL and S3; else SQLite and a folder.
        spread_s: over how long the requests come.
        every_s: the usual time between two faults.
        rounds: how often each fault is done; 0: over and over, until every request was answered.
        settle_s: how long the platform may take to end the next job once the nemesis is over.
    """

    jobs: int = 300
    seed: int = 1
    production: bool = True
    workers: int = 4
    spread_s: float = 240.0
    every_s: float = 5.0
    rounds: int = 0
    settle_s: float = 300.0
    lease_s: float = 6.0
    heartbeat_s: float = 2.0
    store_fault_s: float = 10.0


LONG = Plan()
# Each fault once, while a few jobs run: what CI has the time for.
SHORT = Plan(
    jobs=16, workers=2, spread_s=15, every_s=0.5, rounds=1, settle_s=120, lease_s=3, heartbeat_s=1, store_fault_s=4
)


@dataclass
class Result:
    """The check_result and how it came about."""

    check_result: CheckResult
    ledger: Ledger
    faults: dict[str, int]
    starts: dict[str, int]
    took_s: float

    def as_json(self) -> dict[str, Any]:
        """Return what a later reader, a test or a person, wants to know of the run."""
        told = {"faults": self.faults, "starts": self.starts, "took_s": round(self.took_s, 1)}
        return {**self.check_result.as_json(), **told, "trouble": self.ledger.trouble}


def run(plan: Plan, folder: Path, tell: Callable[[str], None]) -> Result:
    """Carry a plan out in an empty folder; its logs stay there."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(valkey(folder / "valkey"))
        server = stack.enter_context(postgres()) if plan.production else None
        fault_schedule = FaultSchedule() if plan.production else None
        weather_endpoint = stack.enter_context(_s3(fault_schedule)) if fault_schedule is not None else None
        port = free_port()
        environment = _environment(plan, folder, port, broker.url, server, weather_endpoint)
        stack.enter_context(_environ(environment))
        settings = Settings()
        upgrade(settings.database_url)
        db = Database(settings.database_url)
        stack.callback(db.close)
        (folder / "logs").mkdir()
        processes = Processes(environment, folder / "logs")
        stack.callback(processes.close)
        _start(processes, plan)
        url = f"http://127.0.0.1:{port}"
        ledger = draw_ledger(plan.jobs, plan.seed, delivery=DELIVERY if plan.production else None)
        policy = SubmitPolicy.from_settings(settings, ("tiny_16k",))
        give_up_at = time.monotonic() + READY_WITHIN_S + plan.spread_s + plan.settle_s
        load = Load(url, db, policy, ledger, give_up_at)
        _wait_until_ready(url, plan)
        _upload(load, folder)
        target = Target(processes, broker, server, fault_schedule, lambda: _busy(db), plan.lease_s, plan.store_fault_s)
        nemesis = Nemesis(target, plan.seed, plan.every_s, tell, rounds=plan.rounds)
        threads = [threading.Thread(target=target, daemon=True) for target in (processes.watch, nemesis.run)]
        for thread in threads:
            thread.start()
        load.run(plan.spread_s, plan.seed)
        if not plan.rounds:
            nemesis.stop()
        threads[1].join()
        tell(f"the nemesis is over after {sum(nemesis.done.values())} faults; waiting for the last jobs")
        delivered = S3Store.from_settings(f"s3://{DELIVERY_BUCKET}/sounds", settings) if plan.production else None
        checker = Checker(db, open_store(settings), delivered, ledger)
        _wait_for_rest(checker, plan.settle_s)
        check_result = checker.check()
        return Result(check_result, ledger, dict(nemesis.done), processes.starts(), time.monotonic() - began)


def _environment(
    plan: Plan, folder: Path, port: int, broker_url: str, server: Postgres | None, endpoint: str | None
) -> dict[str, str]:
    environment = {
        "MMAUDIO_DATA_DIR": str(folder / "data"),
        "MMAUDIO_SCRATCH_DIR": str(folder / "scratch"),
        "MMAUDIO_BROKER_URL": broker_url,
        "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
        "MMAUDIO_VARIANTS": "tiny_16k",
        "MMAUDIO_LEASE_S": str(plan.lease_s),
        "MMAUDIO_HEARTBEAT_S": str(plan.heartbeat_s),
        "MMAUDIO_MAINTENANCE_INTERVAL_S": "0.5",
        "MMAUDIO_DRAIN_GRACE_S": "3",
        "MMAUDIO_WORKER_SLOTS": "2",
        "MMAUDIO_CONSUMER_STALL_S": "8",
        "MMAUDIO_CPU_THREADS": "1",
        # A job may be hit as often as it likes: nothing may fail for want of a part.
        "MMAUDIO_MAX_ATTEMPTS": "20",
    }
    if server is not None:
        environment["MMAUDIO_DATABASE_URL"] = server.url
    if endpoint is not None:
        environment |= {
            "MMAUDIO_STORAGE_URL": f"s3://{BUCKET}/platform",
            "MMAUDIO_S3_ENDPOINT_URL": endpoint,
            "MMAUDIO_S3_ADDRESSING_STYLE": "path",
            "MMAUDIO_OUTPUT_BUCKETS": DELIVERY_BUCKET,
            **CREDENTIALS,
        }
    return environment


@contextlib.contextmanager
def _s3(fault_schedule: FaultSchedule) -> Iterator[str]:
    with s3_server() as backend, faulty_proxy(backend, fault_schedule) as endpoint:
        client = boto3.client("s3", endpoint_url=backend)
        for bucket in (BUCKET, DELIVERY_BUCKET):
            client.create_bucket(Bucket=bucket)
        yield endpoint


@contextlib.contextmanager
def _environ(environment: dict[str, str]) -> Iterator[None]:
    """Let this process see what the platform's processes see, and nothing else of the platform's settings."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("MMAUDIO_")]:
        del os.environ[name]
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _start(processes: Processes, plan: Plan) -> None:
    processes.keep("api", "api")
    for name in ("control-1", "control-2"):
        processes.keep(name, "control")
    processes.keep("worker", "worker", "--devices", ",".join(f"cpu:{n}" for n in range(plan.workers)))


def _wait_until_ready(url: str, plan: Plan) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            workers = httpx.get(f"{url}/v1/workers", timeout=5).json()["data"]
            if sum(worker["state"] == "idle" for worker in workers) >= plan.workers:
                return
        time.sleep(0.2)
    raise RuntimeError(f"not {plan.workers} workers within {READY_WITHIN_S:g} s; see the logs")


def _busy(db: Database) -> set[int]:
    with contextlib.suppress(SQLAlchemyError), db.reading() as tx:
        return set(tx.session.scalars(select(Worker.pid).join(Job, Job.worker_id == Worker.id).where(RUNNING)))
    return set()


def _upload(load: Load, folder: Path) -> None:
    good, broken = folder / "good.mp4", folder / "broken.mp4"
    render_demo_video(good, seconds=1.0)
    broken.write_bytes(good.read_bytes()[:3000])
    load.upload(Kind.VIDEO, good)
    load.upload(Kind.BROKEN_VIDEO, broken)


def _wait_for_rest(checker: Checker, settle_s: float) -> None:
    """Wait as long as jobs keep ending: on a slow machine nothing is lost, only late."""
    left, deadline = checker.unended(), time.monotonic() + settle_s
    while left and time.monotonic() < deadline:
        time.sleep(0.5)
        if (now := checker.unended()) < left:
            left, deadline = now, time.monotonic() + settle_s
