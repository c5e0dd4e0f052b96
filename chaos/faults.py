"""What is done to the platform: each fault is one function, drawn by a seeded hand every few seconds."""

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
WORKER_BACK_S = 120.0
BUSY_WITHIN_S = 15.0


@dataclass
class Target:
    """Everything that can be broken; a part that this run does not have is None."""

    processes: Processes
    valkey: Valkey
    postgres: Postgres | None
    fault_schedule: FaultSchedule | None
    busy: Callable[[], set[int]]
    """Returns the pids of the worker processes that have jobs in hand."""
    lease_s: float
    store_fault_s: float


def kill_worker(target: Target, rng: random.Random) -> str:
    pid = _some_worker(target, rng)
    _signal(pid, signal.SIGKILL)
    return f"process {pid}"


def kill_supervisor(target: Target, rng: random.Random) -> str:
    _some_worker(target, rng)  # its processes end with it: at a moment when one of them has a job
    return _kill(target, "worker")


def kill_api(target: Target, rng: random.Random) -> str:
    return _kill(target, "api")


def kill_control(target: Target, rng: random.Random) -> str:
    return _kill(target, rng.choice(["control-1", "control-2"]))


def freeze_worker(target: Target, rng: random.Random) -> str:
    """SIGSTOP past the lease, then SIGCONT: it wakes up believing that its jobs are its own."""
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
    away_s = rng.uniform(0.2, 3.0)
    time.sleep(away_s)
    target.valkey.start()
    return f"killed, back after {away_s:.1f} s"


def freeze_broker(target: Target, rng: random.Random) -> str:
    """Connections stay open and nobody answers on them, as with a half-open socket."""
    seconds = rng.uniform(3.0, 8.0)
    target.valkey.signal(signal.SIGSTOP)
    time.sleep(seconds)
    target.valkey.signal(signal.SIGCONT)
    return f"no answer for {seconds:.1f} s"


def restart_database(target: Target, rng: random.Random) -> str:
    assert target.postgres is not None
    mode, away_s = rng.choice(["fast", "immediate"]), rng.uniform(0.0, 2.0)
    target.postgres.restart(mode, away_s)
    return f"{mode}, away {away_s:.1f} s"


def break_store(target: Target, rng: random.Random) -> str:
    assert target.fault_schedule is not None
    target.fault_schedule.rate = STORE_FAULT_RATE
    time.sleep(target.store_fault_s)
    target.fault_schedule.rate = 0.0
    return f"{STORE_FAULT_RATE:.0%} of calls for {target.store_fault_s:g} s"


Fault = Callable[[Target, random.Random], str]


@dataclass
class Nemesis:
    """Does one fault after another, for so many rounds (0: until it is told to stop); nothing it broke stays broken."""

    target: Target
    seed: int
    every_s: float
    tell: Callable[[str], None]
    rounds: int = 0
    done: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)

    def faults(self) -> list[Fault]:
        chosen: list[Fault] = [kill_worker, freeze_worker, kill_supervisor, kill_api, kill_control]
        chosen += [wipe_broker, restart_broker, freeze_broker]
        chosen += [restart_database] if self.target.postgres is not None else []
        chosen += [break_store] if self.target.fault_schedule is not None else []
        return chosen

    def run(self) -> None:
        """Runs in a thread of its own. Every round does every fault once, in an order of its own."""
        rng = random.Random(self.seed)
        began = time.monotonic()
        for _ in range(self.rounds) if self.rounds else itertools.count():
            for fault in rng.sample(self.faults(), k=len(self.faults())):
                if self._stop.wait(rng.uniform(0.5, 1.5) * self.every_s):
                    return
                what = fault(self.target, rng)
                self.done[fault.__name__] += 1
                self.tell(f"{time.monotonic() - began:6.1f} s  {fault.__name__}: {what}")

    def stop(self) -> None:
        self._stop.set()


def _some_worker(target: Target, rng: random.Random) -> int:
    """Return the pid of a worker process, of one that has a job in hand if one comes to have some soon.

    Waits for a process to be there at all when a fault before this has just ended them all.
    """
    began = time.monotonic()
    while True:
        there = target.processes.worker_processes()
        busy = [pid for pid in there if pid in target.busy()]
        waited_s = time.monotonic() - began
        if busy or (there and waited_s > BUSY_WITHIN_S):
            return rng.choice(busy or there)
        if waited_s > WORKER_BACK_S:
            raise RuntimeError(f"no worker came back within {WORKER_BACK_S:g} s")
        time.sleep(0.05)


def _kill(target: Target, name: str) -> str:
    pid = target.processes.pid(name)
    _signal(pid, signal.SIGKILL)
    return f"{name}, process {pid}"


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
