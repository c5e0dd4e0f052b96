"""The events of all jobs in one order, by their `position`.

Ids of rows cannot serve as cursor: a transaction that began first may commit last, and a reader that has seen a later
id never asks for the earlier one. So positions are given to committed events only, by one transaction at a time. Who
sees a position sees all earlier ones. SQLite has one writer at a time, so there each transaction gives its own events
their positions, and nobody has to write once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select, update

from jobs.db.database import Database, Transaction
from jobs.db.tables import EventLog, JobEvent
from jobs.lifecycle import EventKind

BATCH = 500
_AT_COMMIT = "events_sequenced_at_commit"
# Events that one page with a filter of kinds looks at, so that a rare kind does not read a whole table at once.
SCANNED = 5000


@dataclass(frozen=True)
class EventsPage:
    """A page of events.

    Attributes:
        next_after: `after` of the next page.
        has_more: the next page may have events already.
    """

    events: list[JobEvent]
    next_after: int
    has_more: bool


def sequence_events(db: Database, *, wait: bool = False) -> int:
    """Give positions to the committed events that have none; return how many.

    Costs one look at an empty index when there is nothing to do.

    Args:
        db: bound to the platform.
        wait: wait for another process that does the same now, so that every event that is committed has a position
            afterwards. Otherwise leave them to it.
    """
    total = 0
    while db.run_reading(has_unsequenced):
        given = db.run(lambda tx: _sequence_some(tx, wait=wait), repeatable=True)
        total += given
        if given < BATCH:
            break
    return total


def has_unsequenced(tx: Transaction) -> bool:
    """Return whether an event has no position yet."""
    return tx.session.execute(select(JobEvent.id).where(JobEvent.position.is_(None)).limit(1)).first() is not None


def _sequence_some(tx: Transaction, *, wait: bool) -> int:
    # The row's lock is held until the commit. The next statement sees what earlier holders committed.
    locked = select(EventLog.last_position).where(EventLog.id == 1).with_for_update(skip_locked=not wait)
    last = tx.session.execute(locked).scalar_one_or_none()
    if last is None:
        return 0
    batch = select(JobEvent.id).where(JobEvent.position.is_(None)).order_by(JobEvent.id).limit(BATCH).subquery()
    numbered = select(batch.c.id, func.row_number().over(order_by=batch.c.id).label("number")).subquery()
    statement = (
        update(JobEvent)
        .where(JobEvent.id == numbered.c.id)
        .values(position=last + numbered.c.number)
        .returning(JobEvent.position)
    )
    given = len(tx.session.execute(statement, execution_options={"synchronize_session": False}).all())
    if given:
        tx.session.execute(
            update(EventLog).where(EventLog.id == 1).values(last_position=last + given),
            execution_options={"synchronize_session": False},
        )
    return given


def sequence_at_commit(tx: Transaction) -> None:
    """Let a transaction that adds events give them their positions itself, where it is the only writer."""
    tx.scope.require_any()
    is_only_writer = tx.session.get_bind().dialect.name == "sqlite"
    if is_only_writer and not tx.session.info.get(_AT_COMMIT):
        tx.session.info[_AT_COMMIT] = True
        tx.before_commit.append(lambda: _sequence_all(tx))


def _sequence_all(tx: Transaction) -> None:
    del tx.session.info[_AT_COMMIT]
    while _sequence_some(tx, wait=True) == BATCH:
        pass


def last_position(tx: Transaction) -> int:
    """Return the last position given; events up to it are visible to this transaction's next statement."""
    return tx.session.execute(select(EventLog.last_position).where(EventLog.id == 1)).scalar_one()


def read_events(
    tx: Transaction,
    *,
    after: int,
    job_id: str | None = None,
    kinds: Iterable[str] | None = None,
    up_to: int | None = None,
    limit: int = BATCH,
) -> list[JobEvent]:
    """Return the events after a position that the transaction may see, in order.

    Args:
        kinds: of the events that are wanted; None: all.
        up_to: position of the last one; None: any.
    """
    query = select(JobEvent).where(JobEvent.position > after)
    if job_id is not None:
        query = query.where(JobEvent.job_id == job_id)
    if kinds is not None:
        query = query.where(JobEvent.kind.in_([EventKind(kind) for kind in kinds]))
    if up_to is not None:
        query = query.where(JobEvent.position <= up_to)
    return list(tx.session.scalars(query.order_by(JobEvent.position).limit(limit)))


def read_page(
    tx: Transaction, *, after: int, job_id: str | None = None, kinds: Iterable[str] | None = None, limit: int
) -> EventsPage:
    """Return a page of the events that the transaction may see; `kinds` that name no event find none."""
    up_to, scanned = None, 0
    if kinds is not None:
        kinds = [kind for kind in kinds if kind in set(EventKind)]
        look = select(JobEvent.position).where(JobEvent.position > after)
        if job_id is not None:
            look = look.where(JobEvent.job_id == job_id)
        found = look.order_by(JobEvent.position).limit(SCANNED).subquery()
        up_to, scanned = tx.session.execute(select(func.max(found.c.position), func.count())).one()
        if up_to is None:
            return EventsPage([], after, False)
    events = read_events(tx, after=after, job_id=job_id, kinds=kinds, up_to=up_to, limit=limit + 1)
    if len(events) > limit:
        return EventsPage(events[:limit], events[limit - 1].position or after, True)
    last = events[-1].position if events else None
    return EventsPage(events, max(after, up_to or last or 0), scanned == SCANNED)
