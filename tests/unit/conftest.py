"""Unit tests start no process, listen on no socket and call nobody: one that does fails, and says what it did."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

_PROCESS_EVENTS = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
}
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class IsolationError(BaseException):
    """Raised where a unit test starts a process or uses the network. No `except Exception` under test catches it."""


class IsolationGuard:
    """Refuses processes and sockets while it is armed. An audit hook cannot be removed, so one serves all tests."""

    def __init__(self) -> None:
        self.armed = False
        self.violations: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in _PROCESS_EVENTS:
            self.refuse(f"starts a process ({event})")
        elif event == "socket.bind":
            self.refuse(f"binds a socket to {arguments[1]!r}")
        elif event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in _LOOPBACK:
            self.refuse(f"connects to {arguments[1][0]}:{arguments[1][1]}")

    def refuse(self, what: str) -> None:
        """Note the violation, for code that catches everything, and raise."""
        self.violations.append(what)
        raise IsolationError(f"a unit test {what}; such tests belong in tests/processes or tests/integration")


_guard = IsolationGuard()
sys.addaudithook(_guard)


def _refuse_spawn(*_: object) -> int:
    _guard.refuse("starts a process (multiprocessing)")
    raise AssertionError("not reached: refuse raises")


@pytest.fixture(autouse=True)
def isolation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that starts a process, listens, or connects beyond loopback."""
    # The spawn and forkserver methods of multiprocessing raise no audit event.
    monkeypatch.setattr("multiprocessing.util.spawnv_passfds", _refuse_spawn)
    _guard.violations.clear()
    _guard.armed = True
    yield
    _guard.armed = False
    assert not _guard.violations, f"a unit test {'; '.join(_guard.violations)}"
