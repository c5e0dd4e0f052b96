"""The control worker: runs the sweep again and again, and listens for bucket events beside it.

Several may run; each step of the sweep is safe to share, and so is each source of events.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database
from jobs.queue import Broker
from jobs.service.sweep import sweep
from jobs.settings import Settings
from workers.triggers.running import running_sources

log = logging.getLogger(__name__)


def run_control(settings: Settings, stop: threading.Event) -> None:
    """Sweep every `sweep_s` until `stop` is set; outlives a database or a broker that is away."""
    db = Database(settings.database_url)
    broker = Broker(settings.resolved_broker_url())
    try:
        with running_sources(settings, db, broker, stop):
            _keep_sweeping(settings, db, broker, stop)
    finally:
        broker.close()
        db.close()


def _keep_sweeping(settings: Settings, db: Database, broker: Broker, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            report = sweep(db, broker)
        except SQLAlchemyError as exc:
            log.warning("the database did not answer (%s); sweeping again soon", type(exc).__name__)
        else:
            if report.lost or report.queue_timeouts or report.republished:
                log.info("sweep: %s", report)
        stop.wait(settings.sweep_s)
