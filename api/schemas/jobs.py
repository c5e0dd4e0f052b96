"""Jobs, their attempts and artifacts, and the parameters of the calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from api.links import LinkBuilder
from api.schemas.parameters import Parameters, page_cursor
from api.schemas.times import Rfc3339Time, in_utc
from api.schemas.view import Timestamp, View
from jobs.db.tables import Artifact, Job, JobAttempt
from jobs.lifecycle import ArtifactKind, AttemptOutcome, Stage, State
from jobs.request import METADATA_PAIRS, FieldAtFaultError, Text
from jobs.service.artifacts import artifact_expired
from jobs.service.queries import JOB_ID

MAX_IDS = 200
ERROR_CODE = "^[a-z][a-z0-9_]{0,63}$"


def _split(value: Any) -> Any:
    """Return the items of parameters that are lists: repeated, or with commas."""
    values = value if isinstance(value, list) else [value]
    return [item for text in values for item in (text.split(",") if isinstance(text, str) else [text])]


def _known_states(value: Any) -> Any:
    found = _split(value)
    for state in found:
        if state not in set(State):
            raise ValueError(f"got {str(state)[:40]!r}; give some of {', '.join(State)}, with commas between")
    return found


RETRY_BODY: dict[str, Any] = {
    "required": False,
    "description": "Fields to change, as in `POST /v1/jobs`, but for `data:` URIs; null: the default, or drawn anew. "
    "No body: the same again.",
    "content": {
        "application/json": {
            "schema": {"type": "object"},
            "example": {"seed": None, "prompt": "rain on a tin roof"},
        }
    },
}


class JobPath(BaseModel):
    job_id: str = Field(max_length=64, description="Id of the job.")


class ArtifactPath(JobPath):
    name: str = Field(max_length=120, description="Name of the artifact.")


class SubmitHeader(Parameters):
    idempotency_key: Text | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Repeating a request with the same key and body within 24 h returns the same job.",
    )


class GetJobQuery(Parameters):
    model_config = ConfigDict(extra="forbid")

    wait: float = Field(0, ge=0, le=60, description="Seconds to wait for the job to end before answering.")


class ListJobsQuery(Parameters):
    """Filters; in addition `metadata.KEY=VALUE`, up to 16 times."""

    model_config = ConfigDict(extra="allow")

    state: Annotated[list[State], BeforeValidator(_known_states)] = Field(
        default_factory=list, max_length=20, description="Only jobs in one of these states: `state=queued,running`."
    )
    ids: Annotated[list[Text], BeforeValidator(_split)] | None = Field(
        None,
        min_length=1,
        max_length=MAX_IDS,
        description="Only these jobs: `ids=job_1,job_2`. Unknown ids are left out.",
    )
    batch: Text | None = Field(None, max_length=64, description="Only jobs of this batch.")
    q: Text | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Only jobs whose id begins with this text, or that have it in their prompt, their input's name or "
        "their metadata; upper and lower case are the same.",
    )
    variant: str | None = Field(None, description="Only jobs of this model variant.")
    code: str | None = Field(
        None,
        pattern=ERROR_CODE,
        description="Only jobs that failed with this error code, such as `storage_unavailable`.",
    )
    created_after: Rfc3339Time | None = Field(None, description="Only jobs created after this time.")
    created_before: Rfc3339Time | None = Field(None, description="Only jobs created before this time.")
    cursor: str | None = page_cursor(JOB_ID)
    limit: int = Field(50, ge=1, le=200, description="Maximum number of jobs on the page.")

    _in_utc = in_utc("created_after", "created_before")

    @model_validator(mode="after")
    def _no_unknown_filters(self) -> Self:
        unknown = [name for name in self.model_extra or {} if not name.startswith("metadata.")]
        if unknown:
            more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
            raise FieldAtFaultError(unknown[0], f"there is no filter {', '.join(unknown[:20])}{more}")
        if len(self.model_extra or {}) > METADATA_PAIRS:
            count = len(self.model_extra or {})
            raise FieldAtFaultError("metadata", f"got {count} filters; at most {METADATA_PAIRS} are allowed")
        return self

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata filters as (key, value) pairs."""
        return tuple((name.removeprefix("metadata."), str(value)) for name, value in (self.model_extra or {}).items())


class ErrorView(View):
    code: str = Field(description="Stable error code.")
    message: str = Field(description="What went wrong.")
    stage: str | None = Field(description="Stage in which it went wrong.")
    retryable: bool = Field(description="Whether a retry may succeed.")


class WarningView(View):
    code: str = Field(description="Stable warning code.")
    message: str = Field(description="What to note about the result.")


