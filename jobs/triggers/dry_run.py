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
from jobs.storage.buckets import BucketReader
from jobs.storage.errors import StorageUnavailableError
from jobs.triggers.forms.event import ObjectCreated
from jobs.triggers.identity import look_up
from jobs.triggers.rule import request_for
from jobs.triggers.verdict import Action, Looked, Verdict, judge


@dataclass(frozen=True)
class Foreseen:
    """What would become of one object."""

    bucket: str
    key: str
    action: Action | Literal["ignore"]
    reason: str | None
    request: dict[str, Any] | None = None
    etag: str | None = None
    version_id: str | None = None
    known: bool = False


def foresee(db: Database, reader: BucketReader, trigger: Trigger, events: Sequence[ObjectCreated]) -> list[Foreseen]:
    """Return what the trigger would make of each event, as if it were enabled."""
    return [_foresee(db, reader, trigger, event) for event in events]


def _foresee(db: Database, reader: BucketReader, trigger: Trigger, event: ObjectCreated) -> Foreseen:
    if event.bucket != trigger.bucket:
        return Foreseen(event.bucket, event.keys[0], "ignore", f"the trigger is for bucket {trigger.bucket}")
    looked: Looked
    try:
        looked = look_up(event, reader)
    except StorageUnavailableError as exc:
        looked = exc
    verdict = judge(trigger, event, looked, waited=timedelta(0))
    if verdict is None:
        return Foreseen(event.bucket, event.keys[0], "ignore", "prefix or suffixes leave it out")
    if verdict.action != "submit" or verdict.pin is None:
        return Foreseen(event.bucket, verdict.key, verdict.action, verdict.reason, known=_known(db, trigger, verdict))
    try:
        request = request_for(
            trigger.request, trigger.source_field, trigger.output, bucket=event.bucket, key=verdict.key
        )
    except ValidationError as exc:
        return Foreseen(event.bucket, verdict.key, "skip", f"no request can be made of it: {exc.errors()[0]['msg']}")
    return Foreseen(
        event.bucket,
        verdict.key,
        "submit",
        None,
        request.model_dump(mode="json", exclude_none=True),
        verdict.pin.etag,
        verdict.pin.version_id,
        _known(db, trigger, verdict),
    )


def _known(db: Database, trigger: Trigger, verdict: Verdict) -> bool:
    with db.reading() as tx:
        query = select(TriggerEvent.id).where(
            TriggerEvent.trigger_id == trigger.id,
            TriggerEvent.bucket == verdict.event.bucket,
            TriggerEvent.object_key == verdict.key,
            TriggerEvent.identity == verdict.identity,
        )
        return tx.session.scalar(query) is not None
