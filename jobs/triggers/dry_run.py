"""What a trigger would do with events, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Trigger, TriggerEvent
from jobs.storage.bucket_reader import BucketReader
from jobs.storage.errors import StorageUnavailableError
from jobs.triggers.decision import Action, Decision, Lookup, decide
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.object_version import find_object
from jobs.triggers.rule import request_for


@dataclass(frozen=True)
class DryRunResult:
    """What would become of one object."""

    bucket: str
    key: str
    action: Action | Literal["ignore"]
    reason: str | None
    request: dict[str, Any] | None = None
    etag: str | None = None
    version_id: str | None = None
    known: bool = False


def dry_run_events(
    db: Database, reader: BucketReader, trigger: Trigger, events: Sequence[ObjectCreated]
) -> list[DryRunResult]:
    """Return what the trigger would make of each event, as if it were enabled."""
    return [_foresee(db, reader, trigger, event) for event in events]


def _foresee(db: Database, reader: BucketReader, trigger: Trigger, event: ObjectCreated) -> DryRunResult:
    if event.bucket != trigger.bucket:
        return DryRunResult(event.bucket, event.keys[0], "ignore", f"the trigger is for bucket {trigger.bucket}")
    looked: Lookup
    try:
        looked = find_object(event, reader)
    except StorageUnavailableError as exc:
        looked = exc
    decision = decide(trigger, event, looked, waited=timedelta(0))
    if decision is None:
        return DryRunResult(event.bucket, event.keys[0], "ignore", "prefix or suffixes leave it out")
    if decision.action != "submit" or decision.pin is None:
        return DryRunResult(
            event.bucket, decision.key, decision.action, decision.reason, known=_known(db, trigger, decision)
        )
    try:
        request = request_for(
            trigger.request, trigger.source_field, trigger.deliver_to, bucket=event.bucket, key=decision.key
        )
    except ValidationError as exc:
        return DryRunResult(
            event.bucket, decision.key, "skip", f"no request can be made of it: {exc.errors()[0]['msg']}"
        )
    return DryRunResult(
        event.bucket,
        decision.key,
        "submit",
        None,
        request.model_dump(mode="json", exclude_none=True),
        decision.pin.etag,
        decision.pin.version_id,
        _known(db, trigger, decision),
    )


def _known(db: Database, trigger: Trigger, decision: Decision) -> bool:
    with db.reading() as tx:
        query = select(TriggerEvent.id).where(
            TriggerEvent.trigger_id == trigger.id,
            TriggerEvent.bucket == decision.event.bucket,
            TriggerEvent.object_key == decision.key,
            TriggerEvent.object_version == decision.object_version,
        )
        return tx.session.scalar(query) is not None
