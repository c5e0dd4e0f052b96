"""One run: services, platform, workload and nemesis together, then the check once the jobs have finished."""

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
from chaos.processes import Processes
from chaos.services import Postgres, postgres, valkey
from chaos.workload import Workload
from jobs.db.database import Database
from jobs.db.tables import RUNNING, Job, Worker
from jobs.service.submission import SubmitPolicy
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.s3.store import S3Store
from local_services.faulty_http import FaultSchedule, faulty_proxy
from local_services.ports import free_port
from local_services.s3 import CREDENTIALS, s3_server
from migrations.upgrade import upgrade
from mmaudio_model.demo_video import render_demo_video

BUCKET, DELIVERY_BUCKET = "platform", "delivery"
DELIVERY = f"s3://{DELIVERY_BUCKET}/sounds/"
READY_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Plan:
    """The parameters of a run; times in seconds.

    Attributes:
        production: PostgreSQL and S3; otherwise SQLite and a folder.
        spread_s: the requests are submitted over this time.
        fault_interval_s: mean time between two faults.
        rounds: injects every fault so often; 0: until every request was answered.
        settle_s: after the last fault, the run is over when no job finishes for so long.
        store_fault_s: how long the object store's fault lasts.
    """

    jobs: int = 300
    seed: int = 1
    production: bool = True
    workers: int = 4
    spread_s: float = 240.0
    fault_interval_s: float = 5.0
    rounds: int = 0
    settle_s: float = 300.0
    lease_s: float = 6.0
    heartbeat_s: float = 2.0
    store_fault_s: float = 10.0


LONG = Plan()
# Each fault once while a few jobs run: what CI has time for.
SHORT = Plan(
    jobs=12,
    workers=2,
    spread_s=10,
    fault_interval_s=0.4,
    rounds=1,
    settle_s=120,
    lease_s=3,
    heartbeat_s=1,
    store_fault_s=4,
)


@dataclass
class Result:
    """The check result with what happened during the run."""

    check_result: CheckResult
    ledger: Ledger
    faults: dict[str, int]
    starts: dict[str, int]
    took_s: float

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            **self.check_result.as_json(),
            "faults": self.faults,
            "starts": self.starts,
            "took_s": round(self.took_s, 1),
            "caller_errors": self.ledger.caller_errors,
        }


def run(plan: Plan, folder: Path, log: Callable[[str], None]) -> Result:
    """Run a plan in an empty folder, which keeps the logs."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(valkey(folder / "valkey"))
        database = stack.enter_context(postgres()) if plan.production else None
        store_faults = FaultSchedule() if plan.production else None
        endpoint = stack.enter_context(_s3(store_faults)) if store_faults is not None else None
        port = free_port()
        environment = _environment(plan, folder, port, broker.url, database, endpoint)
        stack.enter_context(_environ(environment))
        settings = Settings()
        upgrade(settings.database_url)
        db = Database(settings.database_url)
        stack.callback(db.close)
        (folder / "logs").mkdir()
        processes = Processes(environment, folder / "logs")
        stack.callback(processes.close)
        _start(processes, plan)
        target = Target(processes, broker, database, store_faults, lambda: _busy(db), plan.lease_s, plan.store_fault_s)
        nemesis = Nemesis(target, plan.seed, plan.fault_interval_s, log, rounds=plan.rounds)
        ledger = draw_ledger(plan.jobs, plan.seed, delivery=DELIVERY if plan.production else None)
        policy = SubmitPolicy.from_settings(settings, ("tiny_16k",))
        give_up_at = time.monotonic() + READY_TIMEOUT_S + plan.spread_s + plan.settle_s
        workload = Workload(f"http://127.0.0.1:{port}", db, policy, ledger, give_up_at)
        _wait_until_ready(workload.url, plan)
        _upload(workload, folder)
        _run_side_by_side(plan, workload, nemesis)
        log(f"{sum(nemesis.injected.values())} faults injected; waiting for the last jobs")
        delivered = S3Store.from_settings(f"s3://{DELIVERY_BUCKET}/sounds", settings) if plan.production else None
        checker = Checker(db, open_store(settings), delivered, ledger)
        _wait_until_settled(checker, plan.settle_s)
        check_result = checker.check()
        return Result(check_result, ledger, dict(nemesis.injected), processes.starts(), time.monotonic() - began)


def _run_side_by_side(plan: Plan, workload: Workload, nemesis: Nemesis) -> None:
    """Run workload and nemesis; return when both are over.

    Raises:
        RuntimeError: a fault could not be injected.
    """
    threading.Thread(target=nemesis.target.processes.watch, daemon=True).start()
    injecting = threading.Thread(target=nemesis.run, daemon=True)
    injecting.start()
    workload.run(plan.spread_s, plan.seed)
    if not plan.rounds:
        nemesis.stop()
    injecting.join()
    if nemesis.failure is not None:
        raise RuntimeError("a fault could not be injected; see its cause") from nemesis.failure


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
        # No job may fail because faults hit it often.
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
def _s3(store_faults: FaultSchedule) -> Iterator[str]:
    with s3_server() as backend, faulty_proxy(backend, store_faults) as endpoint:
        client = boto3.client("s3", endpoint_url=backend)
        for bucket in (BUCKET, DELIVERY_BUCKET):
            client.create_bucket(Bucket=bucket)
        yield endpoint


@contextlib.contextmanager
def _environ(environment: dict[str, str]) -> Iterator[None]:
    """Give this process the platform's settings and no others, and restore them afterwards."""
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
    processes.start("api", "api")
    for name in ("control-1", "control-2"):
        processes.start(name, "control")
    processes.start("worker", "worker", "--devices", ",".join(f"cpu:{n}" for n in range(plan.workers)))


def _wait_until_ready(url: str, plan: Plan) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            workers = httpx.get(f"{url}/v1/workers", timeout=5).json()["data"]
            if sum(worker["state"] == "idle" for worker in workers) >= plan.workers:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{plan.workers} workers were not ready within {READY_TIMEOUT_S:g} s; see the logs")


def _busy(db: Database) -> set[int]:
    with contextlib.suppress(SQLAlchemyError), db.reading() as tx:
        return set(tx.session.scalars(select(Worker.pid).join(Job, Job.worker_id == Worker.id).where(RUNNING)))
    return set()


def _upload(workload: Workload, folder: Path) -> None:
    good, broken = folder / "good.mp4", folder / "broken.mp4"
    render_demo_video(good, seconds=1.0)
    broken.write_bytes(good.read_bytes()[:3000])
    workload.upload(Kind.VIDEO, good)
    workload.upload(Kind.BROKEN_VIDEO, broken)


def _wait_until_settled(checker: Checker, settle_s: float) -> None:
    """Wait as long as jobs keep finishing: a slow machine must not make late jobs look lost."""
    unfinished, deadline = checker.unfinished_jobs(), time.monotonic() + settle_s
    while unfinished and time.monotonic() < deadline:
        time.sleep(0.5)
        if (now := checker.unfinished_jobs()) < unfinished:
            unfinished, deadline = now, time.monotonic() + settle_s
