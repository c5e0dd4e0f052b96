"""The order of events: whoever reads with a cursor misses none, whatever the order of the commits."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from sqlalchemy import delete, select

from jobs.db.database import Database, Transaction
from jobs.db.tables import Job, JobEvent
from jobs.lifecycle import EventKind
from jobs.service.event_log import has_unsequenced, last_position, read_events, sequence_events
from jobs.service.transitions import append_event
from tests.contract.domain.conftest import TENANT, Steps


class Reader:
    """Reads all events with a cursor, as a stream does."""

    def __init__(self, db: Database) -> None:
        self._db, self.after = db.of_platform(), 0
        self.found: list[int] = []

    def read(self) -> list[int]:
        sequence_events(self._db)
        with self._db.reading() as tx:
            events = read_events(tx, after=self.after, limit=100)
        self.after = max([self.after, *(event.position or 0 for event in events)])
        self.found += [event.id for event in events]
        return [event.id for event in events]


def all_ids(db: Database) -> list[int]:
    with db.of_platform().reading() as tx:
        return list(tx.session.scalars(select(JobEvent.id).order_by(JobEvent.id)))


def test_an_event_that_is_committed_late_is_not_missed(steps: Steps) -> None:
    first, second = steps.submit().id, steps.submit().id
    platform, reader = steps.db.of_platform(), Reader(steps.db)
    reader.read()
    if steps.db.is_sqlite:  # it has one writer at a time, so ids are in the order of the commits
        for job_id in (first, second):
            with platform.transaction() as tx:
                append_event(tx, job_id, EventKind.STAGE, 1, {}, tenant=TENANT)
            reader.read()
    else:
        with ExitStack() as stack:
            early = stack.enter_context(platform.transaction())
            append_event(early, first, EventKind.STAGE, 1, {}, tenant=TENANT)
            early.session.flush()
            with platform.transaction() as late:
                append_event(late, second, EventKind.STAGE, 1, {}, tenant=TENANT)
            assert len(reader.read()) == 1
            assert not reader.read()
        assert reader.read() < reader.found[-2:-1]  # its id is lower than that of an event which was read before
    assert sorted(reader.found) == all_ids(steps.db)


def test_writers_and_readers_side_by_side_lose_nothing(steps: Steps) -> None:
    jobs, platform = [steps.submit().id for _ in range(4)], steps.db.of_platform()
    readers = [Reader(steps.db) for _ in range(2)]
    done = threading.Event()

    def write(job_id: str) -> None:
        for _ in range(15):
            platform.run(lambda tx: append_event(tx, job_id, EventKind.STAGE, 1, {}, tenant=TENANT), repeatable=True)

    def follow(reader: Reader) -> None:
        while not done.is_set():
            reader.read()

    writing = [threading.Thread(target=write, args=(job_id,)) for job_id in jobs]
    reading = [threading.Thread(target=follow, args=(reader,)) for reader in readers]
    for thread in writing + reading:
        thread.start()
    for thread in writing:
        thread.join()
    done.set()
    for thread in reading:
        thread.join()
    for reader in readers:
        reader.read()
        assert sorted(reader.found) == all_ids(steps.db)
        assert len(set(reader.found)) == len(reader.found)


def test_positions_have_no_gaps_and_are_not_given_again(steps: Steps) -> None:
    platform = steps.db.of_platform()
    jobs = [steps.submit().id for _ in range(3)]
    # SQLite's transactions have done it themselves.
    assert sequence_events(platform) == (0 if steps.db.is_sqlite else 3)
    assert sequence_events(platform) == 0
    with platform.transaction() as tx:
        assert [event.position for event in read_events(tx, after=0)] == [1, 2, 3]
        tx.session.execute(delete(Job).where(Job.id == jobs[-1]))
    with platform.reading() as tx:
        assert [event.position for event in read_events(tx, after=0)] == [1, 2], "events of a deleted job go"
    steps.submit()
    sequence_events(platform, wait=True)
    with platform.reading() as tx:
        assert [event.position for event in read_events(tx, after=0)] == [1, 2, 4]
        assert last_position(tx) == 4


def test_many_events_are_sequenced_in_batches(steps: Steps) -> None:
    platform = steps.db.of_platform()
    job_id = steps.submit().id

    def add(tx: Transaction) -> None:
        for _ in range(1100):
            append_event(tx, job_id, EventKind.STAGE, 1, {}, tenant=TENANT)

    platform.run(add, repeatable=True)
    assert sequence_events(platform) == (0 if steps.db.is_sqlite else 1101)
    with platform.reading() as tx:
        assert not has_unsequenced(tx)
        events = read_events(tx, after=0, limit=2000)
    assert [event.position for event in events] == list(range(1, 1102))
    assert [event.id for event in events] == sorted(event.id for event in events)


def test_a_process_leaves_events_to_the_one_that_sequences(steps: Steps) -> None:
    if steps.db.is_sqlite:
        return  # its writers wait for each other
    platform = steps.db.of_platform()
    steps.submit()
    from jobs.service import event_log

    with platform.transaction() as tx:
        assert event_log._sequence_some(tx, wait=False) == 1
        assert sequence_events(platform) == 0
    assert sequence_events(platform) == 0


def test_events_are_filtered_by_job_and_kind(steps: Steps) -> None:
    platform = steps.db.of_platform()
    steps.add_worker()
    first, _ = steps.submit().id, steps.submit().id
    steps.complete(steps.claimed(first))
    sequence_events(platform)
    with platform.reading() as tx:
        assert [event.kind for event in read_events(tx, after=0, job_id=first)] == ["queued", "running", "succeeded"]
        assert [event.job_id for event in read_events(tx, after=0, kinds=["running"])] == [first]
        assert len(read_events(tx, after=0, limit=2)) == 2
