"""One control process leads; when its lease expires, another one does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from jobs.db.database import Database
from jobs.db.tables import Leadership
from jobs.service.leader_election import lead, resign
from tests.conftest import FakeClock


def leads(db: Database, holder: str) -> bool:
    with db.transaction() as tx:
        return lead(tx, "maintenance", holder=holder, lease_s=5)


def test_one_leads_until_it_falls_silent(db: Database, clock: FakeClock) -> None:
    assert leads(db, "one")
    clock.advance(4)
    assert not leads(db, "two")
    assert leads(db, "one")
    clock.advance(5)
    assert leads(db, "two")
    assert not leads(db, "one")


def test_the_term_begins_with_the_election_not_with_the_renewal(db: Database, clock: FakeClock) -> None:
    leads(db, "one")
    began = clock.time
    clock.advance(3)
    leads(db, "one")
    with db.reading() as tx:
        row = tx.session.get_one(Leadership, "maintenance")
        assert (row.holder, row.elected_at, (row.expires_at - clock.time).total_seconds()) == ("one", began, 5)


def test_a_leader_that_resigns_is_replaced_at_once_and_only_it_can_resign(db: Database) -> None:
    leads(db, "one")
    with db.transaction() as tx:
        resign(tx, "maintenance", holder="two")
    assert not leads(db, "two")
    with db.transaction() as tx:
        resign(tx, "maintenance", holder="one")
    assert leads(db, "two")


def test_of_many_that_want_to_lead_one_does(db: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda number: leads(db, f"h{number}"), range(6)))
    assert won.count(True) == 1
