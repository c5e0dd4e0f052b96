"""Keeps child processes running: starts them in order, restarts what dies, stops all, leaves nothing behind.

Knows nothing of what the children do; `mmaudio worker` and `mmaudio up` both use it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from workers.host.parent_death import die_with_parent

log = logging.getLogger(__name__)

POLL_S = 0.1
STOP_POLL_S = 0.02
# After a second stop signal; long enough to hand jobs back.
SECOND_SIGNAL_GRACE_S = 8.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# A child that lived this long was well; the next death begins a new count.
HEALTHY_AFTER_S = 60.0
CRASHES_ALLOWED = 5
# What a child says by its exit status (sysexits.h): its device cannot be used; it was well, and wants to start afresh.
EXIT_DEVICE_UNUSABLE = 69
EXIT_RESTART = 75


class CrashLoopError(Exception):
    """Raised when a child died too often in too short a time; the message names it and how it ended."""


@dataclass(frozen=True)
class ChildSpec:
    """A process to keep running. `environment` is added to this process's own.

    Attributes:
        may_end: it may end by itself, with status 0 (a worker that was drained), and is not started again then.
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
    """Return the command line of `mmaudio ARGUMENTS` in this interpreter."""
    return [sys.executable, "-m", "mmaudio_client", *arguments]


class Supervisor:
    """Runs children until told to stop.

    Args:
        grace_s: how long stopping children may take before they are killed.
        tell: says to the person what happens (a line).
        in_order: stop the last started first, each before the next; else all together, as equals.
    """

    def __init__(
        self,
        *,
        grace_s: float,
        tell: Callable[[str], None],
        in_order: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grace_s, self._tell, self._monotonic, self._sleep = grace_s, tell, monotonic, sleep
        self._in_order = in_order
        self._children: list[_Child] = []
        self._stop_signals = 0

    def install_signal_handlers(self) -> None:
        """The first SIGTERM or SIGINT stops the children gently, a second one at once."""
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
        """Watch the children until a stop signal comes, `until` says so, or all have ended that may.

        Raises:
            CrashLoopError: a child cannot be kept running, or none is left because their devices cannot be used.
        """
        while self._children and not self.stopping and not (until is not None and until()):
            for child in list(self._children):
                self._watch(child)
            self._sleep(POLL_S)

    def stop(self) -> None:
        """Stop all children and wait until they are gone."""
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
            env={**os.environ, **child.spec.environment},
            stdin=subprocess.DEVNULL,
            # A session of its own: Ctrl-C in the terminal reaches this process alone, which then stops them in order.
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )
        child.started_at = self._monotonic()
        log.debug("%s runs as %d", child.spec.name, child.process.pid)
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
        _kill_group(child.process.pid)  # what it had started holds its ports and files
        child.process = None
        if status == 0 and child.spec.may_end:
            self._tell(f"{child.spec.name} has ended")
            self._children.remove(child)
            return
        if status == EXIT_DEVICE_UNUSABLE:
            self._give_up(child)
            return
        if status == EXIT_RESTART:
            child.restart_at, child.crashes = now, 0
            self._tell(f"{child.spec.name} starts afresh")
            return
        child.crashes = 1 if now - child.started_at > HEALTHY_AFTER_S else child.crashes + 1
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if child.crashes > CRASHES_ALLOWED:
            raise CrashLoopError(f"{child.spec.name} {how}, {child.crashes} times in a row; giving up.")
        pause = min(FIRST_PAUSE_S * 2 ** (child.crashes - 1), LONGEST_PAUSE_S)
        child.restart_at = now + pause
        self._tell(f"{child.spec.name} {how}; starting it again in {pause:g} s")

    def _give_up(self, child: _Child) -> None:
        """Go on without a child whose device cannot be used; starting it again would change nothing."""
        self._children.remove(child)
        if not self._children:
            raise CrashLoopError(f"{child.spec.name} cannot use its device (the reason stands above); none is left.")
        self._tell(f"{child.spec.name} cannot use its device (the reason stands above); going on without it")

    def _stop_group(self, group: list[subprocess.Popen[bytes]], names: dict[int, str]) -> None:
        for process in group:
            process.terminate()
        deadline = self._monotonic() + self._grace_s
        hurried = False
        while any(process.poll() is None for process in group) and self._monotonic() < deadline:
            if self._stop_signals > 1 and not hurried:
                hurried, deadline = True, min(deadline, self._monotonic() + SECOND_SIGNAL_GRACE_S)
                for process in group:
                    process.terminate()  # the child knows what a second one means
            self._sleep(STOP_POLL_S)
        for process in group:
            if process.poll() is None:
                self._tell(f"{names[process.pid]} did not stop in time; killing it")
            _kill_group(process.pid)
            process.wait()


def _kill_group(pid: int) -> None:
    """Kill a child and what it has started, also when it has ended itself: its session is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
