"""Dry run: what a trigger would do with events, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Trigger, TriggerEvent
from jobs.storage.bucket_reader import BucketReader
from jobs.storage.errors import StorageError
from jobs.triggers.decision import Action, Decision, Lookup, decide
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.known_versions import is_known_otherwise
from jobs.triggers.object_version import find_object
from jobs.triggers.rule import request_for


@dataclass(frozen=True)
class DryRunResult:
    """What would be done with one object; `known`: this object version was already recorded, so nothing."""

    bucket: str
    key: str
    action: Action
    reason: str | None
    request: dict[str, Any] | None = None
    etag: str | None = None
    version_id: str | None = None
    known: bool = False


def dry_run_events(
    db: Database, reader: BucketReader, trigger: Trigger, events: Sequence[ObjectCreated]
) -> list[DryRunResult]:
    """Return what the trigger would do with each event if it were enabled."""
    return [_dry_run(db, reader, trigger, event) for event in events]


def _dry_run(db: Database, reader: BucketReader, trigger: Trigger, event: ObjectCreated) -> DryRunResult:
    bucket = event.bucket
    if bucket != trigger.bucket:
        return DryRunResult(bucket, event.keys[0], Action.IGNORE, f"the trigger is for bucket {trigger.bucket}")
    lookup: Lookup
    try:
        lookup = find_object(event, reader)
    except StorageError as exc:
        lookup = exc
    decision = decide(trigger, event, lookup, waited=timedelta(0))
    if decision is None:
        return DryRunResult(bucket, event.keys[0], Action.IGNORE, "the key does not match prefix and suffixes")
    key, known = decision.key, _is_known(db, trigger, decision)
    if decision.action is not Action.SUBMIT or decision.pin is None:
        return DryRunResult(bucket, key, decision.action, decision.reason, known=known)
    try:
        request = request_for(trigger.request, trigger.source_field, trigger.deliver_to, bucket=bucket, key=key)
    except ValidationError as exc:
        return DryRunResult(bucket, key, Action.SKIP, f"the request is not valid: {exc.errors()[0]['msg']}")
    return DryRunResult(
        bucket,
        key,
        Action.SUBMIT,
        None,
        request.model_dump(mode="json", exclude_none=True),
        decision.pin.etag,
        decision.pin.version_id,
        known,
    )


def _is_known(db: Database, trigger: Trigger, decision: Decision) -> bool:
    with db.reading() as tx:
        query = select(TriggerEvent.id).where(
            TriggerEvent.trigger_id == trigger.id,
            TriggerEvent.bucket == decision.event.bucket,
            TriggerEvent.object_key == decision.key,
            TriggerEvent.object_version == decision.object_version,
        )
        return tx.session.scalar(query) is not None or is_known_otherwise(tx, trigger.id, decision)