class ArtifactView(View):
    name: str = Field(description="File name, unique within the job.")
    kind: ArtifactKind
    format: str = Field(description="Container or codec, such as `flac` or `mp4`.")
    url: str | None = Field(description="Signed URL of the content; null when expired.")
    size_bytes: int
    sha256: str
    duration_s: float
    take: int = Field(description="Which of the `num_samples` takes it belongs to, from 0.")
    seed: int = Field(description="Seed of this take.")
    delivered_to: str | None = Field(description="`s3://bucket/key` of the copy in the caller's own bucket.")
    expires_at: Timestamp | None = Field(description="When the content is deleted.")
    expired: bool = Field(description="Whether the content has been deleted.")

    @classmethod
    def from_row(cls, row: Artifact, links: LinkBuilder) -> ArtifactView:
        """Return the document of an artifact."""
        expired = artifact_expired(row, links.now)
        return cls(
            name=row.name,
            kind=row.kind,
            format=row.format,
            url=None if expired else links.artifact(row.job_id, row.name),
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            duration_s=row.duration_s,
            take=row.take,
            seed=row.seed,
            delivered_to=row.delivered_to,
            expires_at=row.expires_at,
            expired=expired,
        )


class PeaksView(View):
    """The waveform, as `audiowaveform` writes it (JSON, version 2) and players such as peaks.js read it."""

    version: int
    channels: int
    sample_rate: int = Field(description="Samples a second of the sound.")
    samples_per_pixel: int = Field(description="Samples that each pair stands for.")
    bits: int = Field(description="Values are from -2**(bits - 1) to 2**(bits - 1) - 1.")
    length: int = Field(description="Number of pairs.")
    data: list[int] = Field(description="Lowest and highest value of each pair, in turn.")


class SpectrogramView(View):
    """A picture of the sound: time from left to right, frequency (mel scale) from bottom to top."""

    url: str = Field(description="Signed URL of the picture.")
    format: str = Field(description="`png`.")
    width: int
    height: int
    size_bytes: int
    min_hz: float = Field(description="Frequency at the bottom.")
    max_hz: float = Field(description="Frequency at the top.")
    floor_db: float = Field(description="The darkest colour, in decibels below the loudest point.")


class PreviewView(View):
    take: int = Field(description="Which of the `num_samples` takes it shows, from 0.")
    seed: int = Field(description="Seed of this take.")
    duration_s: float
    peaks: PeaksView | None = Field(description="The waveform; null: lost.")
    spectrogram: SpectrogramView | None = Field(description="The spectrogram; null: lost.")

    @classmethod
    def from_row(cls, row: Artifact, links: LinkBuilder) -> PreviewView:
        """Return the document of a preview."""
        detail = row.detail or {}  # a row that was restored from its object has none
        peaks, picture = detail.get("peaks"), detail.get("picture")
        url = links.artifact(row.job_id, row.name)
        return cls(
            take=row.take,
            seed=row.seed,
            duration_s=row.duration_s,
            peaks=PeaksView.model_validate(peaks) if peaks is not None else None,
            spectrogram=SpectrogramView(url=url, format=row.format, size_bytes=row.size_bytes, **picture)
            if picture is not None
            else None,
        )


class JobLinks(View):
    """URLs of the job; null: not possible in its present state, or not supported by this version."""

    self_: str = Field(alias="self", description="The job itself.")
    events: str | None = Field(description="Events of the job, as JSON pages or as server-sent events.")
    cancel: str | None = Field(description="POST cancels the job.")
    retry: str | None = Field(description="POST submits the same request again, or with other fields.")
    archive: str | None = Field(description="Signed URL of a zip of all files; null: there are none any more.")
    batch: str | None = Field(description="The batch that the job was created with.")

    @classmethod
    def from_row(cls, row: Job, artifacts: Sequence[Artifact], links: LinkBuilder) -> JobLinks:
        """Return the URLs of a job."""
        is_whole = bool(artifacts) and not any(artifact_expired(artifact, links.now) for artifact in artifacts)
        url, ended = links.job(row.id), row.state.is_terminal
        return cls(
            self_=url,
            events=f"{url}/events",
            cancel=None if ended else f"{url}/cancel",
            retry=f"{url}/retry" if ended else None,
            archive=links.archive(row.id) if is_whole else None,
            batch=links.batch(row.batch_id) if row.batch_id is not None else None,
        )


