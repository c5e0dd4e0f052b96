"""What goes in and comes out, as types: the source of the OpenAPI document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self

from flask_openapi3.types import ResponseDict
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from jobs.lifecycle import Stage, State
from jobs.request import FieldAtFaultError, Text


class JobPath(BaseModel):
    job_id: str = Field(max_length=64)


class ArtifactPath(JobPath):
    name: str = Field(max_length=120)


class UploadPath(BaseModel):
    upload_id: str = Field(max_length=64)


class SubmitHeader(BaseModel):
    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key with the same body gives the same job, for 24 h.",
    )


class GetJobQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    wait: float = Field(0, ge=0, le=60, description="Answer when the job ends or this many seconds have passed.")


class ListJobsQuery(BaseModel):
    """Filters; also `metadata.KEY=VALUE`, any number of times."""

    model_config = ConfigDict(extra="allow")

    state: State | None = None
    variant: str | None = None
    created_after: AwareDatetime | None = None
    cursor: str | None = Field(None, max_length=200)
    limit: int = Field(50, ge=1, le=200)

    @model_validator(mode="after")
    def _only_metadata_beside(self) -> Self:
        unknown = [name for name in self.model_extra or {} if not name.startswith("metadata.")]
        if unknown:
            raise FieldAtFaultError(unknown[0], f"there is no filter {', '.join(unknown)}")
        return self

    @field_validator("created_after")
    @classmethod
    def _within_the_calendar(cls, value: datetime | None) -> datetime | None:
        try:
            return value.astimezone(UTC) if value is not None else None
        except OverflowError:
            raise ValueError("in UTC it lies outside the years 1 to 9999") from None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple((name.removeprefix("metadata."), str(value)) for name, value in (self.model_extra or {}).items())


class NewUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filename: Text = Field(min_length=1, max_length=255, description="Only shown; the stored name is another.")
    size_bytes: int = Field(ge=1, strict=True)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    content_type: str = Field(
        "application/octet-stream", max_length=120, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$"
    )


class UploadInstruction(BaseModel):
    """How to send the bytes: `PUT` them to `url` with `headers`, or `POST` a form, `fields` first, then part `file`."""

    method: Literal["PUT", "POST"]
    url: str
    headers: dict[str, str]
    fields: dict[str, str]
    expires_at: datetime


class UploadView(BaseModel):
    id: str
    state: Literal["pending", "ready", "expired"]
    filename: str
    content_type: str
    size_bytes: int
    sha256: str | None
    created_at: datetime
    expires_at: datetime
    upload: UploadInstruction | None = None


class ErrorView(BaseModel):
    code: str
    message: str
    stage: str | None
    retryable: bool


class WarningView(BaseModel):
    code: str
    message: str


class ArtifactView(BaseModel):
    name: str
    kind: Literal["audio", "video"]
    format: str
    url: str | None
    size_bytes: int
    sha256: str
    duration_s: float
    sample_index: int
    seed: int
    delivered_to: str | None = Field(description="`s3://bucket/key` of the copy in the caller's own bucket.")
    expires_at: datetime | None
    expired: bool


class JobLinks(BaseModel):
    """Where to go from here; null: that makes no sense now, or this version does not offer it."""

    model_config = ConfigDict(populate_by_name=True)

    self_: str = Field(alias="self")
    events: str | None
    cancel: str | None
    retry: str | None


class AttemptView(BaseModel):
    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime | None
    outcome: Literal["succeeded", "failed", "canceled", "requeued", "lost"] | None = Field(
        description="null while it runs; `lost`: the worker fell silent; `requeued`: it was stopped."
    )
    error: ErrorView | None


class JobView(BaseModel):
    id: str
    state: State
    stage: Stage | None
    progress: float
    step: int | None
    eta_s: float | None = Field(
        description="Seconds to the end when progress was last written, from what this variant took on this worker; "
        "null while nothing was measured yet, and when it does not run."
    )
    queue_position: int | None = Field(description="Place among the queued jobs of the variant; null in lists.")
    attempt: int
    max_attempts: int
    attempts: list[AttemptView] = Field(description="Every try at it, first to last: who, when, how it ended and why.")
    request: dict[str, Any] = Field(description="The request as resolved: what was left open is filled in.")
    error: ErrorView | None
    warnings: list[WarningView]
    timings: dict[str, float]
    artifacts: list[ArtifactView]
    preview: dict[str, Any] | None = Field(description="Waveform and spectrogram; this version makes none.")
    worker: str | None
    retry_of: str | None
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: JobLinks


class PageLinks(BaseModel):
    next: str | None


class JobPage(BaseModel):
    data: list[JobView]
    next_cursor: str | None
    links: PageLinks


class VariantView(BaseModel):
    name: str
    installed: bool = Field(description="A living worker takes jobs for it.")
    default: bool
    sample_rate_hz: int
    min_duration_s: float
    max_duration_s: float
    default_duration_s: float
    licence: str
    note: str | None


class LimitsView(BaseModel):
    """What holds for every variant. A request beyond is refused, at the latest when its file is read."""

    max_upload_bytes: int
    max_pixels: int
    max_source_duration_s: float
    max_num_steps: int
    max_num_samples: int


class VariantList(BaseModel):
    data: list[VariantView]
    limits: LimitsView


class QueueView(BaseModel):
    variant: str
    paused: bool = Field(description="An operator lets no more of its jobs start.")
    queued: int
    running: int
    oldest_queued_age_s: float | None
    throughput_per_min: float
    eta_s: float | None


class QueueList(BaseModel):
    data: list[QueueView]
    queued: int
    running: int


class WorkerPath(BaseModel):
    worker_id: str = Field(max_length=80)


class GpuView(BaseModel):
    """As the driver says it; null: this device does not say."""

    memory_used_bytes: int | None
    memory_total_bytes: int | None
    utilization: float | None = Field(description="Share of the last moment in which the GPU worked, 0 to 1.")
    temperature_c: float | None


class WorkerView(BaseModel):
    id: str
    hostname: str
    pid: int
    device: str
    state: Literal["starting", "idle", "busy", "draining", "stopped", "lost"]
    drain_requested: bool
    slots: int
    variants: list[str]
    variants_loaded: list[str]
    memory_bytes: int | None
    gpu: GpuView | None = Field(description="Null for a worker on a processor.")
    jobs_in_hand: list[str]
    started_at: datetime
    heartbeat_at: datetime


class WorkerList(BaseModel):
    data: list[WorkerView]


class TriggerPath(BaseModel):
    trigger_id: str = Field(max_length=64)


class TriggerSwitch(BaseModel):
    """`true` also ends a pause of the breaker: what it held is looked at again."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(strict=True)


class TriggerEventView(BaseModel):
    """What became of one object version."""

    key: str
    outcome: Literal["submitted", "skipped", "held"]
    reason: str | None
    job_id: str | None
    seen_at: datetime
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
    output: str | None
    events: TriggerEventCounts = Field(description="What became of the events that are remembered.")
    last_events: list[TriggerEventView] | None = Field(description="The latest, newest first; null in lists.")
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


class EventsTaken(BaseModel):
    """What became of the objects in a message."""

    submitted: int
    skipped: int
    held: int
    duplicates: int


class FieldError(BaseModel):
    field: str
    message: str


class HealthView(BaseModel):
    status: Literal["ok"]


class ReadyView(BaseModel):
    status: Literal["ready", "down"]
    checks: dict[str, Literal["ok", "down"]]


class Problem(BaseModel):
    """RFC 9457 problem document. A 409 of a job also has `job`, a 503 also has `down`, the names of what is."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] | None = None


def problems(*statuses: int) -> ResponseDict:
    """Return the refusals of a call as the OpenAPI document tells them."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(status): {"content": content} for status in statuses}


def files(*statuses: int) -> ResponseDict:
    """Return answers that are the bytes of a file."""
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {str(status): {"content": content} for status in statuses}
