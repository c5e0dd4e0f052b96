"""One run: services, platform, workload and nemesis together, then the check once the jobs have finished."""

from __future__ import annotations

import contextlib
import json
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
from chaos.faults.catalog import Part, why_impossible
from chaos.faults.hosts import fill_disk
from chaos.faults.target import Target
from chaos.inbox_files import files_left
from chaos.ledger import INBOX, METADATA_KEY, TENANTS, Kind, Ledger, draw_ledger
from chaos.nemesis import Nemesis
from chaos.plan import READY_TIMEOUT_S, Plan
from chaos.processes import GROUP, Processes
from chaos.services import Disk, postgres, small_disk, valkey
from chaos.workload import Workload
from jobs.db.database import Database
from jobs.db.tables import RUNNING, Job, Worker
from jobs.service.submission import SubmitPolicy
from jobs.settings import MIB, Settings
from jobs.storage.factory import open_store
from jobs.storage.s3.store import S3Store
from jobs.tenants.service import change_tenant
from local_services.faulty_http import FaultSchedule, FaultyProxy, running_proxy
from local_services.ports import free_port
from local_services.s3 import CREDENTIALS, s3_server
from migrations.upgrade import upgrade
from mmaudio_model.demo_video import render_demo_video

BUCKET, DELIVERY_BUCKET = "platform", "delivery"
DELIVERY = f"s3://{DELIVERY_BUCKET}/sounds/"
GROUPS = 2
SCRATCH_BYTES = 128 * MIB
BYTES_PER_JOB = MIB


@dataclass
class Result:
    """The check result with what happened during the run.

    Attributes:
        left_out: faults that could not be injected here, with the reason.
        fault_log: what each fault did, and when.
    """

    check_result: CheckResult
    ledger: Ledger
    faults: dict[str, int]
    left_out: dict[str, str]
    fault_log: list[str]
    starts: dict[str, int]
    took_s: float

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            **self.check_result.as_json(),
            "faults": self.faults,
            "left_out": self.left_out,
            "fault_log": self.fault_log,
            "starts": self.starts,
            "took_s": round(self.took_s, 1),
        }


def run(plan: Plan, folder: Path, log: Callable[[str], None]) -> Result:
    """Run a plan in an empty folder, which keeps the logs."""
    began, fault_log = time.monotonic(), list[str]()

    def say(line: str) -> None:
        fault_log.append(line)
        log(line)

    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(valkey(folder / "valkey"))
        database = stack.enter_context(postgres()) if plan.production else None
        store = stack.enter_context(_s3()) if plan.production else None
        disk = stack.enter_context(_disk(plan, folder))
        port = free_port()
        environment = {
            **settings_of(plan, folder, port, disk),
            "MMAUDIO_BROKER_URL": broker.url,
            **({"MMAUDIO_DATABASE_URL": database.url} if database is not None else {}),
            **(_store_settings(store.url) if store is not None else {}),
        }
        stack.enter_context(_environ(environment))
        settings = Settings()
        upgrade(settings.database_url)
        db = Database(settings.database_url).of_platform()
        stack.callback(db.close)
        _let_all_tenants_deliver(db)
        (folder / "logs").mkdir()
        processes = Processes(environment, folder / "logs")
        stack.callback(processes.close)
        _start(processes, plan)
        ledger = draw_ledger(plan.jobs, plan.seed, delivery=DELIVERY if plan.production else None)
        policy = SubmitPolicy.from_settings(settings, ("tiny_16k",))
        give_up_at = time.monotonic() + plan.longest_s()
        workload = Workload(f"http://127.0.0.1:{port}", db, policy, ledger, give_up_at, _render_videos(folder))
        stack.callback(workload.give_up)
        target = Target(
            processes=processes,
            valkey=broker,
            postgres=database,
            store=store,
            disk=disk,
            inbox=folder / "inbox",
            caller=workload,
            busy=lambda: _busy(db),
            lease_s=plan.lease_s,
            outage_s=plan.outage_s,
            api_outage_s=plan.api_outage_s,
        )
        left_out = {fault.name: why for fault in plan.faults() if (why := why_impossible(fault, target)) is not None}
        faults = [fault for fault in plan.faults() if fault.name not in left_out]
        nemesis = Nemesis(
            target, faults, plan.seed, plan.fault_interval_s, say, rounds=plan.rounds, together=plan.together
        )
        workload.excused = lambda since: nemesis.was_broken(Part.DATABASE, since)
        _wait_until_ready(workload.url, plan)
        workload.prepare()
        _run_side_by_side(plan, workload, nemesis)
        log(f"{sum(nemesis.injected.values())} faults injected; waiting for the last jobs")
        delivered = S3Store.from_settings(f"s3://{DELIVERY_BUCKET}/sounds", settings) if plan.production else None
        checker = Checker(db, open_store(settings), delivered, ledger, max_attempts=plan.max_attempts, hit=target.hit)
        _wait_until_settled(lambda: checker.unfinished_jobs() + len(files_left(target.inbox)), plan.settle_s)
        workload.wait_for_clients(plan.settle_s)
        check_result = checker.check()
        check_result.unexpected += target.violations
        check_result.lost += [f"{name} is still in the inbox" for name in files_left(target.inbox)]
        took_s = time.monotonic() - began
        return Result(check_result, ledger, dict(nemesis.injected), left_out, fault_log, processes.starts(), took_s)


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


