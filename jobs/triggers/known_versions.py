"""Recognises an object version that is recorded under its other name.

Without version ids, an event with a sequencer names a version by it (`object_version_of`), and a listing of the bucket
(`jobs.triggers.backfill`) by the time of the object. Both may meet one object.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from jobs.db.database import Transaction
from jobs.db.tables import TriggerEvent
from jobs.triggers.decision import Decision
from jobs.triggers.object_version import BACKFILL, version_by_head

# The store's clock and the database's may differ by this much.
CLOCK_SKEW = timedelta(minutes=5)


def is_known_otherwise(tx: Transaction, trigger_id: str, decision: Decision) -> bool:
    """Return whether the version that a decision found is recorded at the trigger under its other name."""
    found = decision.found
    if found is None or found.version_id is not None or decision.event.version_id is not None:
        return False
    same_key = select(TriggerEvent.id).where(
        TriggerEvent.trigger_id == trigger_id,
        TriggerEvent.bucket == decision.event.bucket,
        TriggerEvent.object_key == decision.key,
    )
    if decision.event.source == BACKFILL:
        by_sequencer = TriggerEvent.object_version.startswith(f"etag {found.etag} sequencer ", autoescape=True)
        since = found.last_modified - CLOCK_SKEW
        query = same_key.where(by_sequencer, TriggerEvent.received_at >= since)
    elif decision.object_version != version_by_head(found):
        query = same_key.where(TriggerEvent.object_version == version_by_head(found))
    else:
        return False
    return tx.session.scalar(query.limit(1)) is not None
