"""Looks again at the events that could not become jobs when they came, and forgets old ones."""

from __future__ import annotations

import threading
from collections.abc import Callable

from jobs.db.database import Database
from jobs.service.triggers import forget_old_events
from jobs.triggers.intake import Intake

LOOK_S = 2.0


class HeldEvents:
    """A source like the others: what it delivers was delivered before."""

    name = "held events"

    def __init__(self, intake: Intake, db: Database, submitted: Callable[[str], None], *, memory_s: float) -> None:
        self._intake, self._db, self._submitted, self._memory_s = intake, db, submitted, memory_s

    def step(self, stop: threading.Event) -> None:
        taken = self._intake.retry_held()
        for variant in taken.variants:
            self._submitted(variant)
        if not taken.submitted:
            forget_old_events(self._db, older_than_s=self._memory_s)
            stop.wait(LOOK_S)
