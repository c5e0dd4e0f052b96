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
from jobs.webhooks.sending import EndpointClaim
from workers.webhooks.sender import Sender

log = logging.getLogger(__name__)

HOST_SHARE = 4
"""The receivers of one host occupy at most the number of threads divided by this, so that a slow host leaves some."""


class SenderPool:
    """Up to `threads` threads; each sends to one endpoint at a time and ends when nothing is due.

    Args:
        threads: at least 1.
    """

    def __init__(self, sender: Sender, *, threads: int) -> None:
        self._sender, self._threads = sender, threads
        self._per_host = max(1, threads // HOST_SHARE)
        self._lock = threading.Lock()
        self._running: set[threading.Thread] = set()
        self._hosts: Counter[str] = Counter()
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
            busy = [host for host, count in self._hosts.items() if count >= self._per_host]
            claim = self._sender.claim(busy)
            if claim is not None:
                self._hosts[claim.host] += 1
            return claim

    def _run(self, claim: EndpointClaim) -> None:
        following: EndpointClaim | None = claim
        try:
            while following is not None:
                current = following
                try:
                    self._sender.serve(current)
                finally:
                    with self._lock:
                        self._hosts[current.host] -= 1
                        self._hosts += Counter()  # forgets hosts without senders
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
