"""Keeps child processes running: starts them in order, restarts those that exit, stops all with what they started.

Knows nothing about what the children do; `mmaudio worker` and `mmaudio up` both use it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workers.host.parent_death import die_with_parent

log = logging.getLogger(__name__)

POLL_S = 0.1
STOP_POLL_S = 0.02
# How often the caller is told what a stop waits for.
STOP_REPORT_S = 5.0
FIRST_STOP_REPORT_S = 0.5
# After a second stop signal; long enough to return jobs to the queue.
SECOND_SIGNAL_GRACE_S = 8.0
# A signal that comes while one is pending is lost, so the second one is repeated.
SECOND_SIGNAL_REPEAT_S = 1.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# A crash after a run this long begins a new count.
HEALTHY_AFTER_S = 60.0
CRASHES_ALLOWED = 5
# Exit statuses of a child (click's for wrong usage, else sysexits.h): its settings cannot be used; its device cannot be
# used; it asks to be restarted.
EXIT_CONFIGURATION = 2
EXIT_DEVICE_UNUSABLE = 69
EXIT_RESTART = 75


class CrashLoopError(Exception):
    """Raised when a child exited too often in too short a time; the message names it and how it exited."""


class ChildConfigurationError(Exception):
    """Raised when a child exited because its settings cannot be used; it has printed why."""


@dataclass(frozen=True)
class ChildSpec:
    """A process to keep running. `environment` is added to this process's own.

    Attributes:
        may_end: it may exit with status 0 (a drained worker) and is not restarted then.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    may_end: bool = False


@dataclass
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    crashes: int = 0
    restart_at: float = 0.0


def own_command(*arguments: str) -> list[str]:
    """Return the command line of `mmaudio ARGUMENTS` in this interpreter.

    `-P` keeps the current folder off the module path: a `jobs/` or `random.py` in it would be imported instead of ours.
    """
    return [sys.executable, "-P", "-m", "mmaudio_client", *arguments]


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what puts the current folder on Python's module path."""
    folders = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if Path(entry).is_absolute()]
    safe = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    return safe | ({"PYTHONPATH": os.pathsep.join(folders)} if folders else {}) | {"PYTHONSAFEPATH": "1"}


