"""The parts that faults act on, and what the faults saw that the platform should not have done."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from chaos.processes import Processes
from chaos.services import Disk, Postgres, Valkey
from local_services.faulty_http import FaultyProxy

WORKER_RESTART_TIMEOUT_S = 120.0
BUSY_TIMEOUT_S = 15.0


class Caller(Protocol):
    """Submits further requests to the platform; the ledger has them."""

    url: str

    def submit_one_more(self) -> str | None:
        """Submit a request by HTTP; return the id of its job, None when nothing was answered."""

    def drop_files(self, inbox: Path, *, good: int) -> str:
        """Put files into the inbox, `good` of which must become one job each; return what the others are."""


@dataclass
class Target:
    """What faults act on; None: this run does not have the part.

    Attributes:
        busy: returns the pids of the worker processes that run jobs.
        outage_s: how long a part is away.
        api_outage_s: how long the API is away.
        hit: the pids of worker processes that were killed or stopped; their attempts may be lost.
        violations: what faults saw that must not happen; they make the run invalid.
    """

    processes: Processes
    valkey: Valkey
    postgres: Postgres | None
    store: FaultyProxy | None
    disk: Disk | None
    inbox: Path
    caller: Caller
    busy: Callable[[], set[int]]
    lease_s: float
    outage_s: float
    api_outage_s: float
    hit: set[int] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, violation: str) -> None:
        """Record a violation; thread-safe."""
        with self._lock:
            self.violations.append(violation)

    def signal_worker(self, pid: int, number: signal.Signals) -> None:
        """Send a signal that may cost the jobs of this worker process an attempt."""
        self.hit.add(pid)
        send_signal(pid, number)

    def some_worker(self, rng: random.Random) -> int:
        """Return the pid of a worker process, preferably of one that runs a job within `BUSY_TIMEOUT_S`.

        Waits for a restart when an earlier fault has just ended all of them.
        """
        began = time.monotonic()
        while True:
            running = self.processes.worker_processes()
            busy = [pid for pid in running if pid in self.busy()]
            waited_s = time.monotonic() - began
            if busy or (running and waited_s > BUSY_TIMEOUT_S):
                return rng.choice(busy or running)
            if waited_s > WORKER_RESTART_TIMEOUT_S:
                raise RuntimeError(f"no worker process was restarted within {WORKER_RESTART_TIMEOUT_S:g} s")
            time.sleep(0.05)

    def workers(self) -> list[dict[str, Any]]:
        """Return the documents of `GET /v1/workers`; none when the API does not answer."""
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            answer = httpx.get(f"{self.caller.url}/v1/workers", timeout=10, trust_env=False)
            return list(answer.json()["data"])
        return []


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
