"""Checks dependencies within a time limit, whatever hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.faults import reason

LIMIT_S = 1.5


@dataclass
class _Check:
    """A check that runs or has ended; `error` is what it raised."""

    began: float
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class ReadinessChecks:
    """Runs each check in a thread of its own. A check that hangs is waited for again instead of being run twice.

    Args:
        monotonic: clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._latest: dict[str, _Check] = {}

    def failures(self, checks: Mapping[str, Callable[[], None]]) -> dict[str, str]:
        """Return the names of the checks that failed, or did not end within `LIMIT_S`, and why."""
        running = {name: self._begin(name, check) for name, check in checks.items()}
        failures = {}
        for name, check in running.items():
            left = check.began + LIMIT_S - self._monotonic()
            if not check.done.wait(max(0.0, left)):
                failures[name] = f"no answer for {self._monotonic() - check.began:.1f} s"
            elif check.error is not None:
                failures[name] = _why(check.error)
        return failures

    def _begin(self, name: str, step: Callable[[], None]) -> _Check:
        """Return the check that runs, or a new one."""
        with self._lock:
            latest = self._latest.get(name)
            if latest is not None and not latest.done.is_set():
                return latest
            check = self._latest[name] = _Check(self._monotonic())
        threading.Thread(target=_run, args=(check, step), name=f"check-{name}", daemon=True).start()
        return check


def _why(error: Exception) -> str:
    return (reason(error) if isinstance(error, SQLAlchemyError) else str(error).strip()) or "the check failed"


def _run(check: _Check, step: Callable[[], None]) -> None:
    try:
        step()
    except Exception as exc:  # whatever it is: the dependency cannot be used
        check.error = exc
    finally:
        check.done.set()
