"""One round of maintenance, as the control worker runs it in two threads."""

from __future__ import annotations

from dataclasses import replace

from jobs.db.database import Database
from jobs.queue import BrokerUnavailableError
from jobs.service.maintenance import (
    DEFAULT_POLICY,
    MaintenancePolicy,
    MaintenanceReport,
    dispatch_backlog,
    rescue,
)
from jobs.service.scheduling.dispatch import Publisher


def run_maintenance(
    db: Database, publisher: Publisher, policy: MaintenancePolicy = DEFAULT_POLICY
) -> MaintenanceReport:
    """Rescue, then dispatch the backlog if the broker answers."""
    rescued = rescue(db, policy)
    try:
        dispatched = dispatch_backlog(db, publisher, policy)
    except BrokerUnavailableError:
        return rescued
    return replace(rescued, republished=dispatched.republished, dispatched=dispatched.dispatched)
