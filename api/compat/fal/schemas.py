"""Inputs, parameters and documents of fal's API."""

from __future__ import annotations

from typing import Literal

from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ConfigDict, Field

from api.schemas.responses import OF_SENDER
from api.schemas.view import View
from jobs.compat.fal_request import DEFAULT_DURATION_S, OWNER
from jobs.request import MAX_NUM_STEPS, MAX_SEED, Prompt, Text
from jobs.whole_numbers import Whole

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


class FalTextInput(BaseModel):
    """The input of the hosted model without a video, with its defaults."""

    model_config = ConfigDict(
        **_STRICT, json_schema_extra={"examples": [{"prompt": "rain on a tin roof", "duration": 4}]}
    )

    prompt: Prompt = Field(description="The prompt to generate the audio for.")
    negative_prompt: Prompt = Field("", description="Sounds to avoid.")
    seed: Whole | None = Field(None, ge=0, le=MAX_SEED, strict=True, description="Random seed; none: drawn.")
    num_steps: Whole = Field(25, ge=1, le=MAX_NUM_STEPS, strict=True, description="Number of sampling steps.")
    duration: float = Field(
        DEFAULT_DURATION_S, gt=0, strict=True, description="Duration in seconds; a shorter video's is its own."
    )
    cfg_strength: float = Field(4.5, ge=0, le=20, strict=True, description="Strength of classifier-free guidance.")
    mask_away_clip: bool = Field(False, strict=True, description="Use the video's motion only.")


class FalVideoInput(FalTextInput):
    """The input of the hosted model."""

    model_config = ConfigDict(
        **_STRICT,
        json_schema_extra={"examples": [{"video_url": "https://example.com/dog.mp4", "prompt": "a dog barks"}]},
    )

    prompt: Prompt = Field("", description="The prompt to generate the audio for.")
    video_url: str = Field(
        min_length=1,
        description="Video: the URL of an uploaded file, an upload id, `s3://bucket/key`, an `https://` URL or a "
        "`data:` URI.",
        json_schema_extra={"format": "uri"},
    )


class SubmitQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    fal_webhook: Text | None = Field(None, max_length=2048, description="URL that is called when the request ended.")


class SubmitHeader(BaseModel):
    timeout: str | None = Field(
        None,
        alias="X-Fal-Request-Timeout",
        max_length=40,
        description="Seconds that the request may wait before it starts.",
    )
    priority: str | None = Field(
        None, alias="X-Fal-Queue-Priority", max_length=40, description="`normal` or `low`; `high` is allowed as well."
    )
    idempotency_key: Text | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Repeating a request with the same key and body within 24 h returns the same request.",
    )


class RootAppPath(BaseModel):
    """An app of the owner `fal-ai`."""

    alias: str = Field(max_length=100, description="`mmaudio-v2` or `mmaudio` (the default variant), or a variant.")


class RootRequestPath(RootAppPath):
    request_id: str = Field(max_length=64, description="Id of the request, which is that of its job.")


class AppPath(RootAppPath):
    owner: str = Field(max_length=100, description="Any: this server has its models only.")


class RequestPath(RootRequestPath):
    owner: str = Field(max_length=100, description="Any: this server has its models only.")


def owner_of(path: RootAppPath) -> str:
    """Return the owner of the app that a path names."""
    return path.owner if isinstance(path, AppPath | RequestPath) else OWNER


class StatusQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    logs: Literal["0", "1", "true", "false", "True", "False"] = Field("0", description="Whether to return the log.")

    @property
    def with_logs(self) -> bool:
        """Whether the log is wanted."""
        return self.logs.lower() in {"1", "true"}


class FalLogEntry(View):
    timestamp: str
    level: str
    source: str
    message: str


class FalStatus(View):
    status: Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    queue_position: int | None = Field(None, description="Requests before it; while it is queued.")
    logs: list[FalLogEntry] | None = Field(description="null unless asked for.")
    metrics: dict[str, float] | None = Field(None, description="`inference_time` in seconds, once completed.")
    error: str | None = Field(None, description="Why it has no result.")
    error_type: str | None = Field(None, description="Stable error code.")


class FalSubmitted(View):
    request_id: str
    gateway_request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    status: Literal["IN_QUEUE"]
    queue_position: int


class FalFile(View):
    url: str = Field(description="Signed URL of the content.")
    content_type: str
    file_name: str
    file_size: int


class FalResult(View):
    """The video with its sound, or the sound."""

    video: FalFile | None = None
    audio: FalFile | None = None


class FalCancel(View):
    status: Literal["CANCELLATION_REQUESTED", "ALREADY_COMPLETED"]


class FalFieldFault(View):
    loc: list[str | int]
    msg: str
    type: str


class FalFault(View):
    """An error. `detail` is a list where fields of the input are at fault."""

    detail: str | list[FalFieldFault]
    error_type: str = Field(description="Stable error code.")


class FalNewUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file_name: Text = Field("upload.bin", max_length=255, description="Name of the file.")
    content_type: Text = Field("application/octet-stream", max_length=120, description="Media type of the file.")


class StorageQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    storage_type: str | None = Field(None, max_length=40, description="Accepted for clients that send it.")


class FalNoFields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FalUploadTarget(View):
    upload_url: str = Field(description="Where to PUT the content.")
    file_url: str = Field(description="Names the file in an input.")


class FalUploadToken(View):
    token: str
    token_type: str
    base_url: str
    expires_at: str


class FalStoredFile(View):
    access_url: str = Field(description="Names the file in an input.")


class UploadPath(BaseModel):
    upload_id: str = Field(max_length=64, description="Id of the upload.")


def faults(*statuses: int) -> ResponseDict:
    """Return the error responses of a call for the OpenAPI document."""
    return {str(status): FalFault for status in sorted({*statuses, *OF_SENDER})}
