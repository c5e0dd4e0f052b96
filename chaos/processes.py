"""Runs the platform's processes as a service manager does: what dies is restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RESTART_AFTER_S = 1.0
STOP_TIMEOUT_S = 40.0
GROUP = "worker-"
"""Beginning of the names of worker groups."""


@dataclass
class _Part:
    arguments: tuple[str, ...]
    environment: dict[str, str]
    held_down: bool = False
    process: subprocess.Popen[bytes] | None = None
    died_at: float | None = None
    starts: int = 0


@dataclass
class Processes:
    """API, control workers and worker supervisors, by name. A worker supervisor with its processes is a group."""

    environment: Mapping[str, str]
    logs: Path
    _parts: dict[str, _Part] = field(default_factory=dict)
    _starts: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start `mmaudio ARGUMENTS` with some variables of its own; `watch` restarts it."""
        with self._lock:
            self._parts[name] = part = _Part(arguments, dict(environment or {}))
            self._spawn(name, part)

    @contextlib.contextmanager
    def temporary(self, name: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[None]:
        """Run `mmaudio ARGUMENTS`, restarted when it ends; stop it afterwards."""
        self.start(name, *arguments, environment=environment)
        try:
            yield
        finally:
            with self._lock:
                part = self._parts.pop(name)
                self._starts[name] = self._starts.get(name, 0) + part.starts
            _stop([part.process])

    @contextlib.contextmanager
    def held_down(self, name: str) -> Iterator[None]:
        """Do not restart a part that ends meanwhile; start it afterwards."""
        with self._lock:
            self._parts[name].held_down = True
        try:
            yield
        finally:
            with self._lock:
                self._parts[name].held_down = False

    def watch(self) -> None:
        """Restart processes that have ended, until `close`. Runs in a thread of its own."""
        while not self._closed.wait(0.2):
            with self._lock:
                for name, part in self._parts.items():
                    assert part.process is not None
                    if part.process.poll() is None or part.held_down:
                        continue
                    part.died_at = part.died_at or time.monotonic()
                    if time.monotonic() - part.died_at > RESTART_AFTER_S:
                        self._spawn(name, part)

    def _spawn(self, name: str, part: _Part) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MMAUDIO_")}
        with (self.logs / f"{name}.log").open("ab") as log:
            part.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmaudio_client", *part.arguments],
                env={**inherited, **self.environment, **part.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        part.died_at, part.starts = None, part.starts + 1

    def pid(self, name: str) -> int:
        """Return the pid of a part's present process."""
        with self._lock:
            process = self._parts[name].process
        assert process is not None
        return process.pid

    def groups(self) -> list[str]:
        """Return the names of the worker groups that run all the time."""
        with self._lock:
            return [name for name in self._parts if name.startswith(GROUP)]

    def environment_of(self, name: str) -> dict[str, str]:
        """Return the platform's settings as a part has them."""
        with self._lock:
            return {**self.environment, **self._parts[name].environment}

    def worker_processes(self, group: str | None = None) -> list[int]:
        """Return the pids of a group's worker processes, without supervisor and sandboxes; None: of all groups."""
        found = []
        for name in self.groups() if group is None else [group]:
            with contextlib.suppress(psutil.NoSuchProcess, KeyError):
                for child in psutil.Process(self.pid(name)).children():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        if "--process-for" in child.cmdline():
                            found.append(child.pid)
        return sorted(found)

    def starts(self) -> dict[str, int]:
        """Return how often each part was started."""
        return {**self._starts, **{name: part.starts for name, part in self._parts.items()}}

    def close(self) -> None:
        """Stop every process by SIGTERM, then kill the rest."""
        self._closed.set()
        with self._lock:
            processes = [part.process for part in self._parts.values()]
        _stop(processes)


def _stop(given: Sequence[subprocess.Popen[bytes] | None]) -> None:
    processes = [process for process in given if process is not None]
    trees = [tree for process in processes for tree in _tree(process.pid)]
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    for tree in trees:
        with contextlib.suppress(psutil.NoSuchProcess):
            tree.kill()
    for process in processes:
        process.wait()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
