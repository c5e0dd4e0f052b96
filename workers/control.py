"""The control worker: runs the sweep again and again, and listens for bucket events beside it.

Several may run; each step of the sweep is safe to share, and so is each source of events.
"""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database
from jobs.queue import Broker
from jobs.service.sweep import sweep
from jobs.settings import Settings
from jobs.shared_features import expire_features
from jobs.storage.errors import StorageError
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from workers.triggers.running import running_sources

log = logging.getLogger(__name__)

FEATURES_EVERY_S = 3600.0


def run_control(settings: Settings, stop: threading.Event) -> None:
    """Sweep every `sweep_s` until `stop` is set; outlives a database or a broker that is away."""
    db = Database(settings.database_url)
    broker = Broker(settings.resolved_broker_url())
    store = open_store(settings)
    try:
        with running_sources(settings, db, broker, stop):
            _keep_sweeping(settings, db, broker, store, stop)
    finally:
        broker.close()
        db.close()


def _keep_sweeping(settings: Settings, db: Database, broker: Broker, store: ObjectStore, stop: threading.Event) -> None:
    features_due = time.monotonic()
    while not stop.is_set():
        if settings.feature_ttl_s and time.monotonic() >= features_due:
            features_due = time.monotonic() + FEATURES_EVERY_S
            _expire_features(settings, store)
        try:
            report = sweep(db, broker)
        except SQLAlchemyError as exc:
            log.warning("the database did not answer (%s); sweeping again soon", type(exc).__name__)
        else:
            if report.lost or report.queue_timeouts or report.republished:
                log.info("sweep: %s", report)
        stop.wait(settings.sweep_s)


def _expire_features(settings: Settings, store: ObjectStore) -> None:
    try:
        deleted = expire_features(store, now_s=time.time(), ttl_s=settings.feature_ttl_s)
    except StorageError as exc:
        log.warning("old features stay in the object store for now: %s", exc)
    else:
        if deleted:
            log.info("%d unused features were deleted from the object store", deleted)
