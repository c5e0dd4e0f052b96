"""The audit: repairs and what operators did, outside of the normal life of jobs; by whom, why, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from jobs.cursor import place_of
from jobs.db.database import Transaction
from jobs.db.tables import AuditEvent

MAX_PAGE = 200
AUDIT_PLACE = re.compile(r"[0-9]{1,18}")


def record_action(tx: Transaction, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Record what an operator does, in the transaction that does it.

    Args:
        actor: `key:ID`, `cli:USER`, or `local` for a request without a key.
        action: such as `key.revoke`.
        subject: id or name of what is changed.
    """
    event = AuditEvent(
        at=tx.now, actor=actor[:64], action=action, subject=subject, detail={**detail, "outcome": "done"}
    )
    with tx.over_all_tenants() as platform:  # the audit is the platform's, also where a tenant's key acts
        platform.session.add(event)


@dataclass(frozen=True)
class AuditPage:
    """Recorded changes, newest first, and the cursor of the next page (None: this is the last page)."""

    events: list[AuditEvent]
    next_cursor: str | None


def list_audit(
    tx: Transaction, *, action: str | None = None, cursor: str | None = None, limit: int = MAX_PAGE
) -> AuditPage:
    """Return a page of recorded changes.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    query = select(AuditEvent)
    if action is not None:
        query = query.where(AuditEvent.action == action)
    if cursor is not None:
        query = query.where(AuditEvent.id < int(place_of(cursor, AUDIT_PLACE)))
    limit = min(max(limit, 1), MAX_PAGE)
    rows = list(tx.session.scalars(query.order_by(AuditEvent.id.desc()).limit(limit + 1)))
    return AuditPage(rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None)


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
