"""Retries the events that could not become jobs when they arrived, and prunes old events."""

from __future__ import annotations

import threading
from collections.abc import Callable

from jobs.db.database import Database
from jobs.triggers.ingestion import EventIngestion
from jobs.triggers.service import prune_events

INTERVAL_S = 2.0


class HeldEvents:
    """A source whose events have arrived before and are held in the database.

    Args:
        submitted: called with the variant of each new job.
        retention_s: age at which an event is pruned.
    """

    name = "held events"

    def __init__(
        self, ingestion: EventIngestion, db: Database, submitted: Callable[[str], None], *, retention_s: float
    ) -> None:
        self._ingestion, self._db, self._submitted, self._retention_s = ingestion, db, submitted, retention_s

    def step(self, stop: threading.Event) -> None:
        """Retry the events that are due; prune and wait when none became a job, or a full disk lets none become one."""
        submitted = 0
        try:
            result = self._ingestion.retry_held_events()
            submitted = result.submitted
            for variant in result.variants:
                self._submitted(variant)
        finally:
            if not submitted:
                prune_events(self._db, older_than_s=self._retention_s)
        if not submitted:
            stop.wait(INTERVAL_S)
