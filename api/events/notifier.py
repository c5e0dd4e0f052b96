"""The thread that looks for new events while somebody waits for them: one query a tick, for everybody."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from api.events.reader import PAGE, EventReader
from api.events.subscriptions import Batch, Subscriptions
from jobs.db.faults import reason
from jobs.log_limit import LogLimit

log = logging.getLogger(__name__)

INTERVAL_S = 0.05
"""How long the thread waits between two looks."""
RETRY_S = 1.0
"""How long it waits after a look that failed; those who wait go on waiting."""
PROGRESS_S = 0.5
"""How often progress is read."""
CHECK_ALL_S = 30.0
"""How often the rows of all jobs that somebody waits for are looked at: a deleted job has no last event."""


class Notifier:
    """Reads events and hands them to the event loop of the subscriptions.

    Args:
        monotonic: clock in seconds.
        interval_s: see `INTERVAL_S`.
    """

    def __init__(
        self,
        reader: EventReader,
        subscriptions: Subscriptions,
        *,
        log_limit: LogLimit | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._reader, self._subscriptions, self._monotonic = reader, subscriptions, monotonic
        self._log_limit, self._interval_s = log_limit or LogLimit(), interval_s
        self._position: int | None = None
        self._progress_at = self._checked_at = float("-inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Start the thread, for the running event loop; more calls change nothing."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._run, name="notifier", daemon=True).start()

    def close(self) -> None:
        """Let the thread end soon."""
        self._closed.set()
        self._subscriptions.wanted.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._subscriptions.wanted.wait()
            pause_s = self._interval_s
            try:
                self._pass_on(self.tick())
            except SQLAlchemyError as exc:
                pause_s = RETRY_S
                if self._log_limit.allows("notifier"):
                    log.warning("events are read when the database answers (said once a minute): %s", reason(exc))
            except Exception:
                # The boundary: without this thread all who wait would wait until their time is up.
                pause_s = RETRY_S
                log.exception("reading events failed; trying again")
            self._closed.wait(pause_s)

    def _pass_on(self, batch: Batch | None) -> None:
        if batch is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._subscriptions.deliver, batch)

    def tick(self) -> Batch | None:
        """Return what is new; None when nobody waits.

        Raises:
            SQLAlchemyError: the database does not answer; the next tick finds what this one missed.
        """
        now = self._monotonic()
        check_all = now - self._checked_at >= CHECK_ALL_S
        wanted = self._subscriptions.take(all_jobs=check_all)
        if not wanted.active:
            self._position = None
            return None
        batch = Batch(wanted.period)
        try:
            # In this order: what happens after the position is read comes as an event, what happened before is in the
            # rows; and progress never comes after the event that ends it.
            position = self._position if self._position is not None else self._reader.position()
            self._position = position
            batch.versions = self._reader.versions(wanted.unchecked)
        except SQLAlchemyError:
            self._subscriptions.check_again(wanted.unchecked)
            raise
        if check_all:
            self._checked_at = now
        try:
            if now - self._progress_at >= PROGRESS_S:
                self._progress_at = now
                batch.progress = self._reader.progress(wanted.progress)
            while True:
                events = self._reader.new_events(position)
                if events:
                    batch.events += events
                    position = self._position = events[-1].position or position
                if len(events) < PAGE:
                    return batch
        except SQLAlchemyError:
            self._pass_on(batch)  # what was read is not read again
            raise
