"""What every source is: a step that is done again and again, in a thread of its own, whatever fails."""

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

log = logging.getLogger(__name__)

REST_S = 1.0
LONGEST_REST_S = 30.0

Take = Callable[[list[ObjectCreated]], None]
"""Turns events into jobs; has committed when it returns, has changed nothing when it raises."""


class Source(Protocol):
    """One place where events come from."""

    name: str

    def step(self, stop: threading.Event) -> None:
        """Wait a little for messages and handle those that came. May raise what the services it talks to raise."""
        ...


def run_source(source: Source, stop: threading.Event) -> None:
    """Step until `stop` is set; after a failure rest, longer each time, and go on."""
    remaining_s = REST_S
    while not stop.is_set():
        try:
            source.step(stop)
        except (SQLAlchemyError, BotoCoreError, ClientError, RedisError, StorageError, OSError) as exc:
            log.warning(
                "trigger source %s: %s: %s; going on in %g s", source.name, type(exc).__name__, exc, remaining_s
            )
            stop.wait(remaining_s)
            remaining_s = min(2 * remaining_s, LONGEST_REST_S)
        else:
            remaining_s = REST_S
