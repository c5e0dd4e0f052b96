"""From events to jobs: look at each object, then write event, job and first job event in one transaction.

Only when `take` has returned may a source let go of its message. What cannot become a job now (the store or the
queue is full, the breaker has tripped) is written down as held, so that a source never has to keep it.
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
from jobs.service.submission import SubmitPolicy
from jobs.storage.bucket_reader import BucketReader
from jobs.storage.errors import StorageUnavailableError
from jobs.triggers.decision import Decision, Lookup, decide
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.object_version import find_object
from jobs.triggers.recording import DecisionRecorder, RateBreaker, RecordedDecision
from jobs.triggers.rule import matches

log = logging.getLogger(__name__)

LOOKS_AT_ONCE = 8
HELD_BATCH = 100
RETRY_BASE_S = 5.0
RETRY_MAX_S = 600.0


@dataclass
class IngestionResult:
    """What became of some events: counts, and the variants whose queues grew."""

    submitted: int = 0
    skipped: int = 0
    held: int = 0
    duplicates: int = 0
    variants: set[str] = field(default_factory=set)

    def count(self, written: RecordedDecision) -> None:
        self.submitted += written.outcome == "submitted"
        self.skipped += written.outcome == "skipped"
        self.held += written.outcome == "held"
        self.duplicates += written.outcome == "duplicate"
        if written.variant is not None:
            self.variants.add(written.variant)


@dataclass(frozen=True)
class _Pending:
    """An event at one trigger; `row` where it is already written down as held."""

    trigger: Trigger
    event: ObjectCreated
    row: TriggerEvent | None = None

    def received_at(self, now: datetime) -> datetime:
        """When the event first came."""
        return self.row.received_at if self.row is not None else now


class EventIngestion:
    """Turns events into jobs. One a process; threads may share it.

    Args:
        policy: asked anew for each batch; what is offered changes with the workers.
        jobs_per_hour: more jobs of one trigger trip its breaker; 0: no limit.
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
        """Make a job of each new object version at each trigger that wants it. Idempotent.

        Raises:
            SQLAlchemyError: nothing was written; the source must deliver again.
        """
        return self._settle(self._wanted(events))

    def retry_held_events(self) -> IngestionResult:
        """Look again at held events whose time has come; returns what became of them (a batch at most)."""
        with self._db.reading() as tx:
            query = (
                select(TriggerEvent, Trigger)
                .join(Trigger, Trigger.id == TriggerEvent.trigger_id)
                .where(TriggerEvent.outcome == "held", TriggerEvent.retry_at <= tx.now)
                .where(Trigger.enabled, Trigger.paused_at.is_(None))
                .order_by(TriggerEvent.retry_at)
                .limit(HELD_BATCH)
            )
            due = [
                _Pending(trigger, ObjectCreated.from_json(row.event), row) for row, trigger in tx.session.execute(query)
            ]
        return self._settle(due)

    def _wanted(self, events: Iterable[ObjectCreated]) -> list[_Pending]:
        """Return each event with each trigger that may want it, once."""
        once = {event.fingerprint: event for event in events}
        if not once:
            return []
        with self._db.reading() as tx:
            buckets = {event.bucket for event in once.values()}
            triggers = list(tx.session.scalars(select(Trigger).where(Trigger.bucket.in_(buckets), Trigger.enabled)))
        return [
            _Pending(trigger, event)
            for event in once.values()
            for trigger in triggers
            if trigger.bucket == event.bucket and any(matches(trigger, key) for key in event.keys)
        ]

    def _settle(self, pending: list[_Pending]) -> IngestionResult:
        if not pending:
            return IngestionResult()
        looks = self._look_at({p.event.fingerprint: p.event for p in pending})
        policy = self._policy()
        # Repeatable: the unique index knows what was committed. Two batches that meet in PostgreSQL may deadlock.
        return self._db.run(lambda tx: self._write(tx, pending, looks, policy), repeatable=True)

    def _look_at(self, events: dict[str, ObjectCreated]) -> dict[str, Lookup]:
        def look(event: ObjectCreated) -> Lookup:
            try:
                return find_object(event, self._reader)
            except StorageUnavailableError as exc:
                log.warning("%s; its event is held", exc)
                return exc

        if len(events) == 1:
            return {name: look(event) for name, event in events.items()}
        with ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="look") as pool:
            return dict(zip(events, pool.map(look, events.values()), strict=True))

    def _write(
        self, tx: Transaction, pending: list[_Pending], looks: dict[str, Lookup], policy: SubmitPolicy
    ) -> IngestionResult:
        living = self._living_triggers(tx, {p.trigger.id for p in pending})
        decided: list[tuple[Trigger, Decision, _Pending]] = []
        for p in pending:
            trigger = living.get(p.trigger.id)
            if trigger is None or not trigger.enabled:
                continue
            decision = decide(trigger, p.event, looks[p.event.fingerprint], waited=tx.now - p.received_at(tx.now))
            if decision is not None:
                decided.append((trigger, decision, p))
        # Two processes that write the same events in different orders would wait for each other's index entries.
        decided.sort(key=lambda one: (one[0].id, one[1].key, one[1].object_version))
        result, breaker = IngestionResult(), RateBreaker(self._jobs_per_hour)
        for trigger, decision, p in decided:
            tries = self._take_from_held(tx, p.row)
            if tries is None:
                continue  # another process has it
            writing = DecisionRecorder(policy, breaker, tries, self._retry_at(tx.now, tries), p.received_at(tx.now))
            result.count(writing.write(tx, trigger, decision))
        return result

    @staticmethod
    def _living_triggers(tx: Transaction, ids: set[str]) -> dict[str, Trigger]:
        """Return the triggers as they are now, kept from being deleted until the commit."""
        query = select(Trigger).where(Trigger.id.in_(ids)).order_by(Trigger.id)
        return {t.id: t for t in tx.session.scalars(query.with_for_update(read=True, key_share=True))}

    @staticmethod
    def _take_from_held(tx: Transaction, row: TriggerEvent | None) -> int | None:
        """Take a held row out, to be written again; return how often it was tried, None when it is gone."""
        if row is None:
            return 0
        mine = delete(TriggerEvent).where(
            TriggerEvent.id == row.id, TriggerEvent.outcome == "held", TriggerEvent.tries == row.tries
        )
        gone = tx.session.execute(mine, execution_options={"synchronize_session": False})
        return row.tries + 1 if gone.rowcount == 1 else None  # type: ignore[attr-defined]

    def _retry_at(self, now: datetime, tries: int) -> datetime:
        delay_s = min(RETRY_BASE_S * 2 ** min(tries, 10), RETRY_MAX_S)
        return now + timedelta(seconds=delay_s * (0.75 + 0.5 * self._jitter()))
