"""Writes when keys were last used, beside the requests: it must not slow or fail any."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from jobs.api_keys.service import note_use
from jobs.db.database import Database
from jobs.db.faults import reason
from jobs.log_limit import LogLimit

log = logging.getLogger(__name__)

STEP_S = 60.0


class KeyUse:
    """Notes uses of keys; a thread that lives only while there is something to write does so.

    Args:
        write: sets the time of last use of keys.
    """

    def __init__(
        self, write: Callable[[frozenset[str]], None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._monotonic = write, monotonic
        self._log_limit = LogLimit(monotonic)
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._noted_at: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    @classmethod
    def in_database(cls, db: Database) -> KeyUse:
        """Return one that writes to a database."""

        def write(key_ids: frozenset[str]) -> None:
            with db.of_platform().transaction() as tx:
                note_use(tx, key_ids)

        return cls(write)

    def note(self, key_id: str) -> None:
        """Have the time of last use of a key written, once a minute at most."""
        now = self._monotonic()
        with self._lock:
            if now - self._noted_at.get(key_id, -STEP_S) < STEP_S:
                return
            self._noted_at = {one: at for one, at in self._noted_at.items() if now - at < STEP_S} | {key_id: now}
            self._waiting.add(key_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="key-use", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Wait until everything noted so far is written, or has failed."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                key_ids, self._waiting = frozenset(self._waiting), set()
                if not key_ids:
                    self._thread = None
                    return
            try:
                self._write(key_ids)
            except SQLAlchemyError as exc:
                if self._log_limit.allows("key use"):
                    log.warning("last use of API keys not written (said once a minute): %s", reason(exc))
