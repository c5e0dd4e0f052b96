"""Bodies, parameters and documents of Replicate's HTTP API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.parameters import page_cursor
from api.schemas.times import Rfc3339Time, in_utc
from api.schemas.view import View
from jobs.compat.pages import PREDICTION_PLACE
from jobs.compat.replicate_prediction import DEFAULT_DURATION_S, DEFAULT_NEGATIVE_PROMPT, RANDOM_SEED
from jobs.request import MAX_NUM_STEPS, MAX_SEED, Prompt, Text
from jobs.whole_numbers import Whole

WebhookFilter = Literal["start", "output", "logs", "completed"]
_SOURCE = "the URL of a file sent to `/v1/files`, an upload id, `s3://bucket/key`, an `https://` URL or a `data:` URI"


class PredictionInput(BaseModel):
    """The input of the hosted model, with its defaults."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: Prompt = Field("", description="Text prompt for the generated audio.")
    negative_prompt: Prompt = Field(DEFAULT_NEGATIVE_PROMPT, description="Sounds to avoid.")
    video: str | None = Field(
        None, min_length=1, description=f"Video for video-to-audio: {_SOURCE}.", json_schema_extra={"format": "uri"}
    )
    image: str | None = Field(
        None, min_length=1, description=f"Image for image-to-audio: {_SOURCE}.", json_schema_extra={"format": "uri"}
    )
    duration: float = Field(
        DEFAULT_DURATION_S,
        gt=0,
        strict=True,
        description="Duration of the output in seconds; a shorter video's is its own.",
    )
    num_steps: Whole = Field(25, ge=1, le=MAX_NUM_STEPS, strict=True, description="Number of sampling steps.")
    cfg_strength: float = Field(4.5, ge=0, le=20, strict=True, description="Strength of classifier-free guidance.")
    seed: Whole | None = Field(
        None, ge=RANDOM_SEED, le=MAX_SEED, strict=True, description="Random seed; -1 or none: drawn."
    )


class NewPrediction(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"input": {"video": "https://example.com/dog.mp4", "prompt": "a dog barks"}}]},
    )

    input: PredictionInput = Field(description="Input of the model.")
    webhook: Text | None = Field(None, max_length=2048, description="URL that is called with the prediction.")
    webhook_events_filter: list[WebhookFilter] | None = Field(
        None, max_length=4, description="When `webhook` is called. Default: `output` and `completed`."
    )
    webhook_completed: Text | None = Field(
        None, max_length=2048, description="Older form of `webhook` with the filter `completed`."
    )
    stream: bool | None = Field(
        None, strict=True, description="Accepted for clients that send it: every prediction has a stream."
    )


class NewVersionPrediction(NewPrediction):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"version": "large_44k_v2", "input": {"prompt": "rain on a tin roof", "duration": 4}}]
        },
    )

    version: Text = Field(
        min_length=1,
        max_length=200,
        description="A variant, or the id of a version of the hosted model, which stands for the default variant.",
    )


class PredictionHeader(BaseModel):
    prefer: str | None = Field(
        None,
        alias="Prefer",
        max_length=200,
        description="`wait` or `wait=SECONDS` (up to 60): answer when the prediction has ended or the time is up.",
    )
    idempotency_key: Text | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Repeating a request with the same key and body within 24 h returns the same prediction.",
    )


class PredictionPath(BaseModel):
    prediction_id: str = Field(max_length=64, description="Id of the prediction, which is that of its job.")


class ModelPath(BaseModel):
    owner: str = Field(max_length=100, description="Any: this server has its models only.")
    name: str = Field(max_length=100, description="A variant, `mmaudio` or `mmaudio-v2` (the default variant).")


class VersionPath(ModelPath):
    version_id: str = Field(max_length=200, description="A variant, or the id of a version of the hosted model.")


class PredictionsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: str | None = page_cursor(PREDICTION_PLACE, "From `next` or `previous` of a page.")
    created_after: Rfc3339Time | None = Field(None, description="Only predictions created at this time or later.")
    created_before: Rfc3339Time | None = Field(None, description="Only predictions created before this time.")

    _in_utc = in_utc("created_after", "created_before")


class PredictionView(View):
    id: str
    model: str = Field(description="`mmaudio/VARIANT`.")
    version: str = Field(description="The variant.")
    input: dict[str, Any]
    logs: str = Field(description="Lines of text, with the progress of the sampling.")
    output: str | None = Field(
        description="Signed URL of the video with its sound, or of the sound; null before the end, and when expired."
    )
    data_removed: bool = Field(description="Whether the output has expired.")
    error: str | None
    source: str
    status: Literal["starting", "processing", "succeeded", "failed", "canceled"] = Field(
        description="`starting` also while a call with `Prefer: wait` did not see the end: clients go on to ask."
    )
    created_at: str
    started_at: str | None
    completed_at: str | None
    urls: dict[str, str] = Field(description="`get`, `cancel` and `stream`.")
    metrics: dict[str, float] = Field(description="Seconds: `predict_time` of the last attempt, `total_time`.")


class PredictionPage(View):
    previous: str | None = Field(description="URL of the page before; null on the first.")
    next: str | None = Field(description="URL of the next page; null on the last.")
    results: list[PredictionView]


class ReplicateVersion(View):
    id: str
    created_at: str
    cog_version: str
    openapi_schema: dict[str, Any]


class ReplicateVersionPage(View):
    previous: str | None
    next: str | None
    results: list[ReplicateVersion]


class ReplicateModel(View):
    url: str
    owner: str
    name: str
    description: str
    visibility: Literal["private"]
    github_url: str | None
    paper_url: str | None
    license_url: str | None
    run_count: int
    cover_image_url: str | None
    default_example: PredictionView | None
    latest_version: ReplicateVersion


class ReplicateModelPage(View):
    previous: str | None
    next: str | None
    results: list[ReplicateModel]


class ReplicateAccount(View):
    type: Literal["organization"]
    username: str
    name: str
    github_url: str | None


class FilePath(BaseModel):
    file_id: str = Field(max_length=64, description="Id of the file, which is that of its upload.")


class ReplicateFile(View):
    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: dict[str, str] = Field(description="`sha256`, where it is known.")
    metadata: dict[str, Any]
    created_at: str
    expires_at: str | None
    urls: dict[str, str] = Field(description="`get`: names the file in an input.")


class ReplicateFilePage(View):
    previous: str | None
    next: str | None
    results: list[ReplicateFile]


class ReplicateWebhookSecret(View):
    key: str = Field(description="Signs webhooks (Standard Webhooks); begins with `whsec_`.")