class Supervisor:
    """Runs children until it is asked to stop.

    Args:
        grace_s: how long stopping children may take before they are killed.
        tell: prints a line for the operator.
        in_order: stop the last started first, each before the next; otherwise all together.
        stopping_report: called now and then while a stop waits, with the children waited for and the seconds left.
    """

    def __init__(
        self,
        *,
        grace_s: float,
        tell: Callable[[str], None],
        in_order: bool = True,
        stopping_report: Callable[[list[str], float], None] = lambda names, seconds_left: None,  # noqa: ARG005
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grace_s, self._tell, self._monotonic, self._sleep = grace_s, tell, monotonic, sleep
        self._in_order, self._stopping_report = in_order, stopping_report
        self._children: list[_Child] = []
        self._stop_signals = 0

    def install_signal_handlers(self) -> None:
        """Let the first SIGTERM or SIGINT stop the children gently, and a second one at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:  # noqa: ARG002 - the handler's signature
        self._stop_signals += 1

    @property
    def stopping(self) -> bool:
        return self._stop_signals > 0

    def start(self, spec: ChildSpec) -> int:
        """Start a child and keep it running from now on; return its pid."""
        child = _Child(spec)
        self._children.append(child)
        return self._spawn(child)

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Watch the children until a stop signal comes, `until` returns true, or all have exited that may.

        Raises:
            CrashLoopError: a child cannot be kept running, or none is left because their devices cannot be used.
            ChildConfigurationError: a child cannot use its settings; a restart would not change that.
        """
        while self._children and not self.stopping and not (until is not None and until()):
            for child in list(self._children):
                self._watch(child)
            self._sleep(POLL_S)

    def stop(self) -> None:
        """Stop all children and wait until they have exited."""
        running = [c.process for c in reversed(self._children) if c.process is not None and c.process.poll() is None]
        names = {c.process.pid: c.spec.name for c in self._children if c.process is not None}
        self._children.clear()
        for group in [[process] for process in running] if self._in_order else [running]:
            self._stop_group(group, names)

    def pids(self) -> dict[str, int]:
        """Return the running children's pids by name."""
        return {c.spec.name: c.process.pid for c in self._children if c.process and c.process.poll() is None}

    def _spawn(self, child: _Child) -> int:
        child.process = subprocess.Popen(
            child.spec.command,
            env=child_environment({**os.environ, **child.spec.environment}),
            stdin=subprocess.DEVNULL,
            # A session of its own: Ctrl-C in the terminal reaches this process alone, which then stops them in order.
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )
        child.started_at = self._monotonic()
        log.debug("%s is process %d", child.spec.name, child.process.pid)
        return child.process.pid

    def _watch(self, child: _Child) -> None:
        now = self._monotonic()
        if child.process is None:
            if now >= child.restart_at:
                self._spawn(child)
            return
        status = child.process.poll()
        if status is None:
            return
        _kill_group(child.process.pid)  # what it started holds its ports and files
        child.process = None
        name = child.spec.name
        if status == 0 and child.spec.may_end:
            self._tell(f"{name} exited")
            self._children.remove(child)
        elif status == EXIT_CONFIGURATION:
            raise ChildConfigurationError(f"{name} cannot use its settings; its message is above.")
        elif status == EXIT_DEVICE_UNUSABLE:
            self._leave_out(child)
        elif status == EXIT_RESTART:
            child.restart_at, child.crashes = now, 0
            self._tell(f"{name} asked for a restart; restarting it")
        else:
            self._restart_later(child, status, now)

    def _restart_later(self, child: _Child, status: int, now: float) -> None:
        child.crashes = 1 if now - child.started_at > HEALTHY_AFTER_S else child.crashes + 1
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        if child.crashes > CRASHES_ALLOWED:
            raise CrashLoopError(f"{child.spec.name} {how}, {child.crashes} times in a row; giving up.")
        pause = min(FIRST_PAUSE_S * 2 ** (child.crashes - 1), LONGEST_PAUSE_S)
        child.restart_at = now + pause
        self._tell(f"{child.spec.name} {how}; restarting it in {pause:g} s")

    def _leave_out(self, child: _Child) -> None:
        """Go on without a child whose device cannot be used; a restart would not change that."""
        self._children.remove(child)
        if not self._children:
            raise CrashLoopError(f"{child.spec.name} cannot use its device (the reason is above); none is left.")
        self._tell(f"{child.spec.name} cannot use its device (the reason is above); continuing without it")

    def _stop_group(self, group: list[subprocess.Popen[bytes]], names: dict[int, str]) -> None:
        for process in group:
            process.terminate()
        deadline = self._monotonic() + self._grace_s
        report_at = self._monotonic() + FIRST_STOP_REPORT_S
        hurry_at: float | None = None
        while (running := [p for p in group if p.poll() is None]) and (now := self._monotonic()) < deadline:
            if self._stop_signals > 1 and (hurry_at is None or now >= hurry_at):
                if hurry_at is None:
                    deadline = min(deadline, now + SECOND_SIGNAL_GRACE_S)
                hurry_at = now + SECOND_SIGNAL_REPEAT_S
                for process in running:
                    process.terminate()  # the child knows what a second one means
            if now >= report_at and hurry_at is None:
                self._stopping_report([names[process.pid] for process in running], deadline - now)
                report_at = now + STOP_REPORT_S
            self._sleep(STOP_POLL_S)
        for process in group:
            if process.poll() is None:
                self._tell(f"{names[process.pid]} did not stop in time; killing it")
            _kill_group(process.pid)
            process.wait()


def _kill_group(pid: int) -> None:
    """Kill a child and what it started, also when the child has exited: it has a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