class AttemptView(View):
    attempt: int = Field(description="Number of the attempt, from 1.")
    worker: str = Field(description="Id of its worker.")
    started_at: Timestamp
    finished_at: Timestamp | None
    outcome: AttemptOutcome | None = Field(
        description="null while it runs; `lost`: its worker's lease expired; `requeued`: its worker was stopped."
    )
    error: ErrorView | None

    @classmethod
    def from_row(cls, row: JobAttempt) -> AttemptView:
        """Return the document of an attempt."""
        return cls(
            attempt=row.attempt,
            worker=row.worker_id,
            started_at=row.started_at,
            finished_at=row.finished_at,
            outcome=row.outcome,
            error=_error(row.error),
        )


class JobView(View):
    id: str
    state: State
    stage: Stage | None = Field(description="Stage of a running job.")
    progress: float = Field(description="Progress of the current attempt, 0 to 1.")
    step: int | None = Field(description="Sampling step of a running job.")
    eta_s: float | None = Field(
        description="Estimated seconds to the end, as of the last progress report; null when not running, or before "
        "the worker has measured this variant."
    )
    queue_position: int | None = Field(
        description="Position among the queued jobs of the variant, from 1; null when not queued, and in lists."
    )
    attempt: int = Field(description="Number of the current or last attempt; 0 before the first.")
    max_attempts: int = Field(description="Number of attempts after which a retryable failure is final.")
    attempts: list[AttemptView] = Field(description="All attempts, first to last.")
    request: dict[str, Any] = Field(description="The request with all defaults filled in.")
    error: ErrorView | None = Field(description="Why the job failed.")
    warnings: list[WarningView]
    timings: dict[str, float] = Field(description="Seconds spent in each part of the job.")
    artifacts: list[ArtifactView] = Field(description="Files that the job made; empty until it succeeds.")
    preview: list[PreviewView] | None = Field(
        description="Waveform and spectrogram of each take; kept as long as the files. null in lists, and until the "
        "job succeeds."
    )
    worker: str | None = Field(description="Id of the worker of the current or last attempt.")
    retry_of: str | None = Field(description="Id of the job that this one retries.")
    batch: str | None = Field(description="Id of the batch that the job was created with.")
    batch_index: int | None = Field(description="Place of its request in the batch, from 0.")
    cancel_requested: bool
    created_at: Timestamp
    started_at: Timestamp | None = Field(description="When the current or last attempt started.")
    finished_at: Timestamp | None
    links: JobLinks

    @classmethod
    def from_row(
        cls,
        row: Job,
        *,
        artifacts: Sequence[Artifact],
        previews: Sequence[Artifact] | None,
        attempts: Sequence[JobAttempt],
        queue_position: int | None,
        links: LinkBuilder,
    ) -> JobView:
        """Return the document of a job."""
        return cls(
            id=row.id,
            state=row.state,
            stage=row.stage,
            progress=round(row.progress, 4),
            step=row.step,
            eta_s=row.eta_s if row.state is State.RUNNING else None,
            queue_position=queue_position,
            attempt=row.attempt,
            max_attempts=row.max_attempts,
            attempts=[AttemptView.from_row(attempt) for attempt in attempts],
            request=row.request,
            error=_error(row.error),
            warnings=[WarningView.model_validate(warning) for warning in row.warnings],
            timings=row.timings,
            artifacts=[ArtifactView.from_row(artifact, links) for artifact in artifacts],
            preview=_previews(previews, links),
            worker=row.worker_id,
            retry_of=row.retry_of,
            batch=row.batch_id,
            batch_index=row.batch_index,
            cancel_requested=row.cancel_requested_at is not None,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            links=JobLinks.from_row(row, artifacts, links),
        )


def _previews(rows: Sequence[Artifact] | None, links: LinkBuilder) -> list[PreviewView] | None:
    if rows is None:
        return None
    return [PreviewView.from_row(row, links) for row in rows if not artifact_expired(row, links.now)]


def _error(stored: dict[str, Any] | None) -> ErrorView | None:
    return ErrorView.model_validate(stored) if stored is not None else None


class PageLinks(View):
    next: str | None = Field(description="URL of the next page; null on the last one.")


class JobPage(View):
    """A page of jobs.

    With `q`, `variant`, `metadata.KEY` or a time, a page ends after 5,000 compared jobs at the latest. So it may have
    fewer jobs than `limit`, even none, while `next_cursor` leads on.
    """

    data: list[JobView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")
    links: PageLinks


class JobCounts(View):
    """How many jobs there are in each state. Deleted jobs are not counted."""

    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    total: int

    @classmethod
    def from_counts(cls, counts: Mapping[State, int]) -> JobCounts:
        """Return the document of the counts of all states."""
        return cls(**{str(state): count for state, count in counts.items()}, total=sum(counts.values()))
