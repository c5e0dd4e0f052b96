"""The senders of a control process: threads that claim endpoints while something is due."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import replace
from functools import cache

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database, Transaction
from jobs.db.faults import reason
from jobs.links import ResultLinks
from jobs.log_limit import LogLimit
from jobs.secret_key import load_secret_keys
from jobs.settings import Settings
from jobs.settings_values import is_loopback
from jobs.storage.signing import LinkSigner
from jobs.webhooks.sending import EndpointClaim, Occupied
from workers.webhooks.sender import Sender

log = logging.getLogger(__name__)

HOST_SHARE = 4
"""The receivers of one host occupy at most the number of threads divided by this, so that a slow host leaves some."""
FAILING_SHARE = 2
"""The same for all receivers that failed at their last try: thousands of them leave threads to the others."""
LEFT_BY_TENANT = 4
"""The receivers of one tenant leave at least the number of threads divided by this to the others'."""


class SenderPool:
    """Up to `threads` threads; each sends to one endpoint at a time and ends when nothing is due.

    Args:
        threads: at least 1.
    """

    def __init__(self, sender: Sender, *, threads: int) -> None:
        self._sender, self._threads = sender, threads
        self._per_host = max(1, threads // HOST_SHARE)
        self._failing = max(1, threads // FAILING_SHARE)
        self._per_tenant = max(1, threads - max(1, threads // LEFT_BY_TENANT))
        self._lock = threading.Lock()
        self._running: set[threading.Thread] = set()
        self._claims: set[EndpointClaim] = set()
        self._log_limit = LogLimit()

    @classmethod
    def from_settings(cls, settings: Settings, db: Database, stop: threading.Event) -> SenderPool:
        """Return the pool that the settings describe.

        Args:
            db: bound to the platform.
            stop: set when the process ends.
        """
        local_url = f"http://{settings.api_bind}"

        @cache
        def signer() -> LinkSigner:
            # Not before it is needed: a control process without webhooks needs no key.
            return LinkSigner(*load_secret_keys(settings))

        def links(tx: Transaction, tenant: str) -> ResultLinks:
            made = ResultLinks.from_settings(settings, signer(), tx.now, tenant)
            # A receiver cannot resolve relative URLs; on this machine the address of the API is known.
            return made if made.base or not is_loopback(settings.api_host) else replace(made, base=local_url)

        sender = Sender.from_settings(settings, db, links, stopping=stop.is_set, pause=stop.wait)
        return cls(sender, threads=settings.webhook_threads)

    def start_due(self) -> None:
        """Start threads for endpoints that have something due, as long as there are free ones.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        while self._has_free_thread() and (claim := self._claim()) is not None:
            thread = threading.Thread(target=self._run, args=(claim,), name="webhook sender", daemon=True)
            with self._lock:
                self._running.add(thread)
            thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the tries that run."""
        with self._lock:
            running = list(self._running)
        for thread in running:
            thread.join(timeout_s)

    def _has_free_thread(self) -> bool:
        with self._lock:
            return len(self._running) < self._threads

    def _claim(self) -> EndpointClaim | None:
        # One claim at a time: two could take the last place of a host.
        with self._lock:
            claim = self._sender.claim(self._occupied())
            if claim is not None:
                self._claims.add(claim)
            return claim

    def _occupied(self) -> Occupied:
        hosts = Counter(claim.host for claim in self._claims)
        tenants = Counter(claim.tenant for claim in self._claims)
        return Occupied(
            hosts=[host for host, count in hosts.items() if count >= self._per_host],
            tenants=[tenant for tenant, count in tenants.items() if count >= self._per_tenant],
            failing=sum(claim.failing for claim in self._claims) >= self._failing,
        )

    def _run(self, claim: EndpointClaim) -> None:
        following: EndpointClaim | None = claim
        try:
            while following is not None:
                current = following
                try:
                    self._sender.serve(current)
                finally:
                    with self._lock:
                        self._claims.discard(current)
                following = None if self._sender.stopping() else self._claim()
        except SQLAlchemyError as exc:
            if self._log_limit.allows("database"):
                log.warning("sending webhooks stopped (%s); claims end by themselves (said once a minute)", reason(exc))
        except Exception:
            # The boundary: a fault at one endpoint must not end the sending to others.
            log.exception("sending webhooks failed; claims end by themselves")
        finally:
            with self._lock:
                self._running.discard(threading.current_thread())
