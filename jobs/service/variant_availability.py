"""Which variants requests may name: those of the settings, else those that live workers run."""

from __future__ import annotations

from jobs.db.database import Transaction
from jobs.service.queries import is_lost, list_workers
from jobs.service.submission import SubmitPolicy
from jobs.settings import Settings

EMBEDDED_VARIANT = "tiny_16k"
LOST_AFTER_LEASES = 1.5


def served_variants(tx: Transaction, settings: Settings) -> list[str]:
    """Return the variants that live workers run; a variant appears once per worker."""
    lost_after_s = settings.lease_s * LOST_AFTER_LEASES
    return [name for w in list_workers(tx) if not is_lost(w, tx.now, lost_after_s) for name in w.variants]


def offered_variants(tx: Transaction, settings: Settings) -> tuple[str, ...]:
    """Return the variants that requests may name, the default first."""
    if settings.variants:
        return tuple(settings.variants)
    return tuple(dict.fromkeys([EMBEDDED_VARIANT, *served_variants(tx, settings)]))


def current_policy(tx: Transaction, settings: Settings) -> SubmitPolicy:
    """Return the policy for submits at this moment."""
    return SubmitPolicy.from_settings(settings, offered_variants(tx, settings))
