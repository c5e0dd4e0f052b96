"""Bucket triggers: the rule, the outcomes of events, the dry run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.links import LinkBuilder
from api.schemas.jobs import PageLinks
from api.schemas.parameters import page_cursor
from api.schemas.view import Timestamp, View
from jobs.db.tables import Trigger, TriggerEvent
from jobs.lifecycle import TriggerOutcome, TriggerState
from jobs.request import FieldAtFaultError, Text
from jobs.triggers.backfill import MAX_LISTED, BackfillPage
from jobs.triggers.decision import Action
from jobs.triggers.dry_run import DryRunResult
from jobs.triggers.ingestion import IngestionResult
from jobs.triggers.service import MAX_PAGE, TRIGGER_ID, EventCounts, trigger_state
from jobs.whole_numbers import Whole


class TriggerPath(BaseModel):
    trigger_id: str = Field(max_length=64, description="Id of the trigger.")


class TriggerUpdate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(
        strict=True,
        description="false: ignore events. true: process events; also ends a pause and retries held events.",
    )


class TriggerEventView(View):
    """The outcome of one object version."""

    key: str = Field(description="Key of the object.")
    outcome: TriggerOutcome
    reason: str | None = Field(description="Why no job was made.")
    job_id: str | None = Field(description="Id of the job that was made.")
    received_at: Timestamp
    retry_at: Timestamp | None = Field(description="When a held event is retried.")

    @classmethod
    def from_row(cls, row: TriggerEvent) -> TriggerEventView:
        """Return the document of an event."""
        return cls(
            key=row.object_key,
            outcome=row.outcome,
            reason=row.reason,
            job_id=row.job_id,
            received_at=row.received_at,
            retry_at=row.retry_at,
        )


class TriggerEventCounts(View):
    submitted: int = Field(description="Events that made a job.")
    skipped: int = Field(description="Events that made no job.")
    held: int = Field(description="Events that are retried later.")


class TriggerLinks(View):
    self_: str = Field(alias="self", description="The trigger itself.")
    dry_run: str = Field(description="POST shows what an event would do.")
    backfill: str = Field(description="POST makes jobs of objects that are in the bucket already.")


class TriggerView(View):
    id: str
    name: str | None = Field(description="Display name.")
    state: TriggerState = Field(
        description="`disabled`: events are ignored. `paused`: by the rate breaker; events are held."
    )
    pause_reason: str | None
    bucket: str
    prefix: str
    suffixes: list[str]
    source_field: Literal["video", "image"]
    request: dict[str, Any]
    deliver_to: str | None
    events: TriggerEventCounts = Field(description="Outcomes of the stored events.")
    latest_events: list[TriggerEventView] | None = Field(description="Latest events, newest first; null in lists.")
    created_at: Timestamp
    links: TriggerLinks

    @classmethod
    def from_row(
        cls, row: Trigger, *, counts: EventCounts, latest: Sequence[TriggerEvent] | None, links: LinkBuilder
    ) -> TriggerView:
        """Return the document of a trigger.

        Args:
            latest: its latest events; None in lists.
        """
        url = links.trigger(row.id)
        return cls.model_validate(
            {
                "id": row.id,
                "name": row.name,
                "state": trigger_state(row),
                "pause_reason": row.pause_reason,
                "bucket": row.bucket,
                "prefix": row.prefix,
                "suffixes": row.suffixes,
                "source_field": row.source_field,
                "request": row.request,
                "deliver_to": row.deliver_to,
                "events": vars(counts),
                "latest_events": None if latest is None else [TriggerEventView.from_row(event) for event in latest],
                "created_at": row.created_at,
                "links": TriggerLinks(self_=url, dry_run=f"{url}/dry-run", backfill=f"{url}/backfill"),
            }
        )


class ListTriggersQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: str | None = page_cursor(TRIGGER_ID)
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Maximum number of triggers on the page.")


class TriggerList(View):
    data: list[TriggerView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")
    links: PageLinks


class DryRunBody(BaseModel):
    """Either `event` or `key`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"key": "in/walk.mp4"},
            "anyOf": [
                {"required": ["key"], "properties": {"key": {"type": "string"}, "event": {"type": "null"}}},
                {"required": ["event"], "properties": {"event": {"type": "object"}, "key": {"type": "null"}}},
                {"required": ["event"], "properties": {"event": {"type": "array"}, "key": {"type": "null"}}},
            ],
        },
    )

    event: dict[str, Any] | list[Any] | None = Field(None, description="A message in any form that is accepted.")
    key: Text | None = Field(
        None, min_length=1, max_length=1024, description="Key of an object in the trigger's bucket."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.event is None) == (self.key is None):
            raise FieldAtFaultError("event", "give either `event` or `key`")
        return self


class DryRunObject(View):
    bucket: str
    key: str
    action: Action = Field(description="What would be done; `ignore`: the trigger does not cover the object.")
    reason: str | None = Field(description="Why no job would be made.")
    request: dict[str, Any] | None = Field(description="Request of the job that would be made.")
    etag: str | None
    version_id: str | None
    known: bool = Field(description="Whether this object version was processed before; then nothing would be done.")

    @classmethod
    def from_result(cls, result: DryRunResult) -> DryRunObject:
        """Return the document of a dry run's result."""
        return cls(**vars(result))


class DryRunView(View):
    data: list[DryRunObject]


class BackfillBody(BaseModel):
    """One call lists one page; call again with `next_cursor` until it is null."""

    model_config = ConfigDict(extra="forbid")

    prefix: Text | None = Field(
        None, max_length=1024, description="Only keys that begin with this. Default: the trigger's prefix."
    )
    cursor: Text | None = Field(
        None, min_length=1, max_length=1024, description="`next_cursor` of the previous answer."
    )
    limit: Whole = Field(100, ge=1, le=MAX_LISTED, strict=True, description="Maximum number of objects to list.")
    max_jobs: Whole | None = Field(None, ge=1, strict=True, description="Stop after so many new jobs.")
    dry_run: bool = Field(False, strict=True, description="Return what would be done; make no job.")


class BackfillView(View):
    """What was done with a page of objects."""

    listed: int = Field(description="Objects that were listed.")
    submitted: int = Field(description="Objects that made a job, or with `dry_run` would make one.")
    skipped: int = Field(description="Objects that make no job.")
    held: int = Field(description="Objects that are retried later.")
    duplicates: int = Field(description="Objects that were processed before.")
    next_cursor: str | None = Field(description="`cursor` of the next call; null when the listing is complete.")
    data: list[DryRunObject] | None = Field(description="With `dry_run`: what would be done with each object.")

    @classmethod
    def from_page(cls, page: BackfillPage) -> BackfillView:
        """Return the document of a page."""
        return cls(
            listed=page.listed,
            submitted=page.submitted,
            skipped=page.skipped,
            held=page.held,
            duplicates=page.duplicates,
            next_cursor=page.next_cursor,
            data=None if page.dry_run is None else [DryRunObject.from_result(one) for one in page.dry_run],
        )


class IngestionView(View):
    """Outcomes of the objects in a message."""

    submitted: int = Field(description="Objects that made a job.")
    skipped: int = Field(description="Objects that made no job.")
    held: int = Field(description="Objects that are retried later.")
    duplicates: int = Field(description="Objects that were processed before.")

    @classmethod
    def from_result(cls, result: IngestionResult) -> IngestionView:
        """Return the document of an ingestion's result."""
        return cls(submitted=result.submitted, skipped=result.skipped, held=result.held, duplicates=result.duplicates)
