"""Runs the platform's processes as a service manager does: what dies is restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RESTART_AFTER_S = 1.0
STOP_TIMEOUT_S = 40.0


@dataclass
class _Part:
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    died_at: float | None = None
    starts: int = 0


@dataclass
class Processes:
    """API, control workers and a worker supervisor, by name."""

    environment: Mapping[str, str]
    logs: Path
    _parts: dict[str, _Part] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def start(self, name: str, *arguments: str) -> None:
        """Start `mmaudio ARGUMENTS`; `watch` restarts it."""
        with self._lock:
            self._parts[name] = part = _Part(arguments)
            self._spawn(name, part)

    def watch(self) -> None:
        """Restart processes that have ended, until `close`. Runs in a thread of its own."""
        while not self._closed.wait(0.2):
            with self._lock:
                for name, part in self._parts.items():
                    assert part.process is not None
                    if part.process.poll() is None:
                        continue
                    part.died_at = part.died_at or time.monotonic()
                    if time.monotonic() - part.died_at > RESTART_AFTER_S:
                        self._spawn(name, part)

    def _spawn(self, name: str, part: _Part) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MMAUDIO_")}
        with (self.logs / f"{name}.log").open("ab") as log:
            part.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmaudio_client", *part.arguments],
                env={**inherited, **self.environment},
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

    def worker_processes(self) -> list[int]:
        """Return the pids of the worker processes, without the supervisor and the media sandboxes."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid("worker")).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "--process-for" in child.cmdline():
                        found.append(child.pid)
        return sorted(found)

    def starts(self) -> dict[str, int]:
        """Return how often each part was started."""
        return {name: part.starts for name, part in self._parts.items()}

    def close(self) -> None:
        """Stop every process by SIGTERM, then kill the rest."""
        self._closed.set()
        with self._lock:
            processes = [part.process for part in self._parts.values() if part.process is not None]
        trees = [tree for process in processes for tree in _tree(process.pid)]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
        for process in trees:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in processes:
            process.wait()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
