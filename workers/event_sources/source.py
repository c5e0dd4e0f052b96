"""The protocol of an event source, and the loop that repeats its step in a thread, whatever fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from jobs.storage.errors import StorageError
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


def run_source(source: Source, stop: threading.Event, disk_full: DiskFullLog | None = None) -> None:
    """Repeat the step of a source until `stop` is set; pause after a failure, twice as long after each further one."""
    disk_full = disk_full or DiskFullLog()
    pause_s = RETRY_S
    while not stop.is_set():
        try:
            source.step(stop)
        except (SQLAlchemyError, BotoCoreError, ClientError, RedisError, StorageError, OSError) as exc:
            if not disk_full.report(exc):
                log.warning(
                    "event source %s failed: %s: %s; retrying in %g s", source.name, type(exc).__name__, exc, pause_s
                )
            stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        else:
            pause_s = RETRY_S
