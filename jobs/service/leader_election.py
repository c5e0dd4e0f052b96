"""Leader election by a lease in SQL, for work that one process should do; judged by the database's clock.

A leader that was suspended may continue for a moment beside its successor, so the work must be safe to do twice. The
lease saves work; correctness does not depend on it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, or_, update

from jobs.db.database import Transaction
from jobs.db.tables import Leadership
from jobs.db.upsert import insert_or_ignore


def lead(tx: Transaction, role: str, *, holder: str, lease_s: float) -> bool:
    """Become or stay the leader of a role for `lease_s` seconds; return False when another process leads."""
    expires_at = tx.now + timedelta(seconds=lease_s)
    taking = (
        update(Leadership)
        .where(Leadership.role == role, or_(Leadership.holder == holder, Leadership.expires_at <= tx.now))
        .values(
            holder=holder,
            expires_at=expires_at,
            elected_at=case((Leadership.holder == holder, Leadership.elected_at), else_=tx.now),
        )
    )
    if _changed(tx, taking):
        return True
    first = {"role": role, "holder": holder, "elected_at": tx.now, "expires_at": expires_at}
    return insert_or_ignore(tx.session, Leadership, first)


def last_lead_at(tx: Transaction, role: str, *, lease_s: float) -> datetime | None:
    """Return when any process last became or stayed the leader of a role; None: none ever did."""
    row = tx.session.get(Leadership, role, populate_existing=True)
    return None if row is None else row.expires_at - timedelta(seconds=lease_s)


def resign(tx: Transaction, role: str, *, holder: str) -> None:
    """End the leadership of a role at once, so that a successor need not wait for the lease to expire."""
    _changed(
        tx,
        update(Leadership).where(Leadership.role == role, Leadership.holder == holder).values(expires_at=tx.now),
    )


def _changed(tx: Transaction, statement: Any) -> bool:
    changed = statement.returning(Leadership.role)
    return tx.session.execute(changed, execution_options={"synchronize_session": False}).first() is not None
