"""Who does what one process is enough for: a lease in SQL, judged by the database's clock.

A leader that was stopped for long may go on for a moment beside its successor, so what leaders do must be safe to
share. The lease saves work and noise; correctness does not hang on it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import case, or_, update
from sqlalchemy.dialects import postgresql, sqlite

from jobs.db.database import Transaction
from jobs.db.tables import Leadership


def lead(tx: Transaction, role: str, *, holder: str, lease_s: float) -> bool:
    """Become or stay the leader of a role for `lease_s` seconds; False when another one is."""
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
    is_sqlite = tx.session.get_bind().dialect.name == "sqlite"
    first = (sqlite.insert if is_sqlite else postgresql.insert)(Leadership).values(
        role=role, holder=holder, elected_at=tx.now, expires_at=expires_at
    )
    return _changed(tx, first.on_conflict_do_nothing(index_elements=["role"]))


def resign(tx: Transaction, role: str, *, holder: str) -> None:
    """Let go of a role at once, so that nobody has to wait for the lease to run out."""
    _changed(
        tx,
        update(Leadership).where(Leadership.role == role, Leadership.holder == holder).values(expires_at=tx.now),
    )


def _changed(tx: Transaction, statement: Any) -> bool:
    changed = statement.returning(Leadership.role)
    return tx.session.execute(changed, execution_options={"synchronize_session": False}).first() is not None
