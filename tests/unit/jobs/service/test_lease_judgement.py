"""Leases are not judged right after nobody could renew them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from jobs.db.database import Transaction
from jobs.service.lease_judgement import LeaseJudgement

LEASE_S = 12.0


@dataclass
class At:
    now: datetime


def at(seconds: float) -> Transaction:
    now: Any = At(datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds))
    return cast(Transaction, now)


def test_the_first_leader_of_all_judges_at_once() -> None:
    judgement = LeaseJudgement(LEASE_S)
    judgement.begin_round(at(0), None)
    assert judgement.may_judge(at(0))


def test_rounds_without_a_gap_judge() -> None:
    judgement = LeaseJudgement(LEASE_S)
    judgement.begin_round(at(0), at(-1).now)
    judgement.begin_round(at(1), at(0).now)
    assert judgement.may_judge(at(1))


def test_after_a_gap_live_workers_get_the_time_of_a_lease() -> None:
    judgement = LeaseJudgement(LEASE_S)
    judgement.begin_round(at(300), at(0).now)
    assert not judgement.may_judge(at(300))
    judgement.begin_round(at(301), at(300).now)
    assert not judgement.may_judge(at(311))
    judgement.begin_round(at(312), at(311).now)
    assert judgement.may_judge(at(312))


def test_a_new_leader_sees_the_gap_of_its_predecessor() -> None:
    successor = LeaseJudgement(LEASE_S)
    successor.begin_round(at(300), at(0).now)
    assert not successor.may_judge(at(301))


def test_a_database_that_froze_within_a_round_is_a_gap_too() -> None:
    judgement = LeaseJudgement(LEASE_S)
    judgement.begin_round(at(0), at(-1).now)
    assert not judgement.may_judge(at(300))


def test_nothing_is_judged_before_the_first_round() -> None:
    assert not LeaseJudgement(LEASE_S).may_judge(at(0))
