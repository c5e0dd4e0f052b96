"""What may be asked for: the body of `POST /v1/jobs`, checked field by field.

Only shape and ranges are judged here; what needs the database or the settings (does the upload exist, is the variant
offered) is judged by `jobs.service.submission`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

UPLOAD_ID = re.compile(r"upl_[0-9a-f]{32}")
S3_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)", re.DOTALL)
# Where to deliver to: a bucket, or a folder in it, with the slash at the end.
DELIVERY_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<prefix>([^\x00]{1,700}/)?)")
MAX_SEED = 2**63 - 1
MAX_NUM_STEPS = 100
MAX_NUM_SAMPLES = 8
METADATA_PAIRS = 16
METADATA_BYTES = 512


class Priority(StrEnum):
    """How urgent a job is; the number in the table (`rank`) sorts high first."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def rank(self) -> int:
        return {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}[self]


class FieldAtFaultError(ValueError):
    """Raised by a check that looks at several fields; says which one to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def storable(text: str) -> str:
    """Return `text`, or raise ValueError when a database or a file cannot hold it."""
    if "\x00" in text:  # PostgreSQL text cannot hold it
        raise ValueError("a NUL character is not allowed")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("half of a surrogate pair is not a character")
    return text


Text = Annotated[str, AfterValidator(storable)]
Prompt = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(storable)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=2048), AfterValidator(storable)]


class JobRequest(BaseModel):
    """One request for sound. Times in seconds, gains in dB, loudness in LUFS."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    video: Source | None = Field(
        None, description="An upload id or `s3://bucket/key`. Without video and image: text-to-audio."
    )
    image: Source | None = Field(
        None, description="An upload id or `s3://bucket/key` of a still picture (image-to-audio)."
    )
    prompt: Prompt = Field(
        "", description="What it should sound like. CLIP reads 77 tokens; the rest is cut, with a warning."
    )
    negative_prompt: Prompt = Field("", description="What it should not sound like.")
    variant: str | None = Field(
        None, description="Model variant; default: the server's default variant.", min_length=1, max_length=64
    )
    start_s: float = Field(0.0, ge=0, le=86_400, strict=True, description="Where the stretch of the video starts.")
    duration_s: float | None = Field(
        None,
        gt=0,
        strict=True,
        description="Length of the sound. Default: the whole video up to the variant's limit, else 8 s.",
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, strict=True, description="Absent: drawn and reported.")
    num_steps: int = Field(25, ge=1, le=MAX_NUM_STEPS, strict=True, description="Sampling steps.")
    cfg_strength: float = Field(4.5, ge=0, le=20, strict=True, description="Strength of classifier-free guidance.")
    num_samples: int = Field(
        1, ge=1, le=MAX_NUM_SAMPLES, strict=True, description="Takes of the same request, with seeds seed, seed+1, ..."
    )
    mask_away_clip: bool = Field(False, strict=True, description="Use the motion only, not what the picture shows.")
    audio_format: Literal["flac", "wav", "mp3", "opus", "m4a"] = "flac"
    mux: bool | None = Field(
        None, strict=True, description="Also return the video with the new sound. Default: true with a video."
    )
    original_audio: Literal["drop", "mix"] = "drop"
    original_gain_db: float | None = Field(
        None, ge=-60, le=20, strict=True, description="Gain of the original sound in a mix; default 0."
    )
    loudness_lufs: float | None = Field(
        None, ge=-60, le=-5, strict=True, description="Normalise to this loudness (ITU BS.1770)."
    )
    priority: Priority = Priority.NORMAL
    queue_ttl_s: int | None = Field(
        None, ge=1, le=30 * 86_400, strict=True, description="How long it may wait for a worker."
    )
    run_timeout_s: int | None = Field(None, ge=1, le=86_400, strict=True, description="How long one attempt may run.")
    metadata: dict[Text, Text] = Field(
        default_factory=dict, description="Up to 16 string pairs, 512 bytes each; given back as sent."
    )
    deliver_to: Source | None = Field(
        None,
        description="`s3://bucket/prefix/`: also deliver the files there, as `prefix/JOB_ID/NAME`. "
        "The operator must allow the bucket.",
    )
    # Agreed fields whose rooms are not built yet. They are known, so that the refusal can name what is the matter.
    webhook_url: str | None = Field(None, description="Not available yet: refused when given.")
    webhook_events: list[str] | None = Field(None, description="Not available yet: refused when given.")
    preset: str | None = Field(None, description="Not available yet: refused when given.")

    @field_validator("webhook_url", "webhook_events", "preset")
    @classmethod
    def _not_yet(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("this server's version does not offer it yet; leave the field out")
        return value

    @field_validator("video", "image")
    @classmethod
    def _known_source(cls, value: str | None) -> str | None:
        if value is None or UPLOAD_ID.fullmatch(value) or S3_URL.fullmatch(value):
            return value
        if value.startswith(("http://", "https://")):
            raise ValueError("this server fetches no web addresses; upload the file (POST /v1/uploads) and give its id")
        raise ValueError("give an upload id (upl_...) or s3://bucket/key")

    @field_validator("deliver_to")
    @classmethod
    def _known_delivery_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        match = DELIVERY_URL.fullmatch(value)
        if match is None:
            raise ValueError("give s3://bucket/prefix/ (with the slash at the end), or s3://bucket/")
        if any(part in {"", ".", ".."} for part in match["prefix"].split("/")[:-1]):
            raise ValueError("parts of the prefix may not be empty, '.' or '..'")
        return value

    @field_validator("metadata")
    @classmethod
    def _small_metadata(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > METADATA_PAIRS:
            raise ValueError(f"got {len(value)} pairs, at most {METADATA_PAIRS} are allowed")
        for key, text in value.items():
            if not key or len(key.encode()) > METADATA_BYTES or len(text.encode()) > METADATA_BYTES:
                raise ValueError(f"keys and values may have 1 to {METADATA_BYTES} bytes (key {key[:40]!r})")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.video is not None and self.image is not None:
            raise FieldAtFaultError("image", "give `video` or `image`, not both")
        if self.video is None and self.mux:
            raise FieldAtFaultError("mux", "`mux` needs a `video`")
        if self.video is None and self.original_audio == "mix":
            raise FieldAtFaultError("original_audio", "`original_audio: mix` needs a `video`")
        if self.video is None and self.start_s:
            raise FieldAtFaultError("start_s", "`start_s` needs a `video`")
        if self.original_gain_db is not None and self.original_audio != "mix":
            raise FieldAtFaultError("original_gain_db", "`original_gain_db` needs `original_audio: mix`")
        return self

    @property
    def source(self) -> str | None:
        return self.video or self.image

    @property
    def wants_mux(self) -> bool:
        return self.video is not None and self.mux is not False
