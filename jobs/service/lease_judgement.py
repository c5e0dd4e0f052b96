"""When leases may be judged: not right after the database was away, because no worker could renew its leases then.

The leader of maintenance sees in SQL that it, or another one, judged a moment ago, so the database has answered since.
After a gap every live worker gets the time of one lease to renew what it holds.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from jobs.db.database import Transaction


class LeaseJudgement:
    """Watches for gaps between the rounds of maintenance, by the database's clock.

    Args:
        lease_s: how long a worker may hold a job without renewing.
    """

    def __init__(self, lease_s: float) -> None:
        self._grace = timedelta(seconds=lease_s)
        self._round_at: datetime | None = None
        self._judge_from: datetime | None = None

    def begin_round(self, tx: Transaction, previous_round_at: datetime | None) -> None:
        """Note the time of a round.

        Args:
            previous_round_at: when any leader had its last round; None: there was none.
        """
        if previous_round_at is not None and tx.now - previous_round_at > self._grace / 2:
            self._judge_from = tx.now + self._grace
        self._round_at = tx.now

    def may_judge(self, tx: Transaction) -> bool:
        """Return whether an expired lease means a lost worker now.

        False as well when the database was away since the round began.
        """
        if self._round_at is None or tx.now - self._round_at > self._grace / 2:
            return False
        return self._judge_from is None or tx.now >= self._judge_from
