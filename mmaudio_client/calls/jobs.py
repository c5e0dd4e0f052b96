"""Calls about jobs: ask, list, watch, wait, cancel, retry."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

import httpx

from mmaudio_client.bulk_retry import BulkRetry, RetryFilter, retry_matching
from mmaudio_client.errors import JobCanceledError, JobFailedError, UnavailableError
from mmaudio_client.job_ids import find_by_prefix, is_whole, job_id_of, job_path, normalized
from mmaudio_client.models import Job, Page
from mmaudio_client.request_body import checked_idempotency_key
from mmaudio_client.transport import Transport, retry_after_s
from mmaudio_client.waiting import wait_for_end

LATE_ANSWER_S = 5.0
"""How much later than asked for the answer to the last poll of a wait may come."""
MAX_PAGE = 200
SWEEP_PAUSE_S = 0.02
"""Pause per job between two looks at many, so that a large batch does not keep the server busy."""
Filter = str | datetime | Sequence[str]
_Document = TypeVar("_Document", Job, Page)


class JobCalls:
    """Calls about jobs.

    Args:
        timeout_s: longest time for one answer, not counting what a wait adds.
    """

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport, self._timeout_s = transport, timeout_s

    async def get(self, job: Job | str, *, wait_s: float = 0) -> Job:
        """Return a job by its id; with `wait_s` (at most 60), wait until it has ended or the time is up.

        Raises:
            InvalidJobIdError: the id can be none; nothing was sent.
            NotFoundError: there is no job of that id.
        """
        return (await self._get(job, wait_s=wait_s))[0]

    async def resolve_id(self, text: str) -> str:
        """Return the id of the job that `text` means: a whole id, or the beginning of one, with or without `job_`.

        Raises:
            InvalidJobIdError: it is not hexadecimal, or shorter than 4 digits.
            AmbiguousJobIdError, NotFoundError: several jobs begin so, or none does.
        """
        prefix = normalized(text)
        return prefix if is_whole(prefix) else (await find_by_prefix(prefix, self.list(limit=MAX_PAGE))).id

    async def watch(self, job: Job | str, *, every_s: float = 0.5) -> AsyncIterator[Job]:
        """Yield the job's current document every `every_s` seconds; the last one has ended."""
        if not isinstance(job, Job):
            job = await self.get(job)
        while True:
            yield job
            if job.ended:
                return
            await self._transport.driver.sleep(every_s)
            job = (await self._look(job))[0]

    async def watch_all(self, jobs: Iterable[Job], *, every_s: float = 0.5) -> AsyncIterator[Job]:
        """Yield the current documents of several jobs, again and again; each until it has ended."""
        pending = {job.id: job for job in jobs}
        while pending:
            for job in [*pending.values()]:
                current = job if job.ended else (await self._look(job))[0]
                if current.ended:
                    del pending[job.id]
                yield current
            if pending:
                await self._transport.driver.sleep(max(every_s, SWEEP_PAUSE_S * len(pending)))

    async def wait(
        self, job: Job | str, *, timeout_s: float | None = None, clock: Callable[[], float] | None = None
    ) -> Job:
        """Wait until a job has succeeded, and return it. Outages are waited out, and count for `timeout_s`.

        Raises:
            JobFailedError, JobCanceledError: it ended otherwise.
            WaitTimeoutError: it has not ended in time; it continues.
            UnavailableError: the server was away for longer than the patience; the job continues.
        """
        clock = clock or self._transport.clock
        began = clock()
        if not isinstance(job, Job):
            job = await self.get(job)
        job = await wait_for_end(
            self._look,
            job,
            timeout_s=timeout_s,
            began=began,
            patience_s=self._transport.patience_s,
            clock=clock,
            sleep=self._transport.driver.sleep,
        )
        if job.state == "failed":
            raise JobFailedError(job)
        if job.state == "canceled":
            raise JobCanceledError(job)
        return job

    async def cancel(self, job: Job | str) -> Job:
        """Cancel a job; idempotent. A running job stops within one sampling step.

        Raises:
            ConflictError: it has already ended.
        """
        path = job_path(job_id_of(job))
        link = (await self.get(job_id_of(job))).link("cancel") or f"{path}/cancel"
        return self._parsed(Job, await self._transport.call("POST", link, again=True))

    async def retry(
        self,
        job: Job | str,
        *,
        changes: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Run an ended job again, as a new job with the same request and seed.

        Args:
            changes: fields of the request that the new job has otherwise, such as `{"prompt": "rain"}`; None as a
                value: the server's default, of the seed a new one.
            idempotency_key: two retries with one key create one job; default: a random key.

        Raises:
            ConflictError: it has not ended.
            InvalidRequestError: a change is not allowed.
        """
        headers = {"Idempotency-Key": checked_idempotency_key(idempotency_key or str(uuid.uuid4()))}
        path = job_path(job_id_of(job))
        link = (await self.get(job_id_of(job))).link("retry") or f"{path}/retry"
        body = dict(changes) if changes else None
        answer = await self._transport.call("POST", link, json=body, headers=headers, again=True)
        return self._parsed(Job, answer)

    async def retry_all(
        self,
        *,
        state: Literal["failed", "canceled"],
        code: str | None = None,
        variant: str | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        metadata: Mapping[str, str] | None = None,
        dry_run: bool = False,
        limit: int | None = None,
        on_page: Callable[[BulkRetry], None] | None = None,
    ) -> BulkRetry:
        """Run all ended jobs that match again, oldest first, each as a new job with the same request and seed.

        A job that has been retried before is not retried again, so the call may be repeated, also after an error.

        Args:
            code: the error code that they failed with, such as "storage_unavailable".
            created_after, created_before: a time with its zone, or its ISO 8601 text.
            metadata: pairs that the jobs must have.
            dry_run: only tell which jobs would be retried.
            limit: retry at most this many jobs.
            on_page: called with what each request did, up to 100 jobs.

        Returns:
            What was done; `stopped` says why not all jobs were retried, such as a full queue.

        Raises:
            InvalidRequestError: a filter is not allowed.
            UnavailableError: the server was away for longer than the patience; `on_page` told what was done.
        """
        wanted = RetryFilter(state, code, variant, created_after, created_before, metadata)
        return await retry_matching(self._transport, wanted, dry_run=dry_run, limit=limit, on_page=on_page)

    async def list(self, /, *, limit: int = 50, **filters: Filter) -> AsyncIterator[Job]:
        """Yield all jobs, newest first, page by page.

        Args:
            limit: jobs per page, at most 200.
            filters: those of the API, such as `state`, `variant`, `code`, `created_after`, `created_before`,
                `**{"metadata.KEY": "VALUE"}`; several values as a list.
        """
        page = await self.page(limit=limit, **filters)
        while True:
            for job in page.jobs:
                yield job
            if page.next_link is None:
                return
            page = self._parsed(Page, await self._transport.call("GET", page.next_link, again=True))

    async def page(self, /, *, limit: int = 50, **filters: Filter) -> Page:
        """Return the first page of jobs; arguments as `list`."""
        params = {"limit": limit, **{name: filter_text(value) for name, value in filters.items()}}
        return self._parsed(Page, await self._transport.call("GET", "/v1/jobs", params=params, again=True))

    async def counts(self) -> Mapping[str, int]:
        """Return how many jobs are in each state, and `total`; from counters, however many jobs there are."""
        answer = await self._transport.call("GET", "/v1/jobs/counts", again=True)
        self._transport.members(answer, "counts of jobs", "queued", "running", "total")
        counts: Mapping[str, int] = answer.json()
        return counts

    async def delete(self, job: Job | str) -> None:
        """Delete the files of an ended job, and what its row holds; idempotent. Copies in other buckets stay.

        Raises:
            ConflictError: it has not ended; cancel it first.
            NotFoundError: there is no such job.
        """
        await self._transport.call("DELETE", job_path(job_id_of(job)), again=True)

    async def _get(
        self, job: Job | str, *, wait_s: float = 0.0, within_s: float | None = None
    ) -> tuple[Job, float | None]:
        """Return a job, and the pause in seconds that the server asks for before the next call."""
        if isinstance(job, Job):
            self._transport.contact.answered = True  # the job came from there
        params = {"wait": f"{wait_s:g}"} if wait_s else None
        link = (job.link("self") if isinstance(job, Job) else None) or job_path(job_id_of(job))
        late_s = self._timeout_s if within_s is None or within_s > wait_s else min(self._timeout_s, LATE_ANSWER_S)
        answer = await self._transport.call(
            "GET", link, params=params, again=True, timeout_s=wait_s + late_s, within_s=within_s
        )
        return self._parsed(Job, answer), retry_after_s(answer)

    async def _look(self, job: Job, *, wait_s: float = 0.0, within_s: float | None = None) -> tuple[Job, float | None]:
        """As `_get`, for a job that is being followed."""
        try:
            return await self._get(job, wait_s=wait_s, within_s=within_s)
        except UnavailableError as exc:
            raise type(exc)(f"{exc}. Job {job.id} continues.") from exc

    def _parsed(self, kind: type[_Document], answer: httpx.Response) -> _Document:
        try:
            return kind.from_json(answer.json())
        except (KeyError, TypeError, ValueError) as exc:
            raise self._transport.wrong_document(answer, f"a {kind.__name__.lower()}") from exc


def filter_text(value: Filter) -> str:
    """Return a filter as the API takes it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str) else ",".join(value)
