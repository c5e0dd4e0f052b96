"""Turns events into jobs: looks up each object, then records event and job in one transaction.

A source may delete its message only after `take` has returned. An event that cannot become a job now (the store does
not answer, the queue is full, the trigger is paused) is recorded as held, so that no source has to keep it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from jobs.db.database import Database, Transaction
from jobs.db.tables import Trigger, TriggerEvent
from jobs.lifecycle import TriggerOutcome
from jobs.service.submission import SubmitPolicy
from jobs.storage.bucket_reader import BucketReader
from jobs.storage.errors import StorageUnavailableError
from jobs.triggers.decision import Decision, Lookup, decide
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.object_version import find_object
from jobs.triggers.recording import DecisionRecorder, RateBreaker, RecordedDecision
from jobs.triggers.rule import matches

log = logging.getLogger(__name__)

CONCURRENT_LOOKUPS = 8
HELD_BATCH = 100
RETRY_BASE_S = 5.0
RETRY_MAX_S = 600.0


@dataclass
class IngestionResult:
    """Outcomes of a batch of events as counts, and the variants that got new jobs."""

    submitted: int = 0
    skipped: int = 0
    held: int = 0
    duplicates: int = 0
    variants: set[str] = field(default_factory=set)

    def count(self, recorded: RecordedDecision) -> None:
        """Add one recorded decision."""
        self.submitted += recorded.outcome is TriggerOutcome.SUBMITTED
        self.skipped += recorded.outcome is TriggerOutcome.SKIPPED
        self.held += recorded.outcome is TriggerOutcome.HELD
        self.duplicates += recorded.outcome is None
        if recorded.variant is not None:
            self.variants.add(recorded.variant)


@dataclass(frozen=True)
class _Pending:
    """An event to process for one trigger; `row`: its record if it was held before."""

    trigger: Trigger
    event: ObjectCreated
    row: TriggerEvent | None = None

    def received_at(self, now: datetime) -> datetime:
        """Return when the event was first received."""
        return self.row.received_at if self.row is not None else now


class EventIngestion:
    """Turns events into jobs. One instance per process; threads may share it.

    Args:
        policy: called for each batch, because the available variants change with the workers.
        jobs_per_hour: see `RateBreaker`.
    """

    def __init__(
        self,
        db: Database,
        reader: BucketReader,
        policy: Callable[[], SubmitPolicy],
        *,
        jobs_per_hour: int,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._db, self._reader, self._policy = db, reader, policy
        self._jobs_per_hour, self._jitter = jobs_per_hour, jitter

    def take(self, events: Sequence[ObjectCreated]) -> IngestionResult:
        """Submit a job for each new object version and each trigger that covers it. Idempotent.

        Raises:
            SQLAlchemyError, DiskReserveError: nothing was recorded; the source must deliver the events again.
        """
        return self._process(self._covered(events))

    def retry_held_events(self) -> IngestionResult:
        """Process held events whose retry is due, at most a batch; return their outcomes."""
        with self._db.reading() as tx:
            query = (
                select(TriggerEvent, Trigger)
                .join(Trigger, Trigger.id == TriggerEvent.trigger_id)
                .where(TriggerEvent.outcome == TriggerOutcome.HELD, TriggerEvent.retry_at <= tx.now)
                .where(Trigger.enabled, Trigger.paused_at.is_(None))
                .order_by(TriggerEvent.retry_at)
                .limit(HELD_BATCH)
            )
            due = [
                _Pending(trigger, ObjectCreated.from_json(row.event), row) for row, trigger in tx.session.execute(query)
            ]
        return self._process(due)

    def _covered(self, events: Iterable[ObjectCreated]) -> list[_Pending]:
        """Return each distinct event with each trigger that may cover it."""
        distinct = {event.fingerprint: event for event in events}
        if not distinct:
            return []
        with self._db.reading() as tx:
            buckets = {event.bucket for event in distinct.values()}
            triggers = list(tx.session.scalars(select(Trigger).where(Trigger.bucket.in_(buckets), Trigger.enabled)))
        return [
            _Pending(trigger, event)
            for event in distinct.values()
            for trigger in triggers
            if trigger.bucket == event.bucket and any(matches(trigger, key) for key in event.keys)
        ]

    def _process(self, pending: list[_Pending]) -> IngestionResult:
        if not pending:
            return IngestionResult()
        policy = self._policy()
        policy.disk.check()  # also a held event is a row; its source keeps it meanwhile
        lookups = self._look_up({p.event.fingerprint: p.event for p in pending})
        # Repeatable: the unique index ignores what was committed. Concurrent batches may deadlock on PostgreSQL.
        return self._db.run(lambda tx: self._record(tx, pending, lookups, policy), repeatable=True)

    def _look_up(self, events: dict[str, ObjectCreated]) -> dict[str, Lookup]:
        def look_up(event: ObjectCreated) -> Lookup:
            try:
                return find_object(event, self._reader)
            except StorageUnavailableError as exc:
                log.warning("%s; the event is held", exc)
                return exc

        if len(events) == 1:
            return {name: look_up(event) for name, event in events.items()}
        with ThreadPoolExecutor(CONCURRENT_LOOKUPS, thread_name_prefix="lookup") as pool:
            return dict(zip(events, pool.map(look_up, events.values()), strict=True))

    def _record(
        self, tx: Transaction, pending: list[_Pending], lookups: dict[str, Lookup], policy: SubmitPolicy
    ) -> IngestionResult:
        triggers = self._lock_triggers(tx, {p.trigger.id for p in pending})
        decided: list[tuple[Trigger, Decision, _Pending]] = []
        for p in pending:
            trigger = triggers.get(p.trigger.id)
            if trigger is None or not trigger.enabled:
                continue
            decision = decide(trigger, p.event, lookups[p.event.fingerprint], waited=tx.now - p.received_at(tx.now))
            if decision is not None:
                decided.append((trigger, decision, p))
        # Two processes that insert the same events in different orders would wait for each other's index entries.
        decided.sort(key=lambda one: (one[0].id, one[1].key, one[1].object_version))
        result, breaker = IngestionResult(), RateBreaker(self._jobs_per_hour)
        for trigger, decision, p in decided:
            tries = self._remove_held(tx, p.row)
            if tries is None:
                continue  # another process handles it
            recorder = DecisionRecorder(policy, breaker, tries, self._retry_at(tx.now, tries), p.received_at(tx.now))
            result.count(recorder.record(tx, trigger, decision))
        return result

    @staticmethod
    def _lock_triggers(tx: Transaction, ids: set[str]) -> dict[str, Trigger]:
        """Return the triggers that still exist, locked against deletion until the commit."""
        query = select(Trigger).where(Trigger.id.in_(ids)).order_by(Trigger.id)
        return {t.id: t for t in tx.session.scalars(query.with_for_update(read=True, key_share=True))}

    @staticmethod
    def _remove_held(tx: Transaction, row: TriggerEvent | None) -> int | None:
        """Delete a held row, to be recorded anew; return the number of tries, None when the row is gone."""
        if row is None:
            return 0
        deleting = (
            delete(TriggerEvent)
            .where(
                TriggerEvent.id == row.id, TriggerEvent.outcome == TriggerOutcome.HELD, TriggerEvent.tries == row.tries
            )
            .returning(TriggerEvent.id)
        )
        deleted = tx.session.execute(deleting, execution_options={"synchronize_session": False}).first()
        return row.tries + 1 if deleted is not None else None

    def _retry_at(self, now: datetime, tries: int) -> datetime:
        delay_s = min(RETRY_BASE_S * 2 ** min(tries, 10), RETRY_MAX_S)
        return now + timedelta(seconds=delay_s * (0.75 + 0.5 * self._jitter()))
