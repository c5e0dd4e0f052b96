"""Retries the ended jobs that match a filter: asks page by page until no job is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

import httpx

from mmaudio_client.errors import ApiError
from mmaudio_client.transport import TOO_MANY_REQUESTS, Transport

PATH = "/v1/jobs/retry"
PAGE = 100
BUSY_TRIES = 1
"""A full queue does not empty in some seconds: it ends a bulk retry, which can be repeated."""


@dataclass(frozen=True)
class RetriedJob:
    """An ended job and its retry (None in a dry run)."""

    retry_of: str
    job_id: str | None


@dataclass(frozen=True)
class SkippedJob:
    """An ended job that cannot be retried, and why."""

    job_id: str
    code: str
    message: str


@dataclass(frozen=True)
class BulkRetry:
    """What a bulk retry, or one page of it, did.

    Attributes:
        already_retried: how many matching jobs had been retried before; they are not retried twice.
        stopped: why it ended before the last job, such as a full queue; None: it went through all jobs.
    """

    retried: tuple[RetriedJob, ...] = ()
    skipped: tuple[SkippedJob, ...] = ()
    already_retried: int = 0
    stopped: str | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return what a page's document says.

        Raises:
            KeyError, TypeError, ValueError: the document is not one.
        """
        stopped = document["stopped"]
        return cls(
            tuple(RetriedJob(item["retry_of"], item["id"]) for item in document["retried"]),
            tuple(SkippedJob(item["job"], item["code"], item["message"]) for item in document["skipped"]),
            int(document["counts"]["already_retried"]),
            str(stopped["message"]) if stopped is not None else None,
        )


@dataclass(frozen=True)
class RetryFilter:
    """Which jobs to retry; None: any."""

    state: Literal["failed", "canceled"]
    code: str | None = None
    variant: str | None = None
    created_after: datetime | str | None = None
    created_before: datetime | str | None = None
    metadata: Mapping[str, str] | None = None

    def body(self) -> dict[str, Any]:
        """Return the fields of the request."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in vars(self).items()
            if value is not None
        }


async def retry_matching(
    calls: Transport,
    wanted: RetryFilter,
    *,
    dry_run: bool,
    limit: int | None,
    on_page: Callable[[BulkRetry], None] | None,
) -> BulkRetry:
    """Retry all matching jobs; arguments and errors as `Client.retry_all`."""
    retried: list[RetriedJob] = []
    skipped: list[SkippedJob] = []
    already, cursor = 0, None
    while True:
        left = PAGE if limit is None else min(PAGE, limit - len(retried))
        body = {**wanted.body(), "dry_run": dry_run, "limit": left, **({"cursor": cursor} if cursor else {})}
        try:
            # Sent again after a lost answer, it finds the jobs of that answer retried already.
            answer = await calls.call("POST", PATH, json=body, again=True, busy_tries=BUSY_TRIES)
        except ApiError as exc:
            if exc.status != TOO_MANY_REQUESTS:
                raise
            page, cursor = BulkRetry(stopped=exc.detail), None
        else:
            page, cursor = _parsed(calls, answer)
        retried += page.retried
        skipped += page.skipped
        already += page.already_retried
        if on_page is not None:
            on_page(page)
        if page.stopped is not None or cursor is None or (limit is not None and len(retried) >= limit):
            return BulkRetry(tuple(retried), tuple(skipped), already, page.stopped)


def _parsed(calls: Transport, answer: httpx.Response) -> tuple[BulkRetry, str | None]:
    try:
        document = answer.json()
        return BulkRetry.from_json(document), document["next_cursor"]
    except (KeyError, TypeError, ValueError) as exc:
        raise calls.wrong_document(answer, "a bulk retry") from exc
