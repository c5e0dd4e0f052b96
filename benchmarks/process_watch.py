"""Watches a tree of processes for as long as a run lasts: whose memory grows, and who has lost its parent. Linux."""

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

LOOK_S = 2.0
WINDOW_S = 30.0
MIB = 1024**2
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Growth:
    """MiB a minute, least squares.

    Attributes:
        all: of all that was seen; what is in work at the moment comes and goes, and hides what stays.
        floor: of the least in every window: what is held when little is in work. A leak lifts it.
    """

    all: float
    floor: float


@dataclass
class Course:
    """What one process used while it lived: seconds since the run began, bytes, open files and threads."""

    name: str
    at_s: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def growth(self, warm_s: float) -> Growth | None:
        """Return the growth of memory after `warm_s` of its own life; None: it did not live as long again."""
        at, rss = np.array(self.at_s), np.array(self.rss) / MIB
        warm = at - at[0] >= warm_s
        if np.ptp(at[warm]) < warm_s if warm.any() else True:
            return None
        at, rss = at[warm], rss[warm]
        window = (at - at[0]) // WINDOW_S
        windows = [np.flatnonzero(window == one) for one in np.unique(window)]
        lowest = [seen[np.argmin(rss[seen])] for seen in windows]
        return Growth(_slope(at, rss), _slope(at[lowest], rss[lowest]))


class ProcessWatch:
    """Looks every few seconds at this process's descendants.

    Orphans come to this process (it asks the kernel for them), so that none is missed.

    Args:
        parts: says which pids were started here and what they are called.
    """

    def __init__(self, parts: Callable[[], Mapping[int, str]]) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._parts = parts
        self.courses: dict[int, Course] = {}
        self.orphans: list[str] = []
        self._strangers: dict[int, int] = defaultdict(int)
        self._began = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="process watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def left(self) -> list[str]:
        """Return who still lives of all that descend from this process."""
        return [_told(child) for child in psutil.Process().children(recursive=True) if _lives(child)]

    def _run(self) -> None:
        while not self._closed.wait(LOOK_S):
            parts = self._parts()
            for child in psutil.Process().children():
                if child.pid not in parts:
                    self._look_at_orphan(child)
            for pid, name in parts.items():
                self._note(pid, name)
                with contextlib.suppress(psutil.NoSuchProcess):
                    for child in psutil.Process(pid).children():
                        if "--process-for" in child.cmdline():
                            self._note(child.pid, f"{name} process")

    def _look_at_orphan(self, child: psutil.Process) -> None:
        """Reap what has ended; what still lives at the second look was left behind, not just about to end."""
        if not _lives(child):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
            return
        self._strangers[child.pid] += 1
        if self._strangers[child.pid] == 2:
            self.orphans.append(_told(child))

    def _note(self, pid: int, name: str) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            with process.oneshot():
                rss, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
            course = self.courses.setdefault(pid, Course(name))
            course.at_s.append(time.monotonic() - self._began)
            course.rss.append(rss)
            course.files.append(files)
            course.threads.append(threads)


def _slope(at_s: np.ndarray, mib: np.ndarray) -> float:
    return float(np.polyfit(at_s / 60, mib, 1)[0])


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _told(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return f"{process.pid} {' '.join(process.cmdline())[:160]}"
    return str(process.pid)
