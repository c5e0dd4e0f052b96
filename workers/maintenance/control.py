"""The control process: runs the maintenance loops. Several may run; the one with the lease leads, the others wait.

Steps that need SQL only, the broker, and the object store run in separate loops: a broker that hangs must not delay the
rescue of a lost worker's jobs. The event sources run beside them, in every process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database
from jobs.db.faults import reason
from jobs.ids import new_id
from jobs.log_limit import LogLimit
from jobs.queue import Broker, BrokerUnavailableError
from jobs.service.leader_election import last_lead_at, lead, resign
from jobs.service.lease_judgement import LeaseJudgement
from jobs.service.maintenance import MaintenancePolicy, dispatch_backlog, rescue
from jobs.service.retention import BATCH, PruneReport, prune
from jobs.settings import Settings
from jobs.shared_features import expire_features
from jobs.storage.errors import StorageError
from jobs.storage.factory import open_store
from jobs.storage.identity import StoreMismatchError, check_identity
from jobs.webhooks.fan_out import fan_out
from jobs.webhooks.retention import BATCH as DELIVERIES_PRUNED
from jobs.webhooks.retention import prune_deliveries
from workers.disk_full import DiskFullLog, is_disk_full
from workers.event_sources.threads import run_sources
from workers.maintenance.ballast import Ballast
from workers.webhooks.pool import SenderPool

log = logging.getLogger(__name__)

ROLE = "maintenance"
# The lease of the leader lasts this many maintenance intervals.
LEASE_INTERVALS = 5
SHORTEST_LEASE_S = 5.0
PRUNE_EVERY_S = 60.0
# With a full disk.
PRUNE_SOON_S = 2.0
FEATURES_EVERY_S = 3600.0
STOP_WITHIN_S = 10.0
WEBHOOKS_EVERY_S = 1.0
EXPECTED = (SQLAlchemyError, BrokerUnavailableError, StorageError)


def run_control(settings: Settings, stop: threading.Event) -> None:
    """Run maintenance until `stop` is set; survives an unavailable database, broker or object store."""
    Control(settings, stop).run()


class Control:
    """One control process: the election, and the loops of the elected leader."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings, self._stop, self._every_s = settings, stop, settings.maintenance_interval_s
        self._holder = f"{socket.gethostname()[:30]}-{os.getpid()}-{new_id('c')[-12:]}"
        self._feature_ttl_s = settings.feature_ttl_s
        self._lease_s = max(SHORTEST_LEASE_S, LEASE_INTERVALS * settings.maintenance_interval_s)
        self._leads = threading.Event()
        self._judgement = LeaseJudgement(settings.lease_s)
        self._disk_is_full = threading.Event()
        self._ballast = Ballast.from_settings(settings)
        self._monotonic = time.monotonic
        self._prune_at = 0.0
        self._policy = MaintenancePolicy.from_settings(settings)
        self._disk_full = DiskFullLog.from_settings(settings)
        self._log_limit = LogLimit()
        with contextlib.ExitStack() as stack:
            self._db = Database(settings.database_url).of_platform()
            stack.callback(self._db.close)
            self._broker = Broker(settings.resolved_broker_url())
            stack.callback(self._broker.close)
            self._store = open_store(settings)
            self._senders = SenderPool.from_settings(settings, self._db, stop)
            self._resources = stack.pop_all()

    def run(self) -> None:
        """Run until `stop` is set."""
        with self._resources:
            loops = [
                threading.Thread(target=self._repeat, args=arguments, name=arguments[0], daemon=True)
                for arguments in (
                    ("dispatch", self._dispatch, self._every_s),
                    ("prune", self._prune, PRUNE_SOON_S),
                    ("features", self._expire_features, FEATURES_EVERY_S),
                    ("webhooks", self._send_webhooks, min(self._every_s, WEBHOOKS_EVERY_S)),
                    ("webhook log", self._prune_webhooks, PRUNE_EVERY_S),
                )
            ]
            for loop in loops:
                loop.start()
            with run_sources(
                self._settings, db=self._db, publisher=self._broker, disk_full=self._disk_full, stop=self._stop
            ):
                self._repeat("rescue", self._elect_and_rescue, self._every_s)
            for loop in loops:
                loop.join(timeout=STOP_WITHIN_S)
            self._senders.join(STOP_WITHIN_S)
            self._guarded("resign", self._resign)

    def close(self) -> None:
        """Close broker and database."""
        self._resources.close()

    def _repeat(self, name: str, step: Callable[[], None], every_s: float) -> None:
        while not self._stop.is_set():
            self._guarded(name, step)
            self._stop.wait(every_s)

    def _guarded(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except StoreMismatchError as exc:
            log.error("%s: nothing is deleted: %s", name, exc)
        except EXPECTED as exc:
            if not self._disk_full.report(exc) and self._log_limit.allows(name):
                why = reason(exc) if isinstance(exc, SQLAlchemyError) else exc
                log.warning("%s failed (%s); retrying in the next round (said once a minute)", name, why)
        except Exception:
            # The boundary: a fault in one round must not end all rounds.
            log.exception("%s failed; retrying in the next round", name)

    def _elect_and_rescue(self) -> None:
        try:
            with self._db.transaction() as tx:
                previous = last_lead_at(tx, ROLE, lease_s=self._lease_s)
                elected = lead(tx, ROLE, holder=self._holder, lease_s=self._lease_s)
                if elected:
                    self._judgement.begin_round(tx, previous)
        except SQLAlchemyError as exc:
            self._leads.clear()  # another process may lead by the time the database answers again
            if is_disk_full(exc):
                self._disk_is_full.set()
                self._ballast.release()
            raise
        self._disk_is_full.clear()
        if not elected:
            self._leads.clear()
            return
        if not self._leads.is_set():
            log.info("%s is the leader", self._holder)
            self._leads.set()
        report = rescue(self._db, self._policy, may_judge=self._judgement.may_judge)
        if any(vars(report).values()):
            log.info("rescued: %s", report)

    def _dispatch(self) -> None:
        if self._leads.is_set():
            report = dispatch_backlog(self._db, self._broker, self._policy)
            if report.republished:
                log.info("dispatched: %s", report)

    def _prune(self) -> None:
        """Prune as the leader, now and then. With a full disk none can be elected: then each process prunes, often."""
        if self._leads.is_set():
            self._ballast.keep()
        if not self._disk_is_full.is_set() and self._monotonic() < self._prune_at:
            return
        more = True
        while more and (self._leads.is_set() or self._disk_is_full.is_set()) and not self._stop.is_set():
            self._prune_at = self._monotonic() + PRUNE_EVERY_S
            report = self.prune_once()
            if any(vars(report).values()):
                log.info("pruned: %s", report)
            more = max(vars(report).values()) >= BATCH

    def prune_once(self) -> PruneReport:
        """Delete up to one batch of each kind of expired row and object.

        Raises:
            StoreMismatchError: the store is not that of the database; nothing was deleted or marked.
        """
        check_identity(self._db, self._store)
        return prune(self._db, self._store, self._withdraw)

    def _withdraw(self, url: str, job_id: str, attempt: int) -> int:
        from jobs.storage.delivery import Delivery  # imports boto3, which a platform on a folder does not need

        return Delivery.from_settings(url, self._settings, job_id=job_id, attempt=attempt).withdraw_abandoned()

    def _expire_features(self) -> None:
        """Runs in every process: a leader may not have been elected yet when this loop starts."""
        if self._feature_ttl_s:
            check_identity(self._db, self._store)
            deleted = expire_features(self._store, now_s=time.time(), ttl_s=self._feature_ttl_s)
            if deleted:
                log.info("deleted %d unused features from the object store", deleted)

    def _send_webhooks(self) -> None:
        """Turn events into deliveries as the leader; every process sends what is due."""
        while self._leads.is_set() and not self._stop.is_set() and fan_out(self._db):
            self._senders.start_due()
        self._senders.start_due()

    def _prune_webhooks(self) -> None:
        total, more = 0, True
        while more and self._leads.is_set() and not self._stop.is_set():
            deleted = prune_deliveries(self._db, older_than_s=self._settings.webhook_retention_s)
            total, more = total + deleted, deleted >= DELIVERIES_PRUNED
        if total:
            log.info("deleted %d entries of the webhook delivery log", total)

    def _resign(self) -> None:
        with self._db.transaction() as tx:
            resign(tx, ROLE, holder=self._holder)
