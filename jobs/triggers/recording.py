"""Writes a decision down: the event's row, and with it the job, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import update
from sqlalchemy.dialects import postgresql, sqlite

from jobs.db.database import Transaction
from jobs.db.tables import Job, Trigger, TriggerEvent
from jobs.errors import QueueFullError, RequestInvalidError
from jobs.ids import new_id
from jobs.service.submission import SubmitPolicy, submit
from jobs.triggers.decision import Action, Decision
from jobs.triggers.rule import request_for
from jobs.triggers.service import jobs_made_since

Outcome = Literal["submitted", "skipped", "held"]

_OUTCOMES: dict[Action, Outcome] = {"submit": "submitted", "skip": "skipped", "hold": "held"}
RATE_WINDOW = timedelta(hours=1)


@dataclass(frozen=True)
class RecordedDecision:
    """What a decision became; `duplicate`: this object version was settled before."""

    outcome: Outcome | Literal["duplicate"]
    variant: str | None = None


@dataclass
class RateBreaker:
    """Stops a trigger that makes too many jobs: it pauses, and its events are held until somebody resumes it."""

    jobs_per_hour: int
    _left: dict[str, int] = field(default_factory=dict)

    def lets_through(self, tx: Transaction, trigger: Trigger, received_at: datetime) -> bool:
        """Say whether one more job may be made, of an event that was first seen then; pauses the trigger otherwise."""
        if trigger.paused_at is not None:
            return False
        if self.jobs_per_hour == 0 or (trigger.resumed_at is not None and received_at < trigger.resumed_at):
            return True  # who resumed it wants what was held until then
        if trigger.id not in self._left:
            since = max(tx.now - RATE_WINDOW, trigger.resumed_at or trigger.created_at)
            made = jobs_made_since(tx, trigger.id, since, at_most=self.jobs_per_hour)
            self._left[trigger.id] = self.jobs_per_hour - made
        if self._left[trigger.id] > 0:
            self._left[trigger.id] -= 1
            return True
        trigger.paused_at = tx.now
        trigger.pause_reason = (
            f"It made {self.jobs_per_hour} jobs within an hour, the most that is allowed (trigger_jobs_per_hour). "
            "Its events are held; switch it on again to go on."
        )
        return False


@dataclass(frozen=True)
class DecisionRecorder:
    """How a decision is written down: what may be asked for, and the times of its row."""

    policy: SubmitPolicy
    breaker: RateBreaker
    tries: int
    retry_at: datetime
    """When it is looked at again, should it be held."""
    received_at: datetime

    def write(self, tx: Transaction, trigger: Trigger, decision: Decision) -> RecordedDecision:
        """Write the event's row once, and the job that it asks for."""
        outcome = _OUTCOMES[decision.action]
        event_id = new_id("tev")
        row = {
            "id": event_id,
            "trigger_id": trigger.id,
            "bucket": decision.event.bucket,
            "object_key": decision.key,
            "object_version": decision.object_version,
            "outcome": outcome,
            "reason": decision.reason,
            "event": decision.event.as_json(),
            "tries": self.tries,
            "retry_at": self.retry_at if outcome == "held" else None,
            "received_at": self.received_at,
        }
        if not _insert_once(tx, row):
            return RecordedDecision("duplicate")
        if outcome != "submitted":
            return RecordedDecision(outcome)
        if not self.breaker.lets_through(tx, trigger, self.received_at):
            return self._instead(tx, event_id, "held", "the trigger is paused")
        try:
            job = self._submit(tx, trigger, decision)
        except ValidationError as exc:
            return self._instead(tx, event_id, "skipped", f"no request can be made of it: {exc.errors()[0]['msg']}")
        except (RequestInvalidError, QueueFullError) as exc:  # raised before anything of the job was written
            return self._instead(tx, event_id, "held", exc.message)
        _update(tx, event_id, job_id=job.id)
        return RecordedDecision("submitted", job.variant)

    def _submit(self, tx: Transaction, trigger: Trigger, decision: Decision) -> Job:
        request = request_for(
            trigger.request, trigger.source_field, trigger.deliver_to, bucket=decision.event.bucket, key=decision.key
        )
        return submit(tx, request, tenant=trigger.tenant, policy=self.policy, input_pin=decision.pin).job

    def _instead(
        self, tx: Transaction, event_id: str, outcome: Literal["skipped", "held"], reason: str
    ) -> RecordedDecision:
        """Say that no job came of it after all."""
        retry_at = self.retry_at if outcome == "held" else None
        _update(tx, event_id, outcome=outcome, reason=reason, retry_at=retry_at)
        return RecordedDecision(outcome)


def _update(tx: Transaction, event_id: str, **values: Any) -> None:
    tx.session.execute(
        update(TriggerEvent).where(TriggerEvent.id == event_id).values(**values),
        execution_options={"synchronize_session": False},
    )


def _insert_once(tx: Transaction, row: dict[str, Any]) -> bool:
    """Insert an event's row unless the unique index knows it; say whether it was new."""
    dialect = sqlite if tx.session.get_bind().dialect.name == "sqlite" else postgresql
    statement = dialect.insert(TriggerEvent).values(**row).on_conflict_do_nothing().returning(TriggerEvent.id)
    return tx.session.execute(statement).scalar() is not None
