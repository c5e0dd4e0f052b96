"""Records a decision in the caller's transaction: the event's row, and the job that it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import update

from jobs.db.database import Transaction
from jobs.db.tables import Job, Trigger, TriggerEvent
from jobs.db.upsert import insert_or_ignore
from jobs.errors import DomainError, RequestInvalidError
from jobs.ids import new_id
from jobs.lifecycle import TriggerOutcome
from jobs.service.submission import SubmitPolicy, submit
from jobs.triggers.decision import GIVE_UP_TRIES, Action, Decision
from jobs.triggers.known_versions import is_known_otherwise
from jobs.triggers.rule import request_for
from jobs.triggers.service import jobs_made_since

_OUTCOMES = {
    Action.SUBMIT: TriggerOutcome.SUBMITTED,
    Action.SKIP: TriggerOutcome.SKIPPED,
    Action.HOLD: TriggerOutcome.HELD,
}
RATE_WINDOW = timedelta(hours=1)
# How long the operator has to offer what a trigger's request asks for, such as a variant.
GIVE_UP_INVALID_AFTER = timedelta(days=30)


@dataclass(frozen=True)
class RecordedDecision:
    """The outcome of a decision; None: this object version was already recorded. `reason`: why there is no job."""

    outcome: TriggerOutcome | None
    variant: str | None = None
    reason: str | None = None


@dataclass
class RateBreaker:
    """Pauses a trigger that makes too many jobs; its events are held until it is enabled again.

    Args:
        jobs_per_hour: how many jobs a trigger may make within an hour; 0: no limit.
    """

    jobs_per_hour: int
    _left: dict[str, int] = field(default_factory=dict)

    def allows(self, tx: Transaction, trigger: Trigger, received_at: datetime) -> bool:
        """Return whether an event received at `received_at` may make a job; pause the trigger otherwise."""
        tx.require_own(trigger.tenant)
        if trigger.paused_at is not None:
            return False
        if self.jobs_per_hour == 0 or (trigger.resumed_at is not None and received_at < trigger.resumed_at):
            return True  # enabling a trigger again accepts the events that were held
        if trigger.id not in self._left:
            since = max(tx.now - RATE_WINDOW, trigger.resumed_at or trigger.created_at)
            made = jobs_made_since(tx, trigger.id, since, at_most=self.jobs_per_hour)
            self._left[trigger.id] = self.jobs_per_hour - made
        if self._left[trigger.id] > 0:
            self._left[trigger.id] -= 1
            return True
        trigger.paused_at = tx.now
        trigger.pause_reason = (
            f"It made {self.jobs_per_hour} jobs within an hour, the limit of MMAUDIO_TRIGGER_JOBS_PER_HOUR. "
            "Its events are held; enable the trigger to process them."
        )
        return False


@dataclass(frozen=True)
class DecisionRecorder:
    """Records decisions about one event.

    Args:
        tries: how often the event was retried.
        retry_at: when the event is retried if it is held.
        received_at: when the event was first received.
    """

    policy: SubmitPolicy
    breaker: RateBreaker
    tries: int
    retry_at: datetime
    received_at: datetime

    def record(self, tx: Transaction, trigger: Trigger, decision: Decision) -> RecordedDecision:
        """Insert the event's row unless it exists, and submit the job that the decision asks for."""
        tx.require_own(trigger.tenant)
        if is_known_otherwise(tx, trigger.id, decision):
            return RecordedDecision(None)
        outcome = _OUTCOMES[decision.action]
        event_id = new_id("tev")
        row = {
            "id": event_id,
            "tenant": trigger.tenant,
            "trigger_id": trigger.id,
            "bucket": decision.event.bucket,
            "object_key": decision.key,
            "object_version": decision.object_version,
            "outcome": outcome,
            "reason": decision.reason,
            "event": decision.event.as_json(),
            "tries": self.tries,
            "retry_at": self.retry_at if outcome is TriggerOutcome.HELD else None,
            "received_at": self.received_at,
        }
        if not insert_or_ignore(tx.session, TriggerEvent, row):
            return RecordedDecision(None)
        if outcome is not TriggerOutcome.SUBMITTED:
            return RecordedDecision(outcome, reason=decision.reason)
        if not self.breaker.allows(tx, trigger, self.received_at):
            return self._change(tx, event_id, TriggerOutcome.HELD, "the trigger is paused")
        try:
            job = self._submit(tx, trigger, decision)
        except ValidationError as exc:
            reason = f"the request is not valid: {exc.errors()[0]['msg']}"
            return self._change(tx, event_id, TriggerOutcome.SKIPPED, reason)
        except RequestInvalidError as exc:  # raised, as the next, before any row of the job was written
            if self.tries >= GIVE_UP_TRIES and tx.now - self.received_at >= GIVE_UP_INVALID_AFTER:
                return self._change(tx, event_id, TriggerOutcome.SKIPPED, f"given up after 30 days: {exc.message}")
            return self._change(tx, event_id, TriggerOutcome.HELD, exc.message)
        except DomainError as exc:  # the queue is full, or another limit of this server
            return self._change(tx, event_id, TriggerOutcome.HELD, exc.message)
        _update(tx, event_id, job_id=job.id)
        return RecordedDecision(outcome, job.variant)

    def _submit(self, tx: Transaction, trigger: Trigger, decision: Decision) -> Job:
        request = request_for(
            trigger.request, trigger.source_field, trigger.deliver_to, bucket=decision.event.bucket, key=decision.key
        )
        with tx.as_tenant(trigger.tenant) as bound:
            return submit(bound, request, policy=self.policy, input_pin=decision.pin).job

    def _change(self, tx: Transaction, event_id: str, outcome: TriggerOutcome, reason: str) -> RecordedDecision:
        """Change the outcome of the inserted row because no job could be submitted."""
        retry_at = self.retry_at if outcome is TriggerOutcome.HELD else None
        _update(tx, event_id, outcome=outcome, reason=reason, retry_at=retry_at)
        return RecordedDecision(outcome, reason=reason)


def _update(tx: Transaction, event_id: str, **values: Any) -> None:
    tx.session.execute(
        update(TriggerEvent).where(TriggerEvent.id == event_id).values(**values),
        execution_options={"synchronize_session": False},
    )
