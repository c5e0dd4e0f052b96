"""Decides when a worker process stops and what happens to its running jobs then.

A drain starts with a stop signal, on request, when the process uses too much memory, or when its consumer stalls.
Closing the parts of the process does not belong here: that is `workers.worker_process`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from jobs.lifecycle import WorkerState
from workers.host.supervisor import EXIT_RESTART
from workers.runner.active_jobs import ActiveJobs, StopReason

log = logging.getLogger(__name__)

POLL_S = 0.05
# Beyond the grace period, for a consumer that does not stop.
EXIT_EXTRA_S = 10.0


def _signal_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _exit_now(status: int) -> None:
    os._exit(status)  # running jobs are rescued when their leases expire


class Drain:
    """The state of one worker process, from `starting` to `stopped`.

    Args:
        grace_s: how long jobs that run on the device may continue after the first stop signal.
        send_stop: does what a stop signal does; sends SIGTERM to this process by default.
        exit_now: ends this process at once with a status.

    Attributes:
        restart: the supervisor should start a new process after this one.
    """

    def __init__(
        self,
        active_jobs: ActiveJobs,
        *,
        worker_id: str,
        grace_s: float,
        send_stop: Callable[[], None] = _signal_self,
        exit_now: Callable[[int], None] = _exit_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._active_jobs, self._worker_id, self._grace_s = active_jobs, worker_id, grace_s
        self._send_stop, self._exit_now, self._monotonic = send_stop, exit_now, monotonic
        self._ready = False
        self._started, self._stopped = threading.Event(), threading.Event()
        self._stop_signals = 0
        self._own_signals = 0
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        self.restart = False

    @property
    def is_ready(self) -> bool:
        """Whether the consumer has started."""
        return self._ready

    @property
    def started(self) -> bool:
        """Whether the drain has started."""
        return self._started.is_set()

    def state(self) -> WorkerState:
        """Return the state that the worker reports."""
        if self.started:
            return WorkerState.DRAINING
        return WorkerState.READY if self._ready else WorkerState.STARTING

    def mark_ready(self) -> None:
        """Record that the consumer has started."""
        self._ready = True

    def start(self) -> None:
        """Start the thread that stops jobs during the drain."""
        self._thread.start()

    def close(self) -> None:
        """Record that the consumer has stopped; stop the thread."""
        self._started.set()
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def on_stop_signal(self, **_: Any) -> None:
        """Record a stop signal. Runs inside the signal handler, so it only sets flags."""
        if not self._stop_signals:
            self._deadline = self._monotonic() + self._grace_s
        self._stop_signals += 1
        self._started.set()

    def request(self, reason: str, *, restart: bool) -> None:
        """Start a drain as the first stop signal does; does nothing before the worker is ready.

        During a drain it only changes whether a new process follows: a drain without restart prevails.
        """
        if not restart:
            self.restart = False
        if self._own_signals or self.started or not self._ready:
            return
        log.warning("worker %s drains: %s", self._worker_id, reason)
        self.restart = restart
        self._own_signals = 1
        self._send_stop()

    def exit_when_overdue(self) -> None:
        """Wait for the end of the drain; exit the process when the consumer does not stop within the grace period."""
        if not self._stopped.wait(self._grace_s + EXIT_EXTRA_S):
            log.error("consumer did not stop within the grace period; exiting")
            self._exit_now(EXIT_RESTART)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the start of the drain; return whether it has started."""
        return self._started.wait(seconds)

    def _run(self) -> None:
        self._started.wait()
        # Until the end: a job that was being claimed when the signal came is registered only a moment later.
        while not self._stopped.wait(POLL_S):
            self.stop_jobs()

    def stop_jobs(self) -> None:
        """Requeue the jobs that wait for the device; all jobs after the grace period or a second stop signal."""
        if self._monotonic() > self._deadline or self._stop_signals - self._own_signals > 1:
            self._active_jobs.stop_all(StopReason.DRAINED)
        else:
            self._active_jobs.stop_waiting(StopReason.DRAINED)
