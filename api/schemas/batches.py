"""Batches: the body and its other forms, the answer, the parameters of the calls."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.links import LinkBuilder
from api.schemas.parameters import page_cursor
from api.schemas.view import Timestamp, View
from jobs.db.batch_tables import Batch
from jobs.lifecycle import State
from jobs.request import METADATA_PAIRS, Text
from jobs.service.batches import BATCH_ID, MAX_REQUESTS, BatchSummary

WebhookUrl = Text
JSON_LINES = ("application/x-ndjson", "application/jsonl")
_EXAMPLE = [{"prompt": "rain", "metadata": {"clip": "1"}}, {"prompt": "wind", "metadata": {"clip": "2"}}]


class BatchPath(BaseModel):
    batch_id: str = Field(max_length=64, description="Id of the batch.")


class BatchOptions(BaseModel):
    """What a batch has beside its requests."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = Field(None, min_length=1, max_length=120, description="Display name; need not be unique.")
    webhook_url: Text | None = Field(
        None,
        max_length=2048,
        pattern="^https?://",
        description="Called once, when all jobs of the batch have ended.",
    )


class BatchBody(BatchOptions):
    requests: list[Any] = Field(min_length=1, max_length=MAX_REQUESTS, description="Requests as in `POST /v1/jobs`.")
    metadata: dict[Text, Text] = Field(
        default_factory=dict, max_length=METADATA_PAIRS, description="String pairs of the batch, returned unchanged."
    )


class ListBatchesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: str | None = page_cursor(BATCH_ID)
    limit: int = Field(20, ge=1, le=50, description="Maximum number of batches on the page.")


class BatchCounts(View):
    """How many jobs of the batch are in each state."""

    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


class BatchLinks(View):
    self_: str = Field(alias="self", description="The batch itself.")
    jobs: str = Field(description="Its jobs.")
    cancel: str | None = Field(description="POST cancels its jobs; null: all have ended.")


class BatchView(View):
    id: str
    name: str | None
    state: Literal["active", "finished"] = Field(description="`finished`: all its jobs have ended.")
    total: int = Field(description="Number of its jobs.")
    counts: BatchCounts
    progress: float = Field(description="Progress of all its jobs, 0 to 1.")
    cancel_requested: bool
    metadata: dict[str, str]
    webhook_url: str | None
    created_at: Timestamp
    finished_at: Timestamp | None = Field(description="When its last job ended.")
    links: BatchLinks

    @classmethod
    def from_summary(cls, summary: BatchSummary, links: LinkBuilder) -> BatchView:
        """Return the document of a batch."""
        batch: Batch = summary.batch
        url, ended = links.batch(batch.id), summary.finished_at is not None
        return cls(
            id=batch.id,
            name=batch.name,
            state="finished" if ended else "active",
            total=batch.job_count,
            counts=BatchCounts(**{str(state): summary.counts[state] for state in State}),
            progress=round(summary.progress, 4),
            cancel_requested=batch.cancel_requested_at is not None,
            metadata=batch.labels,
            webhook_url=batch.webhook_url,
            created_at=batch.created_at,
            finished_at=summary.finished_at,
            links=BatchLinks(
                self_=url, jobs=links.jobs_page(f"batch={batch.id}"), cancel=None if ended else f"{url}/cancel"
            ),
        )


class BatchPageLinks(View):
    next: str | None = Field(description="URL of the next page; null on the last one.")


class BatchPage(View):
    data: list[BatchView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")
    links: BatchPageLinks


_REQUEST = {"$ref": "#/components/schemas/JobRequest"}
_REQUESTS = {"type": "array", "minItems": 1, "maxItems": MAX_REQUESTS, "items": _REQUEST}


def _object_schema() -> dict[str, Any]:
    schema = BatchBody.model_json_schema()
    schema["properties"]["requests"] = {**_REQUESTS, "description": "Requests as in `POST /v1/jobs`."}
    return schema


BATCH_BODY: dict[str, Any] = {
    "required": True,
    "description": f"Up to {MAX_REQUESTS} requests: in an object, as an array, or one a line.",
    "content": {
        "application/json": {
            "schema": {"oneOf": [_object_schema(), _REQUESTS]},
            "example": {"name": "tonight", "requests": _EXAMPLE},
        },
        **{
            kind: {"schema": {"type": "string"}, "example": '{"prompt": "rain"}\n{"prompt": "wind"}\n'}
            for kind in JSON_LINES
        },
    },
}
