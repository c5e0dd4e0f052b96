"""The rules of tenants as each request needs them: read again after some seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from jobs.tenants.rules import TenantRules

KEPT_S = 5.0
_MOST_KEPT = 10_000


class RulesCache:
    """Keeps rules for `KEPT_S`. Thread-safe.

    Args:
        read: reads the rules of a tenant.
    """

    def __init__(self, read: Callable[[str], TenantRules], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._read, self._monotonic = read, monotonic
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[TenantRules, float]] = {}

    def of(self, tenant: str) -> TenantRules:
        """Return the rules of a tenant, at most `KEPT_S` old unless the database does not answer.

        Raises:
            SQLAlchemyError: it does not, and they were never read.
        """
        now = self._monotonic()
        with self._lock:
            kept = self._kept.get(tenant)
            if kept is not None and now - kept[1] < KEPT_S:
                return kept[0]
            if kept is not None:
                self._kept[tenant] = (kept[0], now)  # one request reads them again, others need not wait for it
        try:
            rules = self._read(tenant)
        except SQLAlchemyError:
            if kept is None:
                raise
            return kept[0]
        with self._lock:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[tenant] = (rules, now)
        return rules
