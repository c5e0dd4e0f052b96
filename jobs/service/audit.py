"""The audit of repairs: what was changed outside of the normal life of jobs, by whom, why, and how it ended."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from jobs.db.database import Transaction
from jobs.db.tables import AuditEvent


def begin_audited(tx: Transaction, *, actor: str, action: str, subject: str, detail: dict[str, Any]) -> int:
    """Record a change that is about to be made; return the id for `end_audited`.

    The row is committed before the change, so that one that a crash interrupts is recorded too.
    """
    event = AuditEvent(at=tx.now, actor=actor, action=action, subject=subject, detail={**detail, "outcome": "started"})
    tx.session.add(event)
    tx.session.flush()
    return event.id


def end_audited(tx: Transaction, event_id: int, outcome: str, **more: Any) -> None:
    """Record how a change ended: `fixed`, `unneeded` or `failed`."""
    event = tx.session.get_one(AuditEvent, event_id)
    event.detail = {**event.detail, "outcome": outcome, **more}


def audit_events(tx: Transaction) -> list[AuditEvent]:
    """Return all recorded changes, oldest first."""
    return list(tx.session.scalars(select(AuditEvent).order_by(AuditEvent.id)))
