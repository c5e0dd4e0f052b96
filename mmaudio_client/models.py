"""The documents that the API returns, as frozen dataclasses. Fields that a newer server adds stay readable in `raw`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, Self

JobState = Literal["queued", "running", "succeeded", "failed", "canceled"]
TERMINAL_STATES: frozenset[str] = frozenset({"succeeded", "failed", "canceled"})


@dataclass(frozen=True)
class Artifact:
    """A file that a job produced. `url` is None once the file has expired on the server."""

    name: str
    kind: str
    format: str
    url: str | None
    size_bytes: int
    sha256: str
    duration_s: float
    seed: int
    take: int = 0
    delivered_to: str | None = None
    expires_at: datetime | None = None
    expired: bool = False

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**{**_known(cls, document), "expires_at": _time(document.get("expires_at"))})


@dataclass(frozen=True)
class JobRequest:
    """What a job was asked for, as the server resolved it; None: not given."""

    video: str | None = None
    image: str | None = None
    prompt: str = ""
    negative_prompt: str = ""
    variant: str | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    seed: int | None = None
    num_steps: int | None = None
    cfg_strength: float | None = None
    num_samples: int = 1
    mask_away_clip: bool = False
    audio_format: str = "flac"
    channels: int = 1
    sample_rate_hz: int | None = None
    mux: bool | None = None
    original_audio: str = "drop"
    original_gain_db: float | None = None
    duck_db: float | None = None
    audio_files: str = "effect"
    keep_tracks: bool = True
    video_container: str = "auto"
    loudness_lufs: float | None = None
    priority: str = "normal"
    queue_ttl_s: int | None = None
    run_timeout_s: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    deliver_to: str | None = None
    webhook_url: str | None = None
    webhook_events: Sequence[str] | None = None

    @property
    def source(self) -> str | None:
        """The video or the image: an upload id, `s3://bucket/key` or a URL."""
        return self.video or self.image

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**_known(cls, document))


@dataclass(frozen=True)
class JobError:
    """Why a job or an attempt failed. `retryable`: another attempt may succeed."""

    code: str
    message: str
    stage: str | None = None
    retryable: bool = False

    def __str__(self) -> str:
        return self.message

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**_known(cls, document))


@dataclass(frozen=True)
class JobWarning:
    """Something about a result that its user should know."""

    code: str
    message: str

    def __str__(self) -> str:
        return self.message

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**_known(cls, document))


@dataclass(frozen=True)
class Attempt:
    """One attempt of a worker at a job. `outcome` and `finished_at` are None while it runs."""

    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    error: JobError | None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            attempt=document["attempt"],
            worker=document["worker"],
            started_at=datetime.fromisoformat(document["started_at"]),
            finished_at=_time(document.get("finished_at")),
            outcome=document.get("outcome"),
            error=_error(document.get("error")),
        )


@dataclass(frozen=True)
class Job:
    """A job, as of the server's last answer. Times are UTC; `raw` is the whole document."""

    id: str
    state: JobState
    stage: str | None
    progress: float
    step: int | None
    eta_s: float | None
    queue_position: int | None
    attempt: int
    max_attempts: int
    attempts: tuple[Attempt, ...]
    request: JobRequest
    error: JobError | None
    warnings: tuple[JobWarning, ...]
    timings: Mapping[str, float]
    artifacts: tuple[Artifact, ...]
    preview: Mapping[str, Any] | None
    worker: str | None
    retry_of: str | None
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: Mapping[str, str | None]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the job that a document describes.

        Raises:
            KeyError, TypeError, ValueError: the document is not a job.
        """
        converted = {
            "attempts": tuple(Attempt.from_json(item) for item in document["attempts"]),
            "request": JobRequest.from_json(document["request"]),
            "error": _error(document["error"]),
            "warnings": tuple(JobWarning.from_json(item) for item in document["warnings"]),
            "artifacts": tuple(Artifact.from_json(item) for item in document["artifacts"]),
            "created_at": datetime.fromisoformat(document["created_at"]),
            "started_at": _time(document["started_at"]),
            "finished_at": _time(document["finished_at"]),
            "raw": document,
        }
        return cls(**{**_known(cls, document), **converted})

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_STATES

    @property
    def error_message(self) -> str | None:
        return self.error.message if self.error else None

    def link(self, name: str) -> str | None:
        """Return a link of the job (`self`, `cancel`, `retry`); None when its state does not allow that call."""
        return self.links.get(name)


@dataclass(frozen=True)
class Event:
    """A change of a job, or its progress.

    Attributes:
        id: its place in the order of all events, to go on after; None: progress, which is not repeated.
        kind: `queued`, `running`, `stage`, `progress`, `cancel_requested`, `succeeded`, `failed` or `canceled`.
        state: that of the job after it.
        data: what belongs to the kind, such as the `stage`.
    """

    id: int | None
    job_id: str
    kind: str
    state: JobState
    attempt: int
    data: Mapping[str, Any]
    created_at: datetime
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the event that a document describes.

        Raises:
            KeyError, TypeError, ValueError: the document is not an event.
        """
        created_at = datetime.fromisoformat(document["created_at"])
        return cls(**{**_known(cls, document), "created_at": created_at, "raw": document})

    @classmethod
    def of_job(cls, job: Job, kind: str) -> Self:
        """Return what is known of a change where only the job is."""
        data = {"stage": job.stage, "progress": job.progress, "step": job.step, "eta_s": job.eta_s}
        if job.error is not None:
            data["error"] = job.raw["error"]
        return cls(None, job.id, kind, job.state, job.attempt, data, datetime.now(UTC), job.raw)


@dataclass(frozen=True)
class Page:
    """Jobs, newest first, and the link to the next page (None: this is the last page)."""

    jobs: tuple[Job, ...]
    next_link: str | None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(tuple(Job.from_json(item) for item in document["data"]), document["links"]["next"])


def _known(kind: type[Any], document: Mapping[str, Any]) -> dict[str, Any]:
    return {item.name: document[item.name] for item in fields(kind) if item.name in document}


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def _error(document: Mapping[str, Any] | None) -> JobError | None:
    return JobError.from_json(document) if document else None