def _let_all_tenants_deliver(db: Database) -> None:
    """Name the callers' bucket for each tenant, as an operator does: the settings name it for the first one alone."""
    with db.transaction() as tx:
        for tenant in TENANTS[1:]:
            change_tenant(tx, tenant, {"output_buckets": [DELIVERY_BUCKET]}, actor="chaos")


def settings_of(plan: Plan, folder: Path, port: int, disk: Disk | None) -> dict[str, str]:
    """Return the platform's settings other than the addresses of its services."""
    # On production parts the database and the store have disks of their own, and only scratch files are on this one.
    small = disk.folder if disk is not None else folder
    return {
        "MMAUDIO_DATA_DIR": str((folder if plan.production else small) / "data"),
        "MMAUDIO_SCRATCH_DIR": str(small / "scratch"),
        "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
        "MMAUDIO_VARIANTS": "tiny_16k",
        "MMAUDIO_LEASE_S": str(plan.lease_s),
        "MMAUDIO_HEARTBEAT_S": str(plan.heartbeat_s),
        "MMAUDIO_MAINTENANCE_INTERVAL_S": "0.5",
        "MMAUDIO_DRAIN_GRACE_S": "3",
        "MMAUDIO_WORKER_SLOTS": "2",
        "MMAUDIO_CONSUMER_STALL_S": "8",
        "MMAUDIO_CPU_THREADS": "1",
        "MMAUDIO_FEATURE_CACHE_BYTES": str(16 * MIB),
        "MMAUDIO_INBOX": "true",
        "MMAUDIO_INBOX_DIR": str(folder / "inbox"),
        "MMAUDIO_INBOX_QUIET_S": "0.5",
        "MMAUDIO_INBOX_REQUEST": json.dumps({"num_steps": 2, "metadata": {METADATA_KEY: INBOX}}),
        "MMAUDIO_MAX_ATTEMPTS": str(plan.max_attempts),
    }


def _store_settings(endpoint: str) -> dict[str, str]:
    return {
        "MMAUDIO_STORAGE_URL": f"s3://{BUCKET}/platform",
        "MMAUDIO_S3_ENDPOINT_URL": endpoint,
        "MMAUDIO_S3_ADDRESSING_STYLE": "path",
        "MMAUDIO_OUTPUT_BUCKETS": DELIVERY_BUCKET,
        **CREDENTIALS,
    }


@contextlib.contextmanager
def _s3() -> Iterator[FaultyProxy]:
    with s3_server() as backend, running_proxy(backend, FaultSchedule()) as proxy:
        client = boto3.client("s3", endpoint_url=backend)
        for bucket in (BUCKET, DELIVERY_BUCKET):
            client.create_bucket(Bucket=bucket)
        yield proxy


@contextlib.contextmanager
def _disk(plan: Plan, folder: Path) -> Iterator[Disk | None]:
    """Mount a small file system where the plan fills one."""
    if fill_disk not in [fault.inject for fault in plan.faults()]:
        yield None
        return
    size = SCRATCH_BYTES if plan.production else SCRATCH_BYTES + plan.jobs * BYTES_PER_JOB
    with small_disk(folder / "disk", size) as disk:
        yield disk


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
    for group in range(GROUPS):
        devices = [f"cpu:{n}" for n in range(plan.workers) if n % GROUPS == group]
        if devices:
            name = f"{GROUP}{group + 1}"
            # A key of its own, which the store can refuse.
            key = {"AWS_ACCESS_KEY_ID": name}
            processes.start(name, "worker", "--devices", ",".join(devices), environment=key)


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


def _render_videos(folder: Path) -> dict[Kind, Path]:
    good, broken = folder / "good.mp4", folder / "broken.mp4"
    render_demo_video(good, seconds=1.0)
    broken.write_bytes(good.read_bytes()[:3000])
    return {Kind.VIDEO: good, Kind.BROKEN_VIDEO: broken}


def _wait_until_settled(unfinished_jobs: Callable[[], int], settle_s: float) -> None:
    """Wait as long as jobs keep finishing: a slow machine must not make late jobs look lost."""
    unfinished, deadline = unfinished_jobs(), time.monotonic() + settle_s
    while unfinished and time.monotonic() < deadline:
        time.sleep(0.5)
        if (now := unfinished_jobs()) < unfinished:
            unfinished, deadline = now, time.monotonic() + settle_s
