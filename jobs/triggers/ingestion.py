"""Turns events into jobs: looks up each object, then records event and job in one transaction.

A source may delete its message only after `take` has returned. An event that cannot become a job now (the store does
not answer, the queue is full, the trigger is paused) is recorded as held, so that no source has to keep it.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from jobs.db.database import Database, Transaction
from jobs.db.tables import Trigger, TriggerEvent
from jobs.db.upsert import insert_or_ignore
from jobs.ids import new_id
from jobs.lifecycle import TriggerOutcome
from jobs.log_lines import printable
from jobs.service.submission import SubmitPolicy
from jobs.storage.bucket_reader import BucketReader
from jobs.storage.errors import ObjectFaultError, StorageError
from jobs.triggers.decision import Decision, Lookup, decide
from jobs.triggers.event_faults import is_event_fault
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.object_version import find_object
from jobs.triggers.recording import DecisionRecorder, RateBreaker, RecordedDecision
from jobs.triggers.rule import matches

log = logging.getLogger(__name__)

CONCURRENT_LOOKUPS = 8
HELD_BATCH = 100
# How many of them are events that were retried at least so many times.
OFTEN_BATCH = 25
OFTEN_TRIES = 4
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
    reasons: Counter[str] = field(default_factory=Counter)
    """Why events are held."""

    def add(self, other: IngestionResult) -> None:
        """Add the outcomes of another batch."""
        self.submitted += other.submitted
        self.skipped += other.skipped
        self.held += other.held
        self.duplicates += other.duplicates
        self.variants |= other.variants
        self.reasons += other.reasons

    def count(self, recorded: RecordedDecision) -> None:
        """Add one recorded decision."""
        self.submitted += recorded.outcome is TriggerOutcome.SUBMITTED
        self.skipped += recorded.outcome is TriggerOutcome.SKIPPED
        self.held += recorded.outcome is TriggerOutcome.HELD
        self.duplicates += recorded.outcome is None
        if recorded.variant is not None:
            self.variants.add(recorded.variant)
        if recorded.outcome is TriggerOutcome.HELD:
            self.reasons[recorded.reason or "no reason was given"] += 1


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

    def take_for(self, trigger: Trigger, events: Sequence[ObjectCreated]) -> IngestionResult:
        """As `take`, for one trigger only."""
        covered = [event for event in events if any(matches(trigger, key) for key in event.keys)]
        return self._process([_Pending(trigger, event) for event in covered])

    def retry_held_events(self) -> IngestionResult:
        """Process held events whose retry is due, at most a batch; return their outcomes.

        Part of the batch is kept for events that were retried often, the rest for the others: neither kind waits for
        the other, however many there are.
        """
        often = TriggerEvent.tries >= OFTEN_TRIES
        due: list[_Pending] = []
        for condition, limit in ((~often, HELD_BATCH - OFTEN_BATCH), (often, OFTEN_BATCH)):
            with self._db.reading() as tx:
                query = (
                    select(TriggerEvent, Trigger)
                    .join(Trigger, Trigger.id == TriggerEvent.trigger_id)
                    .where(TriggerEvent.outcome == TriggerOutcome.HELD, TriggerEvent.retry_at <= tx.now, condition)
                    .where(Trigger.enabled, Trigger.paused_at.is_(None))
                    .order_by(TriggerEvent.retry_at)
                    .limit(limit)
                )
                rows = [(row, trigger) for row, trigger in tx.session.execute(query)]
            for row, trigger in rows:
                try:
                    due.append(_Pending(trigger, ObjectCreated.from_json(row.event), row))
                except (KeyError, TypeError, ValueError) as exc:
                    self._give_up(trigger, row.object_key, row, f"the stored event cannot be read ({exc})")
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
        try:
            result = self._record_batch(pending, lookups, policy)
        except Exception as exc:
            if not is_event_fault(exc):
                raise
            result = self._record_each(pending, lookups, policy)
        if result.reasons:
            reasons = ", ".join(f"{number} of them because {reason}" for reason, number in result.reasons.items())
            log.warning("%d bucket events are held and retried: %s", result.held, printable(reasons))
        return result

    def _record_batch(
        self, pending: list[_Pending], lookups: dict[str, Lookup], policy: SubmitPolicy
    ) -> IngestionResult:
        # Repeatable: the unique index ignores what was committed. Concurrent batches may deadlock on PostgreSQL.
        return self._db.run(lambda tx: self._record(tx, pending, lookups, policy), repeatable=True)

    def _record_each(
        self, pending: list[_Pending], lookups: dict[str, Lookup], policy: SubmitPolicy
    ) -> IngestionResult:
        """Record each event in a transaction of its own, and give up those that cannot be recorded."""
        result = IngestionResult()
        for p in pending:
            try:
                result.add(self._record_batch([p], lookups, policy))
            except Exception as exc:
                if not is_event_fault(exc):
                    raise
                log.exception("an event of trigger %s cannot be handled", p.trigger.id)
                self._give_up(p.trigger, p.event.keys[0], p.row, f"it cannot be handled ({type(exc).__name__})")
                result.skipped += 1
        return result

    def _give_up(self, trigger: Trigger, key: str, row: TriggerEvent | None, reason: str) -> None:
        """Record that an event makes no job because of what it holds; only text that every database takes."""
        reason = printable(f"given up: {reason}")
        log.error("event of s3://%s/%s: %s", printable(trigger.bucket), printable(key), reason)
        with self._db.transaction() as tx:
            if row is not None:
                held = (TriggerEvent.id == row.id, TriggerEvent.outcome == TriggerOutcome.HELD)
                values = {"outcome": TriggerOutcome.SKIPPED, "reason": reason, "retry_at": None}
                tx.session.execute(update(TriggerEvent).where(*held).values(**values))
                return
            fields = {
                "id": new_id("tev"),
                "tenant": trigger.tenant,
                "trigger_id": trigger.id,
                "bucket": trigger.bucket,
                "object_key": printable(key),
                "object_version": f"event {hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:32]}",
                "outcome": TriggerOutcome.SKIPPED,
                "reason": reason,
                "event": {},
                "tries": 0,
                "retry_at": None,
                "received_at": tx.now,
            }
            insert_or_ignore(tx.session, TriggerEvent, fields)

    def _look_up(self, events: dict[str, ObjectCreated]) -> dict[str, Lookup]:
        def look_up(event: ObjectCreated) -> Lookup:
            try:
                return find_object(event, self._reader)
            except StorageError as exc:
                return exc
            except Exception as exc:  # an answer that no store should give concerns this object only
                log.exception("the answer of the object store for an event of bucket %s cannot be read", event.bucket)
                return ObjectFaultError(f"The answer cannot be read ({type(exc).__name__}).", "bucket")

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
            waited, tried = tx.now - p.received_at(tx.now), p.row.tries + 1 if p.row is not None else 0
            decision = decide(trigger, p.event, lookups[p.event.fingerprint], waited=waited, tries=tried)
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
            recorded = recorder.record(tx, trigger, decision)
            result.count(recorded)
            if p.row is not None and recorded.outcome is TriggerOutcome.SKIPPED:
                tx.after_commit.append(functools.partial(_log_given_up, decision, recorded.reason))
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


def _log_given_up(decision: Decision, reason: str | None) -> None:
    where = printable(f"s3://{decision.event.bucket}/{decision.key}")
    log.warning("no job for %s: %s", where, printable(reason or ""))
