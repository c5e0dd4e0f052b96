"""`mmaudio` commands as processes: started as an operator does, stopped by signals, with their output in files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass
class Commands:
    """Starts `mmaudio ...` processes with one environment and stops them all.

    Attributes:
        folder: receives their output, one file each.
        current_folder: their working directory; None: this process's own.
    """

    environment: Mapping[str, str]
    folder: Path
    current_folder: Path | None = None
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `mmaudio ARGUMENTS` in a session of its own."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MMAUDIO_")}
        log = (self.folder / f"{arguments[0]}-{len(self.started)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmaudio_client", *arguments],
                env={**clean, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.current_folder,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def stop_all(self, within_s: float = 60) -> None:
        """Send SIGTERM to every process; kill those that still run after `within_s`."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                for child in children_of(process.pid):
                    child.kill()
                process.kill()
                process.wait()

    def output(self) -> str:
        """Return the end of every process's output."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))


def children_of(pid: int) -> list[psutil.Process]:
    """Return all running descendants of a process."""
    try:
        return [child for child in psutil.Process(pid).children(recursive=True) if child.is_running()]
    except psutil.NoSuchProcess:
        return []


def wait_until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: `what` did not happen within `within_s`.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {within_s:g} s: {what}")
        time.sleep(0.05)
