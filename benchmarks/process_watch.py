"""Samples a process tree during a run and finds growing memory and orphaned processes. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import psutil

INTERVAL_S = 2.0
WINDOW_S = 30.0
MIB = 1024**2
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Growth:
    """Growth of resident memory in MiB per minute, by least squares.

    Attributes:
        all: over all samples; the memory of running jobs varies and hides a leak.
        floor: over the lowest sample of each window, when few jobs run; a leak raises it.
    """

    all: float
    floor: float


@dataclass
class ResourceUsage:
    """Samples of one process: seconds since the run began, bytes, open files and threads."""

    name: str
    at_s: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def growth(self, warm_s: float) -> Growth | None:
        """Return the growth after the first `warm_s` of the process; None when it ran for less than twice that."""
        at, rss = np.array(self.at_s), np.array(self.rss) / MIB
        warm = at - at[0] >= warm_s
        if np.ptp(at[warm]) < warm_s if warm.any() else True:
            return None
        at, rss = at[warm], rss[warm]
        window = (at - at[0]) // WINDOW_S
        windows = [np.flatnonzero(window == one) for one in np.unique(window)]
        lowest = [samples[np.argmin(rss[samples])] for samples in windows]
        return Growth(_slope(at, rss), _slope(at[lowest], rss[lowest]))


class ProcessWatch:
    """Samples this process's descendants every few seconds.

    This process becomes their subreaper: orphans are reparented to it, so that none is missed.

    Args:
        parts: returns the names of the started processes by their pids.
    """

    def __init__(self, parts: Callable[[], Mapping[int, str]]) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._parts = parts
        self.usage: dict[int, ResourceUsage] = {}
        self.orphans: list[str] = []
        self._unknown: dict[int, int] = defaultdict(int)
        self._began = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="process watch", daemon=True)

    def start(self) -> None:
        """Begin to sample, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """End sampling."""
        self._closed.set()
        self._thread.join()

    def running(self) -> list[str]:
        """Return the descendants of this process that still run."""
        return [_describe(child) for child in psutil.Process().children(recursive=True) if _is_running(child)]

    def _run(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            parts = self._parts()
            for child in psutil.Process().children():
                if child.pid not in parts:
                    self._check_unknown(child)
            for pid, name in parts.items():
                self._sample(pid, name)
                with contextlib.suppress(psutil.NoSuchProcess):
                    for child in psutil.Process(pid).children():
                        if "--process-for" in child.cmdline():
                            self._sample(child.pid, f"{name} process")

    def _check_unknown(self, child: psutil.Process) -> None:
        """Reap an ended process; one that still runs at the second sample is an orphan, not just about to end."""
        if not _is_running(child):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
            return
        self._unknown[child.pid] += 1
        if self._unknown[child.pid] == 2:
            self.orphans.append(_describe(child))

    def _sample(self, pid: int, name: str) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            with process.oneshot():
                rss, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
            usage = self.usage.setdefault(pid, ResourceUsage(name))
            usage.at_s.append(time.monotonic() - self._began)
            usage.rss.append(rss)
            usage.files.append(files)
            usage.threads.append(threads)


def _slope(at_s: np.ndarray, mib: np.ndarray) -> float:
    return float(np.polyfit(at_s / 60, mib, 1)[0])


def _is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return f"{process.pid} {' '.join(process.cmdline())[:160]}"
    return str(process.pid)
