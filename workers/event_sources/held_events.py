"""Looks again at the events that could not become jobs when they came, and forgets old ones."""

from __future__ import annotations

import threading
from collections.abc import Callable

from jobs.db.database import Database
from jobs.triggers.ingestion import EventIngestion
from jobs.triggers.service import prune_events

LOOK_S = 2.0


class HeldEvents:
    """A source like the others: what it delivers was delivered before."""

    name = "held events"

    def __init__(
        self, ingestion: EventIngestion, db: Database, submitted: Callable[[str], None], *, memory_s: float
    ) -> None:
        self._ingestion, self._db, self._submitted, self._memory_s = ingestion, db, submitted, memory_s

    def step(self, stop: threading.Event) -> None:
        result = self._ingestion.retry_held_events()
        for variant in result.variants:
            self._submitted(variant)
        if not result.submitted:
            prune_events(self._db, older_than_s=self._memory_s)
            stop.wait(LOOK_S)
