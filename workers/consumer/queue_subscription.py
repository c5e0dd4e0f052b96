"""Which variants' queues a worker takes jobs from: those that it holds, and cold ones only where that is worth it.

A message lies on its variant's queue until some worker takes it; so that the warm ones take it first, the others leave
it there for about as long as warming up would cost. Why here and not elsewhere: docs/adr/0005-warm-workers-first.md.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database
from jobs.queue import queue_name
from jobs.service.workers import oldest_enqueued_age_s, variants_loaded_elsewhere

log = logging.getLogger(__name__)

LOOK_S = 0.5
# What a warm-up is taken to cost before this worker has measured it.
USUAL_LOAD_S = 5.0


def variants_to_take(
    variants: Iterable[str],
    *,
    loaded: Iterable[str],
    loaded_elsewhere: Iterable[str],
    waited_s: Mapping[str, float],
    load_s: Callable[[str], float | None],
) -> set[str]:
    """Return the variants whose jobs a worker takes now.

    Args:
        loaded: variants in this worker's memory.
        loaded_elsewhere: variants that another living worker has in memory.
        waited_s: how long the oldest job on each variant's queue has been there.
        load_s: how long loading a variant took here.
    """
    loaded, loaded_elsewhere = set(loaded), set(loaded_elsewhere)
    return {
        variant
        for variant in variants
        if variant in loaded
        or variant not in loaded_elsewhere  # nobody is warm, so nobody is worth waiting for
        or waited_s.get(variant, 0.0) > (load_s(variant) or USUAL_LOAD_S)
    }


class QueueSubscription:
    """Tells the Celery consumer of one worker which queues to take from, twice a second; idle with one variant.

    Args:
        consumer: the Celery worker, which may not have started yet.
        loaded, load_s: see `ModelCache.loaded` and `ModelCache.load_s`.
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
    ) -> None:
        self._db, self._consumer, self._worker_id, self._variants = db, consumer, worker_id, variants
        self._loaded, self._load_s = loaded, load_s
        self._taken = set(variants)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-choice", daemon=True)

    @property
    def taken(self) -> frozenset[str]:
        """The variants whose jobs this worker takes now."""
        return frozenset(self._taken)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while len(self._variants) > 1 and not self._closed.wait(LOOK_S):
            try:
                self._apply(self._choose())
            except SQLAlchemyError as exc:
                # Without knowledge of the others, all queues are ours.
                log.warning("the database did not answer (%s); taking every variant's jobs", type(exc).__name__)
                self._apply(set(self._variants))

    def _choose(self) -> set[str]:
        with self._db.reading() as tx:
            return variants_to_take(
                self._variants,
                loaded=self._loaded(),
                loaded_elsewhere=variants_loaded_elsewhere(tx, self._worker_id),
                waited_s=oldest_enqueued_age_s(tx),
                load_s=self._load_s,
            )

    def _apply(self, chosen: set[str]) -> None:
        celery = getattr(self._consumer, "consumer", None)
        if celery is None or celery.task_consumer is None:  # not connected yet, or just now not
            return
        for variant in chosen - self._taken:
            celery.call_soon(celery.add_task_queue, queue_name(variant))
        for variant in self._taken - chosen:
            celery.call_soon(celery.cancel_task_queue, queue_name(variant))
        self._taken = chosen
