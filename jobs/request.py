"""The body of `POST /v1/jobs`, checked field by field.

Checks form and ranges only; `jobs.service.submission` checks what needs the database or the settings (whether the
upload exists, whether the variant is available).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from jobs.data_uris import MAX_DATA_URI_CHARS, check_data_uri, is_data_uri
from jobs.lifecycle import JOB_WEBHOOK_EVENTS
from jobs.outbound.errors import OutboundRefusedError
from jobs.outbound.urls import parse_url
from jobs.s3_urls import DELIVERY_URL, MAX_OBJECT_KEY_BYTES, OBJECT_URL
from jobs.whole_numbers import Whole, whole

UPLOAD_ID = re.compile(r"upl_[0-9a-f]{32}")
MAX_SOURCE_CHARS = 2048
PRESET_REFERENCE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:@(?P<version>[1-9][0-9]{0,8}))?")
MAX_SEED = 2**63 - 1
MAX_NUM_STEPS = 100
MAX_NUM_SAMPLES = 8
METADATA_PAIRS = 16
METADATA_BYTES = 512
SAMPLE_RATES_HZ = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000)
# Formats whose codec does not have all of these rates; the others do.
FORMAT_RATES_HZ: Mapping[str, frozenset[int]] = MappingProxyType(
    {
        "mp3": frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000}),
        "opus": frozenset({48_000}),  # it always plays at 48 kHz
    }
)


class Priority(StrEnum):
    """Priority of a job; jobs of higher priority go first."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """The number in the table: the smallest goes first."""
        return {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}[self]


class FieldAtFaultError(ValueError):
    """Raised by a check of several fields; names the one to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def storable(text: str) -> str:
    """Return `text` if databases and files can store it.

    Raises:
        ValueError: it has a NUL character or half of a surrogate pair.
    """
    if "\x00" in text:  # PostgreSQL text cannot hold it
        raise ValueError("a NUL character is not allowed")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError("half of a surrogate pair is not a character") from exc
    return text


Text = Annotated[str, AfterValidator(storable)]
Prompt = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(storable)]
InputSource = Annotated[str, StringConstraints(min_length=1, max_length=MAX_DATA_URI_CHARS), AfterValidator(storable)]
WebhookName = Literal["started", "progress", "succeeded", "failed", "canceled"]
Source = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SOURCE_CHARS), AfterValidator(storable)]


def is_web_url(source: str) -> bool:
    """Return whether an input is a URL that the worker fetches."""
    return source[:8].lower().startswith(("http://", "https://"))


def _checked_url(value: str) -> str:
    try:
        scheme = parse_url(value).scheme
    except OutboundRefusedError as exc:
        raise ValueError(exc.message) from exc
    if scheme != "https":
        raise ValueError("only https:// URLs are fetched, not http://; or upload the file (POST /v1/uploads)")
    return value


