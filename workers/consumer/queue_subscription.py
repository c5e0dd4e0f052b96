"""Which variants' queues a worker consumes: those in its memory, and others only where loading them pays.

A message stays on its variant's queue until a worker takes it. Workers that have the variant loaded take it first,
because the others leave it for about as long as loading would take. Reasons: docs/adr/0005-warm-workers-first.md.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database
from jobs.db.faults import reason
from jobs.queue import queue_name
from jobs.service.workers import oldest_enqueued_age_s, variants_loaded_elsewhere

log = logging.getLogger(__name__)

INTERVAL_S = 0.5
# Assumed duration of a load that this worker has not measured yet.
DEFAULT_LOAD_S = 5.0


def variants_to_consume(
    variants: Iterable[str],
    *,
    loaded: Iterable[str],
    loaded_elsewhere: Iterable[str],
    oldest_age_s: Mapping[str, float],
    load_s: Callable[[str], float | None],
) -> set[str]:
    """Return the variants whose queues a worker consumes now.

    Args:
        loaded: variants in this worker's memory.
        loaded_elsewhere: variants in the memory of another live worker.
        oldest_age_s: how long the oldest message of each variant has waited.
        load_s: returns how long loading a variant took in this process.
    """
    loaded, loaded_elsewhere = set(loaded), set(loaded_elsewhere)
    return {
        variant
        for variant in variants
        if variant in loaded
        or variant not in loaded_elsewhere  # no worker has it, so waiting gains nothing
        or oldest_age_s.get(variant, 0.0) > (load_s(variant) or DEFAULT_LOAD_S)
    }


class QueueSubscription:
    """Subscribes the Celery consumer of one worker to queues, twice a second.

    Args:
        consumer: the Celery worker, which may not have started yet.
        loaded, load_s: see `ModelCache.loaded` and `ModelCache.load_s`.
        usable: returns the variants whose jobs the worker takes now; none while it is unavailable.
    """

    def __init__(
        self,
        db: Database,
        consumer: Any,
        *,
        worker_id: str,
        variants: list[str],
        loaded: Callable[[], list[str]],
        load_s: Callable[[str], float | None],
        usable: Callable[[], list[str]],
    ) -> None:
        self._db, self._consumer, self._worker_id, self._variants = db, consumer, worker_id, variants
        self._loaded, self._load_s, self._usable = loaded, load_s, usable
        self._consumed = set(variants)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-subscription", daemon=True)

    @property
    def consumed(self) -> frozenset[str]:
        """The variants whose queues this worker consumes now."""
        return frozenset(self._consumed)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            usable = self._usable()
            try:
                self._apply(self._choose(usable) if len(usable) > 1 else set(usable))
            except SQLAlchemyError as exc:
                # Without knowledge of the other workers, this one serves every queue.
                log.warning("database unavailable (%s); consuming the queues of all variants", reason(exc))
                self._apply(set(usable))

    def _choose(self, usable: list[str]) -> set[str]:
        with self._db.reading() as tx:
            return variants_to_consume(
                usable,
                loaded=self._loaded(),
                loaded_elsewhere=variants_loaded_elsewhere(tx, self._worker_id),
                oldest_age_s=oldest_enqueued_age_s(tx),
                load_s=self._load_s,
            )

    def _apply(self, variants: set[str]) -> None:
        celery = getattr(self._consumer, "consumer", None)
        if celery is None or celery.task_consumer is None:  # not connected now
            return
        for variant in variants - self._consumed:
            celery.call_soon(celery.add_task_queue, queue_name(variant))
        for variant in self._consumed - variants:
            celery.call_soon(celery.cancel_task_queue, queue_name(variant))
        self._consumed = variants
