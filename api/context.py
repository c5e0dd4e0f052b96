"""What the routes work with, made once a process by `create_app` and kept with the app."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from api.sns import SnsGate
from jobs.db.database import Database, Transaction
from jobs.queue import Broker
from jobs.service.scheduling.dispatch import Publisher, dispatch
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.submission import SubmitPolicy
from jobs.service.variant_availability import LOST_AFTER_LEASES, current_policy, offered_variants, served_variants
from jobs.settings import Settings
from jobs.storage.bucket_reader import BucketReader
from jobs.storage.protocol import ObjectStore
from jobs.storage.signing import LinkSigner
from jobs.triggers.ingestion import EventIngestion

log = logging.getLogger(__name__)

EXTENSION = "mmaudio"
BREAKER_OPEN_S = 5.0


@dataclass
class CircuitBreaker:
    """After the broker did not answer, leaves it alone for a while: a submit should not wait for it each time."""

    monotonic: Callable[[], float] = time.monotonic
    _until: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def over(self) -> bool:
        with self._lock:
            return self.monotonic() >= self._until

    def begin(self) -> None:
        with self._lock:
            self._until = self.monotonic() + BREAKER_OPEN_S


@dataclass
class AppContext:
    """Database, store, broker and what signs links."""

    settings: Settings
    db: Database
    store: ObjectStore
    broker: Broker | Publisher
    signer: LinkSigner
    buckets: BucketReader
    sns: SnsGate = field(default_factory=SnsGate)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)

    def publish(self, variant: str) -> None:
        """Put what waits for `variant` on the queue. Never fails a request: what stays behind, the sweep publishes."""
        if not self.breaker.over:
            return
        began = self.breaker.monotonic()
        try:
            dispatch(self.db, self.broker, variants=(variant,), policy=self.dispatch_policy)
        except SQLAlchemyError as exc:
            log.warning("the jobs wait for the sweep: the database did not answer (%s)", type(exc).__name__)
        if self.breaker.monotonic() - began > 1.0:
            self.breaker.begin()

    @cached_property
    def dispatch_policy(self) -> DispatchPolicy:
        return DispatchPolicy.from_settings(self.settings)

    def offered_variants(self, tx: Transaction) -> tuple[str, ...]:
        """Return the variants that requests may name, the default first."""
        return offered_variants(tx, self.settings)

    def served_variants(self, tx: Transaction) -> list[str]:
        """Return the variants that a living worker takes jobs for."""
        return served_variants(tx, self.settings)

    @property
    def lost_after_s(self) -> float:
        return self.settings.lease_s * LOST_AFTER_LEASES

    def policy(self) -> SubmitPolicy:
        """Return what is accepted now."""
        with self.db.reading() as tx:
            return current_policy(tx, self.settings)

    @property
    def ingestion(self) -> EventIngestion:
        """What turns bucket events into jobs."""
        return EventIngestion(self.db, self.buckets, self.policy, jobs_per_hour=self.settings.trigger_jobs_per_hour)


def current_context() -> AppContext:
    """Return the context of the current app."""
    return cast("AppContext", current_app.extensions[EXTENSION])