class JobRequest(BaseModel):
    """A request to generate audio. Times are in seconds, gains in dB, loudness in LUFS."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    video: InputSource | None = Field(
        None,
        description="Upload id, `s3://bucket/key`, `https://` URL or `data:` URI (base64, up to 10 MB) of a video. "
        "Without `video` and `image`: text-to-audio. Which buckets and hosts are read is the operator's choice; the "
        "query of a URL, which may have secrets, is not shown with the job.",
    )
    image: InputSource | None = Field(
        None,
        description="Upload id, `s3://bucket/key`, `https://` URL or `data:` URI of a still image (image-to-audio). "
        "Excludes `video`.",
    )
    prompt: Prompt = Field(
        "", description="Describes the sound. CLIP reads 77 tokens; longer text is truncated, with a warning."
    )
    negative_prompt: Prompt = Field("", description="Describes sounds to avoid.")
    variant: str | None = Field(
        None, description="Model variant. Default: the first of `GET /v1/variants`.", min_length=1, max_length=64
    )
    start_s: float = Field(0.0, ge=0, le=86_400, strict=True, description="Start of the used part of the video.")
    duration_s: float | None = Field(
        None,
        gt=0,
        strict=True,
        description="Duration of the audio. Default: to the end of the video, at most the variant's limit; "
        "without a video 8 s.",
    )
    seed: Whole | None = Field(
        None, ge=0, le=MAX_SEED, strict=True, description="Random seed. Default: drawn, and reported with the job."
    )
    num_steps: Whole = Field(25, ge=1, le=MAX_NUM_STEPS, strict=True, description="Number of sampling steps.")
    cfg_strength: float = Field(4.5, ge=0, le=20, strict=True, description="Strength of classifier-free guidance.")
    num_samples: Whole = Field(
        1, ge=1, le=MAX_NUM_SAMPLES, strict=True, description="Number of results, with the seeds seed, seed+1, ..."
    )
    mask_away_clip: bool = Field(
        False, strict=True, description="Ignore what the video shows (CLIP) and use its motion (Synchformer) only."
    )
    audio_format: Literal["flac", "wav", "mp3", "opus", "m4a"] = Field("flac", description="Format of the audio file.")
    channels: Literal[1, 2] = Field(
        1, description="Channels of the generated sound: 1 as the model makes it, or 2 with the same sound in both."
    )
    sample_rate_hz: Literal[16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000] | None = Field(
        None,
        description="Sample rate of the sounds in Hz. mp3 has rates up to 48000, opus has 48000 only. "
        "Default: the model's; of a mix, that of the original sound.",
    )
    mux: bool | None = Field(
        None, strict=True, description="Also return the video with the generated audio. Default: true with a video."
    )
    original_audio: Literal["drop", "mix"] = Field(
        "drop",
        description="What to do with the video's own audio: drop it, or mix the new sound into it. "
        "The mix has the sample rate and the channels of the original.",
    )
    original_gain_db: float | None = Field(
        None, ge=-60, le=20, strict=True, description="Gain of the original audio in the mix. Default: 0."
    )
    loudness_lufs: float | None = Field(
        None,
        ge=-60,
        le=-5,
        strict=True,
        description="Normalise the audio to this loudness (ITU-R BS.1770), of a mix as a whole. Default: unchanged.",
    )
    duck_db: float | None = Field(
        None,
        ge=0,
        le=60,
        strict=True,
        description="Lower the original audio in the mix by this much while the new sound is heard (ducking). "
        "Default: not at all.",
    )
    audio_files: Literal["effect", "mix", "both"] = Field(
        "effect",
        description="Which sound the audio files have: the generated one, its mix with the original audio, or one file "
        "of each. `mix` and `both` need `original_audio: mix`.",
    )
    keep_tracks: bool = Field(
        True,
        strict=True,
        description="Keep the video's other audio tracks, subtitles, chapters, time code and tags in the returned "
        "video, where its container can hold them.",
    )
    video_container: Literal["auto", "mp4", "mov", "mkv", "webm"] = Field(
        "auto", description="Container of the returned video. `auto`: that of the source where the video can be copied."
    )
    priority: Priority = Field(Priority.NORMAL, description="Jobs of higher priority start first.")
    queue_ttl_s: Whole | None = Field(
        None,
        ge=1,
        le=30 * 86_400,
        strict=True,
        description="Fail the job when it has waited this long for a worker. Default: it waits without limit.",
    )
    run_timeout_s: Whole | None = Field(
        None,
        ge=1,
        le=86_400,
        strict=True,
        description="Fail the job when an attempt runs this long. Default: the server's setting.",
    )
    metadata: dict[Text, Text] = Field(
        default_factory=dict, description="Up to 16 string pairs of 512 bytes each, returned unchanged."
    )
    deliver_to: Source | None = Field(
        None,
        description="`s3://bucket/prefix/`: also deliver the files there, as `prefix/JOB_ID/NAME`. "
        "The bucket must be one of the server's output buckets.",
    )
    webhook_url: Source | None = Field(
        None,
        description="http(s) URL that is called (POST, Standard Webhooks) at the events in `webhook_events`. Signed "
        "with the secret of `GET /v1/webhooks/secret`. It must have a public address.",
    )
    webhook_events: list[WebhookName] | None = Field(
        None,
        min_length=1,
        max_length=len(JOB_WEBHOOK_EVENTS),
        description="Which events: `started` (an attempt has begun), `progress` (another stage, at most every 5 s), "
        "`succeeded`, `failed`, `canceled`. Needs `webhook_url`. Default: the last three.",
        json_schema_extra={"uniqueItems": True},
    )
    preset: str | None = Field(
        None,
        pattern=f"^{PRESET_REFERENCE.pattern}$",
        description="`name` or `name@version` of a preset: its fields, where this request does not have them. The job "
        "shows the version.",
    )

    @field_validator("webhook_url")
    @classmethod
    def _callable_url(cls, value: str | None) -> str | None:
        if value is not None:
            # Imported only here: most requests name no URL.
            from jobs.outbound.errors import OutboundRefusedError
            from jobs.outbound.urls import parse_url

            try:
                parse_url(value)
            except OutboundRefusedError as exc:
                raise ValueError(exc.message) from exc
        return value

    @field_validator("webhook_events")
    @classmethod
    def _each_once(cls, value: list[WebhookName] | None) -> list[WebhookName] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("name each event once")
        return value

    @field_validator("channels", "sample_rate_hz", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        if isinstance(value, bool):  # true counts as 1 otherwise
            raise ValueError("give a number")
        return whole(value)

    @field_validator("video", "image")
    @classmethod
    def _known_source(cls, value: str | None) -> str | None:
        if value is None or UPLOAD_ID.fullmatch(value):
            return value
        if is_data_uri(value):
            return check_data_uri(value)
        if len(value) > MAX_SOURCE_CHARS:
            raise ValueError(f"got {len(value)} characters, at most {MAX_SOURCE_CHARS} are allowed")
        if match := OBJECT_URL.fullmatch(value):
            if len(match["key"].encode()) > MAX_OBJECT_KEY_BYTES:
                raise ValueError(f"the key has more than the {MAX_OBJECT_KEY_BYTES} bytes that S3 allows")
            return value
        if is_web_url(value):
            return _checked_url(value)
        raise ValueError("give an upload id (upl_...), s3://bucket/key, an https:// URL or a data: URI")

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
                raise ValueError(f"keys must have 1 to {METADATA_BYTES} bytes, values at most that (key {key[:40]!r})")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.preset is not None:
            return self  # checked once it has the preset's fields
        if self.video is not None and self.image is not None:
            raise FieldAtFaultError("image", "give `video` or `image`, not both")
        if self.video is None and self.mux:
            raise FieldAtFaultError("mux", "`mux` needs a `video`")
        if self.video is None and self.original_audio == "mix":
            raise FieldAtFaultError("original_audio", "`original_audio: mix` needs a `video`")
        if self.video is None and self.start_s:
            raise FieldAtFaultError("start_s", "`start_s` needs a `video`")
        if self.video is None and self.video_container != "auto":
            raise FieldAtFaultError("video_container", "`video_container` needs a `video`")
        if self.video_container != "auto" and self.mux is False:
            raise FieldAtFaultError("video_container", "`mux: false` returns no video; leave `video_container` out")
        if self.webhook_events is not None and self.webhook_url is None:
            raise FieldAtFaultError("webhook_events", "`webhook_events` needs `webhook_url`")
        self._fits_original_audio()
        allowed = FORMAT_RATES_HZ.get(self.audio_format, frozenset(SAMPLE_RATES_HZ))
        if self.sample_rate_hz is not None and self.sample_rate_hz not in allowed:
            rates = ", ".join(str(rate) for rate in sorted(allowed))
            raise FieldAtFaultError(
                "sample_rate_hz", f"got {self.sample_rate_hz}; {self.audio_format} has {rates}; or give another format"
            )
        return self

    def _fits_original_audio(self) -> None:
        if self.original_audio == "mix":
            return
        for name in ("original_gain_db", "duck_db"):
            if getattr(self, name) is not None:
                raise FieldAtFaultError(name, f"`{name}` needs `original_audio: mix`")
        if self.audio_files != "effect":
            raise FieldAtFaultError("audio_files", f"`audio_files: {self.audio_files}` needs `original_audio: mix`")

    @property
    def source(self) -> str | None:
        """The input, if any."""
        return self.video or self.image

    @property
    def source_field(self) -> Literal["video", "image"]:
        """The field that has the input."""
        return "image" if self.image is not None else "video"

    @property
    def wants_mux(self) -> bool:
        """Whether to return the video with the generated audio."""
        return self.video is not None and self.mux is not False


def inbox_request_problem(fields: dict[str, Any], variants: Sequence[str]) -> str | None:
    """Return what is wrong with the request fields for the files of the inbox folder, or None.

    Args:
        variants: those on offer; empty: any.
    """
    for name in ("video", "image"):
        if name in fields:
            return f"{name} is the file itself; remove it"
    try:
        request = JobRequest.model_validate({**fields, "video": f"upl_{0:032x}"})
    except ValidationError as exc:
        first = exc.errors()[0]
        return (
            f"{'.'.join(str(part) for part in first['loc']) or 'fields'}: {first['msg'].removeprefix('Value error, ')}"
        )
    if variants and request.variant not in {None, *variants}:
        return f"the variant {request.variant!r} is not on offer; give one of {', '.join(variants)}"
    return None
