"""Whether this worker takes jobs: a circuit breaker over everything that a worker needs.

A dependency (store, database, disk, device, weights) is in trouble from a report until a check of it succeeds. While
one is, the worker takes no jobs, says why in its heartbeats, and holds the results that it has. How a job ends because
of it does not belong here: that is `workers.runner.executor`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from jobs.clock import utc_now
from jobs.errors import InfrastructureError, VariantFailedError
from jobs.lifecycle import Dependency

log = logging.getLogger(__name__)

POLL_S = 0.2
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0
# A report within this time after a check succeeded means that the check does not see the trouble: it pauses longer.
RELAPSE_S = 60.0
# How long a variant that could not be loaded is left alone.
VARIANT_PAUSE_S = 60.0
LONGEST_VARIANT_PAUSE_S = 600.0

Check = Callable[[], None]
"""Raises `InfrastructureError` while its dependency is in trouble."""


@dataclass(frozen=True)
class Trouble:
    """Why a worker takes no jobs.

    Attributes:
        checked: a check has met it, so its message names host and reason; that of a job may not.
    """

    dependency: Dependency
    code: str
    message: str
    since: datetime
    pause_s: float
    check_at: float
    checked: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what the worker's heartbeat says."""
        return {"code": self.code, "message": self.message, "since": self.since.isoformat()}


class Availability:
    """The troubles of one worker process, and the thread that checks whether they are over. Thread-safe.

    Args:
        checks: one per dependency that can be checked; a trouble without one lasts until `LONGEST_PAUSE_S` has passed.
        variants: those that the worker serves.
        worker_id: names the worker in messages.
        monotonic, now: clocks.

    Attributes:
        on_change: called, on any thread, when the worker begins or ceases to take jobs.
    """

    def __init__(
        self,
        checks: Mapping[Dependency, Check],
        *,
        variants: list[str],
        worker_id: str,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._checks, self._variants, self._worker_id = dict(checks), list(variants), worker_id
        self._monotonic, self._now = monotonic, now
        self._changed = threading.Condition()
        self._troubles: dict[Dependency, Trouble] = {}
        self._over: dict[Dependency, tuple[float, float]] = {}
        """When the last trouble of a dependency ended, and the pause between its checks."""
        self._failed_variants: dict[str, tuple[float, float, str]] = {}
        """Of each variant that could not be loaded: the end of its pause, the pause, and why."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="availability", daemon=True)
        self.on_change: Callable[[], None] = lambda: None

    @property
    def available(self) -> bool:
        """Whether the worker takes jobs."""
        with self._changed:
            return not self._troubles

    def works(self, dependency: Dependency) -> bool:
        """Whether a dependency is in no known trouble."""
        with self._changed:
            return dependency not in self._troubles

    def trouble(self) -> dict[str, Any] | None:
        """Return why the worker takes no jobs, for its heartbeat; None when it takes them."""
        with self._changed:
            first = min(self._troubles.values(), key=lambda trouble: trouble.since, default=None)
        return None if first is None else first.as_json()

    def failed_variants(self) -> frozenset[str]:
        """Return the variants that could not be loaded a short time ago; their jobs are left to other workers."""
        now = self._monotonic()
        with self._changed:
            return frozenset(name for name, (until, _, _) in self._failed_variants.items() if now < until)

    def usable_variants(self) -> list[str]:
        """Return the variants whose jobs the worker takes."""
        failed = self.failed_variants()
        return [name for name in self._variants if name not in failed]

    def check_all(self) -> None:
        """Check every dependency now: a worker proves what it needs before it takes its first job."""
        for dependency in self._checks:
            self._check(dependency)

    def is_in_trouble_now(self, dependency: Dependency) -> InfrastructureError | None:
        """Check a dependency now; return its trouble, which is reported as well."""
        return self._check(dependency)

    def report(self, error: InfrastructureError) -> None:
        """Take no jobs until the error's dependency has been checked with success."""
        if isinstance(error, VariantFailedError):
            self._report_variant(error)
        elif error.dependency is not None:
            self._open(error.dependency, error)

    def wait(self, dependency: Dependency, timeout_s: float, stopped: Callable[[], bool]) -> bool:
        """Wait until a dependency is in no trouble; return False after `timeout_s`, or when `stopped` returns True."""
        deadline = self._monotonic() + timeout_s
        with self._changed:
            while dependency in self._troubles:
                if stopped() or self._monotonic() >= deadline:
                    return False
                self._changed.wait(POLL_S)
        return True

    def start(self) -> None:
        """Start the thread that checks."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; a check that hangs is not waited for."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(POLL_S):
            self.tick()

    def tick(self) -> None:
        """Make the checks that are due."""
        now = self._monotonic()
        with self._changed:
            due = [trouble.dependency for trouble in self._troubles.values() if now >= trouble.check_at]
        for dependency in due:
            self._check(dependency)

    def _check(self, dependency: Dependency) -> InfrastructureError | None:
        try:
            self._checks.get(dependency, lambda: None)()
        except InfrastructureError as exc:
            self._open(dependency, exc, checked=True)
            return exc
        except Exception:
            # The boundary of the thread: a check that breaks proves nothing, so what is in trouble stays so.
            log.exception("the check of the %s broke", dependency)
            with self._changed:
                if (trouble := self._troubles.get(dependency)) is not None:
                    self._troubles[dependency] = replace(trouble, check_at=self._monotonic() + LONGEST_PAUSE_S)
            return None
        self._end(dependency)
        return None

    def _open(self, dependency: Dependency, error: InfrastructureError, *, checked: bool = False) -> None:
        now = self._monotonic()
        with self._changed:
            known = self._troubles.get(dependency)
            if known is not None:
                pause_s = min(known.pause_s * 2, LONGEST_PAUSE_S) if now >= known.check_at else known.pause_s
                check_at = now + pause_s if now >= known.check_at else known.check_at
                known = replace(known, pause_s=pause_s, check_at=check_at)
                if checked or not known.checked:
                    known = replace(known, code=error.code, message=str(error), checked=checked)
                self._troubles[dependency] = known
                return
            ended_at, pause_s = self._over.get(dependency, (float("-inf"), FIRST_PAUSE_S / 2))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S) if now - ended_at < RELAPSE_S else FIRST_PAUSE_S
            self._troubles[dependency] = Trouble(
                dependency, error.code, str(error), self._now(), pause_s, now + pause_s, checked
            )
            self._changed.notify_all()
        log.error("worker %s takes no jobs: %s", self._worker_id, error)
        self.on_change()

    def _end(self, dependency: Dependency) -> None:
        with self._changed:
            trouble = self._troubles.pop(dependency, None)
            if trouble is None:
                return
            self._over[dependency] = (self._monotonic(), trouble.pause_s)
            available = not self._troubles
            self._changed.notify_all()
        lasted_s = (self._now() - trouble.since).total_seconds()
        then = "takes jobs again" if available else "still takes no jobs"
        log.warning("the %s works again after %.0f s; worker %s %s", dependency, lasted_s, self._worker_id, then)
        self.on_change()

    def _report_variant(self, error: VariantFailedError) -> None:
        now = self._monotonic()
        with self._changed:
            until, pause_s, _ = self._failed_variants.get(error.variant, (0.0, VARIANT_PAUSE_S / 2, ""))
            if now < until:
                return
            pause_s = min(pause_s * 2, LONGEST_VARIANT_PAUSE_S)
            self._failed_variants[error.variant] = (now + pause_s, pause_s, str(error))
        log.error("worker %s takes no jobs of %s for %.0f s: %s", self._worker_id, error.variant, pause_s, error)
        self.on_change()
