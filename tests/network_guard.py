"""What shows that somebody touched what nobody may touch: a watched file, a watched address, watched memory. Linux."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_IN_ACCESS, _IN_OPEN = 0x01, 0x20
LOOK_S = 0.005


@contextlib.contextmanager
def watched_file(path: Path) -> Iterator[WatchedFile]:
    """Watch a file that exists; whoever opens or reads it, in whatever process, is noticed."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    try:
        watch = libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_ACCESS | _IN_OPEN)
        assert watch >= 0, os.strerror(ctypes.get_errno())
        yield WatchedFile(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class WatchedFile:
    descriptor: int

    def was_touched(self) -> bool:
        """Say whether it was opened since this was asked last."""
        try:
            return bool(os.read(self.descriptor, 65_536))
        except BlockingIOError:
            return False


@contextlib.contextmanager
def watched_port() -> Iterator[WatchedPort]:
    """Watch an address of this machine, of a free port with five digits; whoever connects is noticed."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        server.setblocking(False)
        yield WatchedPort(server, server.getsockname()[1])


@dataclass(frozen=True)
class WatchedPort:
    server: socket.socket
    port: int

    def was_called(self) -> bool:
        """Say whether somebody connected since this was asked last."""
        calls = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.server.accept()[0].close()
                calls += 1
        return calls > 0


@dataclass
class MemoryWatch:
    """Notes the most memory that each process had that a child of a process has forked, in bytes.

    Attributes:
        pid: whose children are looked at.
        mark: stands in the command line of those children that are meant, and of what they fork.
    """

    pid: int
    mark: bytes
    peaks: dict[int, int] = field(default_factory=dict)
    _closed: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> MemoryWatch:
        self._thread = threading.Thread(target=self._run, name="memory watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_S):
            for server in _children(self.pid):
                for child in _children(server) if self.mark in _command_line(server) else ():
                    self.peaks[child] = max(self.peaks.get(child, 0), peak_memory(child))


def _children(pid: int) -> list[int]:
    """Return the children of a process. Threads and processes end while they are looked at."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, listed.read_text().split())
    return found


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has had resident, in bytes; 0 when it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
