"""The body and the answer of `POST /v1/jobs/retry`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api.schemas.jobs import ERROR_CODE
from api.schemas.parameters import page_cursor
from api.schemas.times import Rfc3339Time, in_utc
from api.schemas.view import View
from jobs.lifecycle import State
from jobs.request import METADATA_PAIRS, FieldAtFaultError, Text, storable
from jobs.service.bulk_retry import RETRY_PLACE, RetryPage
from jobs.service.queries import JobFilter
from jobs.whole_numbers import Whole

Variant = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(storable)]


class BulkRetryBody(BaseModel):
    """Which ended jobs to retry; all conditions must hold."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"state": "failed", "code": "storage_unavailable", "limit": 100}},
    )

    state: Literal["failed", "canceled"] = Field(description="Only jobs that ended so.")
    code: str | None = Field(
        None,
        pattern=ERROR_CODE,
        description="Only jobs that failed with this error code, such as `storage_unavailable`.",
    )
    variant: Variant | None = Field(None, description="Only jobs of this model variant.")
    created_after: Rfc3339Time | None = Field(None, description="Only jobs created after this time.")
    created_before: Rfc3339Time | None = Field(None, description="Only jobs created before this time.")
    metadata: dict[Text, Text] = Field(
        default_factory=dict, max_length=METADATA_PAIRS, description="Only jobs with these metadata pairs."
    )
    limit: Whole = Field(
        100, ge=1, le=200, strict=True, description="Maximum number of matching jobs that this request deals with."
    )
    cursor: str | None = page_cursor(RETRY_PLACE, "`next_cursor` of the previous answer.")
    dry_run: bool = Field(False, strict=True, description="Only tell what would be done.")

    _in_utc = in_utc("created_after", "created_before")

    @model_validator(mode="after")
    def _code_of_a_failure(self) -> Self:
        if self.code is not None and self.state != "failed":
            raise FieldAtFaultError("code", "only failed jobs have an error code; leave it out or give state `failed`")
        return self

    @property
    def wanted(self) -> JobFilter:
        """The conditions."""
        return JobFilter(
            State(self.state),
            self.variant,
            self.created_after,
            tuple(self.metadata.items()),
            self.code,
            self.created_before,
        )


class RetriedView(View):
    retry_of: str = Field(description="Id of the ended job.")
    id: str | None = Field(description="Id of the new job; null in a dry run.")


class SkippedView(View):
    job: str = Field(description="Id of the ended job.")
    code: str = Field(description="Stable error code.")
    message: str = Field(description="Why it cannot be retried, such as an upload that has expired.")


class StoppedView(View):
    code: str = Field(description="Stable error code: `queue_full`.")
    message: str = Field(description="Why the other jobs were not retried.")


class BulkRetryCounts(View):
    matched: int = Field(description="Matching jobs that this request dealt with: the sum of the others.")
    retried: int = Field(description="Jobs that were retried now; in a dry run: that would be.")
    already_retried: int = Field(description="Jobs that had been retried before; they are not retried twice.")
    skipped: int = Field(description="Jobs that cannot be retried.")


class BulkRetryView(View):
    """What one request did. As long as `next_cursor` is not null, more jobs may match."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "dry_run": False,
                "counts": {"matched": 3, "retried": 1, "already_retried": 1, "skipped": 1},
                "retried": [
                    {
                        "retry_of": "job_0198c0de6f0a7c3e8a4b5c6d7e8f9a0b",
                        "id": "job_0198c0df1b2c7d4e9f5a6b7c8d9e0f1a",
                    }
                ],
                "skipped": [
                    {
                        "job": "job_0198c0de6f0a7c3e8a4b5c6d7e8f9a0c",
                        "code": "invalid_request",
                        "message": "video: upload upl_0198c0de6f0a7c3e8a4b5c6d7e8f9a0d has expired; "
                        "upload the file again",
                    }
                ],
                "stopped": None,
                "next_cursor": None,
            }
        }
    )

    dry_run: bool = Field(description="Whether nothing was written.")
    counts: BulkRetryCounts
    retried: list[RetriedView]
    skipped: list[SkippedView]
    stopped: StoppedView | None = Field(
        description="Why it ended before the end of its page; null otherwise. `next_cursor` leads to what is left."
    )
    next_cursor: str | None = Field(description="`cursor` of the next request; null: no job is left.")

    @classmethod
    def from_page(cls, page: RetryPage, *, dry_run: bool) -> BulkRetryView:
        """Return the document of what a page did."""
        retried, skipped = len(page.retried), len(page.skipped)
        stopped = page.stopped
        return cls(
            dry_run=dry_run,
            counts=BulkRetryCounts(
                matched=retried + page.already_retried + skipped,
                retried=retried,
                already_retried=page.already_retried,
                skipped=skipped,
            ),
            retried=[RetriedView(retry_of=one.retry_of, id=one.job_id) for one in page.retried],
            skipped=[
                SkippedView(job=one.job_id, code=one.error.code, message=one.error.message) for one in page.skipped
            ],
            stopped=StoppedView(code=stopped.code, message=stopped.message) if stopped is not None else None,
            next_cursor=page.next_cursor,
        )
