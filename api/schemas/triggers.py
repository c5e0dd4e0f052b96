"""Bucket triggers: the rule, what became of events, the dry run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.request import FieldAtFaultError, Text


class TriggerPath(BaseModel):
    trigger_id: str = Field(max_length=64)


class TriggerUpdate(BaseModel):
    """`true` also ends a pause of the breaker: what it held is looked at again."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(strict=True)


class TriggerEventView(BaseModel):
    """What became of one object version."""

    key: str
    outcome: Literal["submitted", "skipped", "held"]
    reason: str | None
    job_id: str | None
    received_at: datetime
    retry_at: datetime | None


class TriggerEventCounts(BaseModel):
    submitted: int
    skipped: int
    held: int


class TriggerLinks(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    self_: str = Field(alias="self")
    dry_run: str


class TriggerView(BaseModel):
    id: str
    name: str | None
    state: Literal["enabled", "disabled", "paused"] = Field(
        description="`disabled`: events are let go. `paused`: by the breaker; events are held."
    )
    pause_reason: str | None
    bucket: str
    prefix: str
    suffixes: list[str]
    source_field: Literal["video", "image"]
    request: dict[str, Any]
    deliver_to: str | None
    events: TriggerEventCounts = Field(description="What became of the events that are remembered.")
    latest_events: list[TriggerEventView] | None = Field(description="The latest, newest first; null in lists.")
    created_at: datetime
    links: TriggerLinks


class TriggerList(BaseModel):
    data: list[TriggerView]


class DryRunBody(BaseModel):
    """Give `event`, a message of any form that is accepted, or `key`, an object that lies in the trigger's bucket."""

    model_config = ConfigDict(extra="forbid")

    event: dict[str, Any] | list[Any] | None = None
    key: Text | None = Field(None, min_length=1, max_length=1024)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.event is None) == (self.key is None):
            raise FieldAtFaultError("event", "give either `event` or `key`")
        return self


class DryRunObject(BaseModel):
    bucket: str
    key: str
    action: Literal["submit", "skip", "hold", "ignore"]
    reason: str | None
    request: dict[str, Any] | None = Field(description="What the job would be asked for.")
    etag: str | None
    version_id: str | None
    known: bool = Field(description="This object version was settled before: nothing would be done.")


class DryRunView(BaseModel):
    data: list[DryRunObject]


class IngestionView(BaseModel):
    """What became of the objects in a message."""

    submitted: int
    skipped: int
    held: int
    duplicates: int
