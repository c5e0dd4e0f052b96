"""The faults that are injected, one function each, and the nemesis that injects them in a seeded random order."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.processes import Processes
from chaos.services import Postgres, Valkey
from local_services.faulty_http import FaultSchedule

STORE_FAULT_RATE = 0.2
WORKER_RESTART_TIMEOUT_S = 120.0
BUSY_TIMEOUT_S = 15.0


@dataclass
class Target:
    """The parts that faults act on; None: this run does not have the part."""

    processes: Processes
    valkey: Valkey
    postgres: Postgres | None
    store_faults: FaultSchedule | None
    busy: Callable[[], set[int]]
    """Returns the pids of the worker processes that run jobs."""
    lease_s: float
    store_fault_s: float


def kill_worker(target: Target, rng: random.Random) -> str:
    pid = _some_worker(target, rng)
    _signal(pid, signal.SIGKILL)
    return f"process {pid}"


def kill_supervisor(target: Target, rng: random.Random) -> str:
    _some_worker(target, rng)  # wait until one of its processes, which end with it, runs a job
    return _kill(target, "worker")


def kill_api(target: Target, rng: random.Random) -> str:
    return _kill(target, "api")


def kill_control(target: Target, rng: random.Random) -> str:
    return _kill(target, rng.choice(["control-1", "control-2"]))


def freeze_worker(target: Target, rng: random.Random) -> str:
    """SIGSTOP past the lease, then SIGCONT: the worker resumes as if its jobs were still its own."""
    pid, seconds = _some_worker(target, rng), target.lease_s * 2 + 1
    _signal(pid, signal.SIGSTOP)
    time.sleep(seconds)
    _signal(pid, signal.SIGCONT)
    return f"process {pid} for {seconds:g} s"


def wipe_broker(target: Target, rng: random.Random) -> str:
    target.valkey.wipe()
    return "FLUSHALL"


def restart_broker(target: Target, rng: random.Random) -> str:
    target.valkey.kill()
    downtime_s = rng.uniform(0.2, 3.0)
    time.sleep(downtime_s)
    target.valkey.start()
    return f"killed, restarted after {downtime_s:.1f} s"


def freeze_broker(target: Target, rng: random.Random) -> str:
    """SIGSTOP, then SIGCONT: connections stay open without an answer, as with a half-open socket."""
    seconds = rng.uniform(3.0, 8.0)
    target.valkey.signal(signal.SIGSTOP)
    time.sleep(seconds)
    target.valkey.signal(signal.SIGCONT)
    return f"no answer for {seconds:.1f} s"


def restart_database(target: Target, rng: random.Random) -> str:
    assert target.postgres is not None
    mode, downtime_s = rng.choice(["fast", "immediate"]), rng.uniform(0.0, 2.0)
    target.postgres.restart(mode, downtime_s)
    return f"{mode} stop, down for {downtime_s:.1f} s"


def break_store(target: Target, rng: random.Random) -> str:
    assert target.store_faults is not None
    target.store_faults.rate = STORE_FAULT_RATE
    time.sleep(target.store_fault_s)
    target.store_faults.rate = 0.0
    return f"{STORE_FAULT_RATE:.0%} of requests for {target.store_fault_s:g} s"


Fault = Callable[[Target, random.Random], str]


@dataclass
class Nemesis:
    """Injects one fault after another; each ends with its part repaired.

    Attributes:
        interval_s: mean time between two faults.
        log: receives one line per fault.
        rounds: injects every fault so often; 0: until `stop`.
        injected: how often each fault was injected.
        failure: why `run` has ended before its time.
    """

    target: Target
    seed: int
    interval_s: float
    log: Callable[[str], None]
    rounds: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    failure: Exception | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def faults(self) -> list[Fault]:
        """Return the faults that this run's parts allow."""
        chosen: list[Fault] = [kill_worker, freeze_worker, kill_supervisor, kill_api, kill_control]
        chosen += [wipe_broker, restart_broker, freeze_broker]
        chosen += [restart_database] if self.target.postgres is not None else []
        chosen += [break_store] if self.target.store_faults is not None else []
        return chosen

    def run(self) -> None:
        """Inject faults; runs in a thread of its own. Every round injects every fault once, in random order."""
        try:
            self._inject_all()
        except Exception as exc:  # the thread's boundary
            self.failure = exc

    def _inject_all(self) -> None:
        rng = random.Random(self.seed)
        began = time.monotonic()
        for _ in range(self.rounds) if self.rounds else itertools.count():
            for fault in rng.sample(self.faults(), k=len(self.faults())):
                if self._stop.wait(rng.uniform(0.5, 1.5) * self.interval_s):
                    return
                detail = fault(self.target, rng)
                self.injected[fault.__name__] += 1
                self.log(f"{time.monotonic() - began:6.1f} s  {fault.__name__}: {detail}")

    def stop(self) -> None:
        """End `run` before the next fault."""
        self._stop.set()


def _some_worker(target: Target, rng: random.Random) -> int:
    """Return the pid of a worker process, preferably of one that runs a job within `BUSY_TIMEOUT_S`.

    Waits for a restart when an earlier fault has just ended all of them.
    """
    began = time.monotonic()
    while True:
        running = target.processes.worker_processes()
        busy = [pid for pid in running if pid in target.busy()]
        waited_s = time.monotonic() - began
        if busy or (running and waited_s > BUSY_TIMEOUT_S):
            return rng.choice(busy or running)
        if waited_s > WORKER_RESTART_TIMEOUT_S:
            raise RuntimeError(f"no worker process was restarted within {WORKER_RESTART_TIMEOUT_S:g} s")
        time.sleep(0.05)


def _kill(target: Target, name: str) -> str:
    pid = target.processes.pid(name)
    _signal(pid, signal.SIGKILL)
    return f"{name}, process {pid}"


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
