"""Runs the checks before anything is repaired: what they found, how much they looked at, and what did not answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from jobs.doctor.brake import Population
from jobs.doctor.finding import Action, Finding, Kind
from jobs.doctor.spool import FindingSpool
from jobs.queue import BrokerUnavailableError
from jobs.settings import BrokerUnknownError
from jobs.storage.errors import StorageError

PART_FAILED = (SQLAlchemyError, StorageError, BrokerUnavailableError, BrokerUnknownError, OSError)
"""What a check or repair raises when database, broker or store do not answer as they should."""

Check = Callable[[], Iterator[Finding]]


@dataclass
class Survey:
    """What the checks found.

    Attributes:
        repairs: how many repairs `--fix` would make, by kind.
        examined: how many items were looked at.
        failures: why a check could not look, by its name.
    """

    findings: FindingSpool
    total: int = 0
    repairs: Counter[Kind] = field(default_factory=Counter)
    examined: Counter[Population] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    def run(self, name: str, check: Check) -> None:
        """Run a check to its end, or until a part does not answer."""
        try:
            for finding in check():
                self.findings.add(finding)
                self.total += 1
                if finding.action is not Action.KEEP:
                    self.repairs[finding.kind] += 1
        except PART_FAILED as exc:
            self.fail(name, reason_of(exc))

    def fail(self, name: str, reason: str) -> None:
        """Note that a check could not look; checks with the same reason share one entry."""
        for names, known in list(self.failures.items()):
            if known == reason:
                del self.failures[names]
                name = f"{names}, {name}"
        self.failures[name] = reason


def reason_of(exc: BaseException) -> str:
    """Return the first line of what went wrong."""
    lines = str(getattr(exc, "orig", None) or exc).strip().splitlines()
    return lines[0] if lines else type(exc).__name__
