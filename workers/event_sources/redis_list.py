"""Bucket events from a Redis list (MinIO's `access` format). A crash loses none.

Each message is moved atomically to a list of this consumer and removed after the commit. The liveness key of a consumer
that died expires; its list is then moved back.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from jobs.log_lines import printable
from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.message import read_text
from workers.event_sources.source import Take, take_each

log = logging.getLogger(__name__)

BATCH = 100
BLOCK_S = 2.0
ALIVE_S = 60
RECOVER_EVERY_S = 20.0


class RedisListSource:
    """Consumes one list. Several processes may consume the same one.

    Args:
        redis: a client that returns bytes, with a socket timeout longer than `BLOCK_S`.
        take: turns events into jobs.
        consumer: a name that no other consumer has or had.
        alive_s: how long the liveness key lasts without renewal.
    """

    name = "redis list"

    def __init__(
        self,
        redis: Redis,
        list_name: str,
        take: Take,
        *,
        consumer: str,
        alive_s: int = ALIVE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis: Any = redis
        self._list, self._take, self._consumer = list_name, take, consumer
        self._alive_s, self._monotonic = alive_s, monotonic
        # The braces keep all keys in one slot of a cluster, so that a move between them is possible.
        slot = list_name if re.search(r"\{[^}]+\}", list_name) else f"{{{list_name}}}"
        self._processing = f"{slot}:processing:"
        self._alive = f"{slot}:alive:"
        self.unreadable = f"{slot}:unreadable"
        self._recover_at = 0.0

    def step(self, stop: threading.Event) -> None:  # noqa: ARG002 - Redis does the waiting, for a short time
        """Renew the liveness key, recover dead consumers' messages from time to time, handle a batch of messages."""
        self._redis.set(self._alive + self._consumer, 1, ex=self._alive_s)
        if self._monotonic() >= self._recover_at:
            self._recover_at = self._monotonic() + RECOVER_EVERY_S
            self.recover()
        mine = self._processing + self._consumer
        # First what a failed step left.
        messages: list[bytes] = self._redis.lrange(mine, 0, BATCH - 1) or self._fetch(mine)
        if messages:
            self._handle(mine, messages)

    def recover(self) -> int:
        """Move the messages of dead consumers back to the list; return how many."""
        recovered = 0
        pattern = re.sub(r"([\\*?\[\]^-])", r"\\\1", self._processing) + "*"
        for key in self._redis.scan_iter(match=pattern, count=1000):
            # Bytes: whoever made the key may have used others than UTF-8.
            consumer = key.removeprefix(self._processing.encode())
            if consumer == self._consumer.encode() or self._redis.exists(self._alive.encode() + consumer):
                continue
            try:
                while self._redis.lmove(key, self._list, src="RIGHT", dest="LEFT") is not None:
                    recovered += 1
            except ResponseError as exc:  # a key of another kind: not a list of events
                log.warning("could not recover the bucket events in %r: %s", key, exc)
        if recovered:
            log.warning("recovered %d bucket events of dead consumers", recovered)
        return recovered

    def _fetch(self, mine: str) -> list[bytes]:
        first = self._redis.blmove(self._list, mine, timeout=BLOCK_S, src="LEFT", dest="RIGHT")
        if first is None:
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            for _ in range(BATCH - 1):
                pipe.lmove(self._list, mine, src="LEFT", dest="RIGHT")
            return [first, *(message for message in pipe.execute() if message is not None)]

    def _handle(self, mine: str, messages: list[bytes]) -> None:
        readable: dict[int, list[ObjectCreated]] = {}
        unreadable: dict[int, Exception] = {}
        for at, message in enumerate(messages):
            try:
                readable[at] = read_text(message)
            except Exception as exc:  # whatever one message holds, the others are handled
                unreadable[at] = exc
        failed = take_each(self._take, list(readable.values()))
        unreadable |= {list(readable)[at]: exc for at, exc in failed.items()}
        for error in unreadable.values():
            reason = str(error) if isinstance(error, UnreadableEventError) else f"{type(error).__name__}: {error}"
            log.warning("moving an unreadable message of %s to %s: %s", self._list, self.unreadable, printable(reason))
        with self._redis.pipeline(transaction=True) as pipe:
            for at, message in enumerate(messages):
                if at in unreadable:  # kept for the operator
                    pipe.rpush(self.unreadable, message)
                pipe.lrem(mine, 1, message)
            pipe.execute()
