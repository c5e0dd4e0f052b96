"""Jobs: what is asked for, what is told of one, its attempts and artifacts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from jobs.lifecycle import Stage, State
from jobs.request import FieldAtFaultError


class JobPath(BaseModel):
    job_id: str = Field(max_length=64)


class ArtifactPath(JobPath):
    name: str = Field(max_length=120)


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
