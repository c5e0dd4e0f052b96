"""Faults of the platform's own processes."""

from __future__ import annotations

import random
import signal
import time

from chaos.faults.target import Target, send_signal


def kill_worker(target: Target, rng: random.Random) -> str:
    """SIGKILL of a worker process that runs a job."""
    pid = target.some_worker(rng)
    target.signal_worker(pid, signal.SIGKILL)
    return f"process {pid}"


def kill_supervisor(target: Target, rng: random.Random) -> str:
    """SIGKILL of a supervisor; its worker processes end with it."""
    target.some_worker(rng)  # wait until one of its processes runs a job
    name = rng.choice(target.processes.groups())
    target.hit.update(target.processes.worker_processes(name))
    return _kill(target, name)


def freeze_worker(target: Target, rng: random.Random) -> str:
    """SIGSTOP past the lease, then SIGCONT: the worker resumes as if its jobs were still its own."""
    pid, seconds = target.some_worker(rng), target.lease_s * 2 + 1
    target.signal_worker(pid, signal.SIGSTOP)
    time.sleep(seconds)
    target.signal_worker(pid, signal.SIGCONT)
    return f"process {pid} for {seconds:g} s"


def kill_api(target: Target, rng: random.Random) -> str:
    """SIGKILL of the API; the service manager restarts it after a second."""
    return _kill(target, "api")


def restart_api(target: Target, rng: random.Random) -> str:
    """SIGKILL of the API, which stays away for the outage time: clients must go on."""
    with target.processes.held_down("api"):
        detail = _kill(target, "api")
        time.sleep(target.api_outage_s)
    return f"{detail}, down for {target.api_outage_s:g} s"


def kill_control(target: Target, rng: random.Random) -> str:
    """SIGKILL of one of the two control processes."""
    return _kill(target, rng.choice(["control-1", "control-2"]))


def _kill(target: Target, name: str) -> str:
    pid = target.processes.pid(name)
    send_signal(pid, signal.SIGKILL)
    return f"{name}, process {pid}"
