"""`mmaudio up`: everything on this machine, as child processes under one supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import redis
from redis.exceptions import RedisError

from jobs.settings import Settings
from workers.host.supervisor import ChildSpec, Supervisor, own_command
from workers.host.valkey import EmbeddedValkey, prepare_valkey, write_private

READY_WITHIN_S = 120.0
WORKER_EXTRA_GRACE_S = 15.0


class UpRefusedError(Exception):
    """Raised when the platform cannot be started here; says why."""


@contextlib.contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process. The kernel lets go when it dies, however it dies.

    Raises:
        UpRefusedError: another `mmaudio up` holds it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UpRefusedError(
                f"`mmaudio up` already runs on {data_dir} (process {holder}). Stop it first, or choose another folder "
                "with MMAUDIO_DATA_DIR and another port with MMAUDIO_API_BIND."
            ) from exc
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def run_up(settings: Settings, tell: Callable[[str], None]) -> None:
    """Run the platform until a stop signal comes.

    Raises:
        UpRefusedError: it cannot be started here.
        CrashLoopError: a part of it cannot be kept running.
    """
    with data_dir_lock(settings.data_dir):
        supervisor = Supervisor(grace_s=settings.drain_grace_s + WORKER_EXTRA_GRACE_S, tell=tell)
        supervisor.install_signal_handlers()
        try:
            _start_broker(settings, supervisor)
            _migrate()
            for name, arguments in (
                ("api", ["api"]),
                ("control", ["control"]),
                ("worker", ["worker", "--devices", settings.devices]),
            ):
                if supervisor.stopping:
                    return
                # A worker that was drained by the API has ended for good; the rest goes on.
                supervisor.start(ChildSpec(name, own_command(*arguments), may_end=name == "worker"))
            if _wait_until_ready(settings, supervisor):
                tell(f"ready: {base_url(settings)} (data in {settings.data_dir}; Ctrl-C stops everything)")
            elif not supervisor.stopping:
                tell(f"not ready after {READY_WITHIN_S:g} s; going on trying (what is wrong stands above)")
            supervisor.run()
            tell("stopping")
        finally:
            supervisor.stop()
            settings.broker_url_file.unlink(missing_ok=True)
    tell("stopped")


def base_url(settings: Settings) -> str:
    """Return where this machine's own callers reach the API."""
    host = settings.api_host
    return f"http://{'127.0.0.1' if host in {'', '0.0.0.0'} else host}:{settings.api_port}"  # noqa: S104 - compared


def _start_broker(settings: Settings, supervisor: Supervisor) -> None:
    if settings.broker_url:
        return
    valkey = prepare_valkey(settings.data_dir)
    supervisor.start(valkey.spec)
    _wait_for_broker(valkey, supervisor)
    write_private(settings.broker_url_file, valkey.url)


def _wait_for_broker(valkey: EmbeddedValkey, supervisor: Supervisor) -> None:
    """Wait for the server to answer; it may first read a long append-only file."""
    client = redis.Redis.from_url(valkey.url)

    def answers() -> bool:
        with contextlib.suppress(RedisError):
            return bool(client.ping())
        return False

    supervisor.run(until=answers)
    client.close()


def _migrate() -> None:
    done = subprocess.run(own_command("migrate"), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UpRefusedError(f"The database could not be migrated:\n{done.stderr.strip()[-2000:]}")


def _wait_until_ready(settings: Settings, supervisor: Supervisor) -> bool:
    """Wait until the API says ready and a worker takes jobs; False when that did not come."""
    deadline = time.monotonic() + READY_WITHIN_S
    ready = False
    with httpx.Client(base_url=base_url(settings), timeout=2, trust_env=False) as client:

        def done() -> bool:
            nonlocal ready
            ready = _is_ready(client)
            return ready or time.monotonic() > deadline

        supervisor.run(until=done)
    return ready


def _is_ready(client: httpx.Client) -> bool:
    try:
        if client.get("/readyz").status_code != httpx.codes.OK:
            return False
        workers = client.get("/v1/workers").json()["data"]
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return any(worker["state"] in {"idle", "busy"} for worker in workers)
