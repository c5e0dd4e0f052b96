"""The control worker: runs the sweep again and again. Several may run; the one with the lease leads, the others wait.

What needs SQL alone, what needs the broker and what needs the object store are loops of their own: a broker that
hangs must not delay that a lost worker is noticed. The sources of bucket events run beside them, in every process.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database
from jobs.ids import new_id
from jobs.queue import Broker, BrokerUnavailableError
from jobs.service.leader_election import lead, resign
from jobs.service.maintenance import MaintenancePolicy, dispatch_backlog, rescue
from jobs.service.retention import BATCH, PruneReport, prune
from jobs.settings import Settings
from jobs.shared_features import expire_features
from jobs.storage.errors import StorageError
from jobs.storage.factory import open_store
from workers.event_sources.threads import run_sources

log = logging.getLogger(__name__)

ROLE = "maintenance"
LEAD_SWEEPS = 5
SHORTEST_LEAD_S = 5.0
RETAIN_EVERY_S = 60.0
FEATURES_EVERY_S = 3600.0
STOP_WITHIN_S = 10.0
EXPECTED = (SQLAlchemyError, BrokerUnavailableError, StorageError)


def run_control(settings: Settings, stop: threading.Event) -> None:
    """Sweep until `stop` is set; outlives a database, a broker or a store that is away."""
    Control(settings, stop).run()


class Control:
    """One control process: the election, and the loops of whoever is elected."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings, self._stop, self._every_s = settings, stop, settings.maintenance_interval_s
        self._holder = f"{socket.gethostname()[:30]}-{os.getpid()}-{new_id('c')[-12:]}"
        self._feature_ttl_s = settings.feature_ttl_s
        self._lead_s = max(SHORTEST_LEAD_S, LEAD_SWEEPS * settings.maintenance_interval_s)
        self._leads = threading.Event()
        self._policy = MaintenancePolicy.from_settings(settings)
        self._db = Database(settings.database_url)
        self._broker = Broker(settings.resolved_broker_url())
        self._store = open_store(settings)

    def run(self) -> None:
        """Run until told to stop."""
        loops = [
            threading.Thread(target=self._repeat, args=arguments, name=arguments[0], daemon=True)
            for arguments in (
                ("dispatch", self._dispatch, self._every_s),
                ("prune", self._prune, RETAIN_EVERY_S),
                ("features", self._expire_features, FEATURES_EVERY_S),
            )
        ]
        for loop in loops:
            loop.start()
        with run_sources(settings=self._settings, db=self._db, publisher=self._broker, stop=self._stop):
            self._repeat("rescue", self._elect_and_rescue, self._every_s)
        for loop in loops:
            loop.join(timeout=STOP_WITHIN_S)
        self._guarded("resign", self._resign)
        self.close()

    def close(self) -> None:
        """Let go of broker and database."""
        self._broker.close()
        self._db.close()

    def _repeat(self, name: str, step: Callable[[], None], every_s: float) -> None:
        while not self._stop.is_set():
            self._guarded(name, step)
            self._stop.wait(every_s)

    @staticmethod
    def _guarded(name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except EXPECTED as exc:
            log.warning("%s: %s did not go through; trying again soon", name, type(exc).__name__)
        except Exception:
            # The boundary: a fault in one round must not end all rounds.
            log.exception("%s failed; trying again soon", name)

    def _elect_and_rescue(self) -> None:
        try:
            with self._db.transaction() as tx:
                elected = lead(tx, ROLE, holder=self._holder, lease_s=self._lead_s)
        except SQLAlchemyError:
            self._leads.clear()  # somebody else may lead by the time the database answers again
            raise
        if not elected:
            self._leads.clear()
            return
        if not self._leads.is_set():
            log.info("%s leads", self._holder)
            self._leads.set()
        report = rescue(self._db, self._policy)
        if any(vars(report).values()):
            log.info("mended: %s", report)

    def _dispatch(self) -> None:
        if self._leads.is_set():
            report = dispatch_backlog(self._db, self._broker, self._policy)
            if report.republished:
                log.info("filled: %s", report)

    def _prune(self) -> None:
        more = True
        while more and self._leads.is_set() and not self._stop.is_set():
            report = self.prune_once()
            if any(vars(report).values()):
                log.info("removed: %s", report)
            more = max(vars(report).values()) >= BATCH

    def prune_once(self) -> PruneReport:
        """Remove up to a batch each of what its time is over for."""
        return prune(self._db, self._store, self._withdraw)

    def _withdraw(self, url: str, job_id: str, attempt: int) -> int:
        from jobs.storage.delivery import Delivery  # boto3, which a platform on a folder never needs

        return Delivery.to(url, self._settings, job_id=job_id, attempt=attempt).withdraw_left()

    def _expire_features(self) -> None:
        """Every process does it: a leader may not have been elected yet when this loop begins."""
        if self._feature_ttl_s:
            deleted = expire_features(self._store, now_s=time.time(), ttl_s=self._feature_ttl_s)
            if deleted:
                log.info("%d unused features were deleted from the object store", deleted)

    def _resign(self) -> None:
        with self._db.transaction() as tx:
            resign(tx, ROLE, holder=self._holder)
