"""The protocol of an event source, and the loop that repeats its step in a thread, whatever fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from jobs.db.faults import reason
from jobs.storage.errors import StorageError
from jobs.triggers.event_faults import is_event_fault
from jobs.triggers.event_parsers.event import ObjectCreated
from workers.disk_full import DiskFullLog

log = logging.getLogger(__name__)

RETRY_S = 1.0
LONGEST_RETRY_S = 30.0

Take = Callable[[list[ObjectCreated]], None]
"""Turns events into jobs: committed when it returns, nothing changed when it raises."""


class Source(Protocol):
    """One source of events."""

    name: str

    def step(self, stop: threading.Event) -> None:
        """Wait a short while for messages and handle those that arrive; may raise errors of the services it uses."""
        ...


class LateSource:
    """A source that is made by its first step: wrong settings of one are retried, and stop no other.

    Args:
        make: returns the source; may raise anything.
    """

    def __init__(self, name: str, make: Callable[[], Source]) -> None:
        self.name, self._make = name, make
        self._source: Source | None = None

    def step(self, stop: threading.Event) -> None:
        """Make the source unless it is made, and run its step."""
        if self._source is None:
            self._source = self._make()
        self._source.step(stop)


def take_each(take: Take, messages: Sequence[list[ObjectCreated]]) -> dict[int, Exception]:
    """Turn the events of several messages into jobs: together, or each alone when one of them cannot be handled.

    Returns:
        What failed for the message's own sake, by its index; it fails again however often it is delivered.

    Raises:
        Exception: whatever `take` raises when a service fails; then all messages must be delivered again.
    """
    try:
        if any(messages):
            take([event for events in messages for event in events])
    except Exception as exc:
        if not is_event_fault(exc):
            raise
        if len(messages) == 1:
            return {0: exc}
        failed = ((at, take_each(take, [events]).get(0)) for at, events in enumerate(messages))
        return {at: error for at, error in failed if error is not None}
    return {}


def run_source(source: Source, stop: threading.Event, disk_full: DiskFullLog | None = None) -> None:
    """Repeat the step of a source until `stop` is set; pause after a failure, twice as long after each further one."""
    disk_full = disk_full or DiskFullLog()
    pause_s = RETRY_S
    while not stop.is_set():
        try:
            source.step(stop)
        except (SQLAlchemyError, BotoCoreError, ClientError, RedisError, StorageError, OSError) as exc:
            if not disk_full.report(exc):
                why = reason(exc) if isinstance(exc, SQLAlchemyError) else str(exc)
                log.warning("event source %s failed (%s); retrying in %g s", source.name, why, pause_s)
        except Exception:
            # The boundary: whatever one message or file causes, the source goes on. The pause bounds the log.
            log.exception("event source %s failed unexpectedly; retrying in %g s", source.name, pause_s)
        else:
            pause_s = RETRY_S
            continue
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, LONGEST_RETRY_S)
