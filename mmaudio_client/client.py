"""The client: submit, watch, cancel, download. Follows the links of the server's answers and builds none."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx

from mmaudio_client.bulk_retry import BulkRetry, RetryFilter, retry_matching
from mmaudio_client.connection import DEFAULT_URL, open_http
from mmaudio_client.downloads import save_artifacts
from mmaudio_client.errors import (
    DownloadError,
    JobCanceledError,
    JobFailedError,
    NotFoundError,
    UnavailableError,
)
from mmaudio_client.inputs import UNNAMED, UPLOAD_ID, Source, is_remote, open_input
from mmaudio_client.job_ids import find_by_prefix, is_whole, job_id_of, job_path, normalized
from mmaudio_client.models import Job, Page
from mmaudio_client.request_body import check_body, checked_idempotency_key
from mmaudio_client.result_names import stem_of_address, stem_of_filename, stem_of_prompt
from mmaudio_client.submit_fields import SubmitFields
from mmaudio_client.transport import Transport, retry_after_s
from mmaudio_client.triggers import Triggers
from mmaudio_client.uploads import Progress, send_upload
from mmaudio_client.waiting import wait_for_end

LATE_ANSWER_S = 5.0
"""How much later than asked for the answer to the last poll of a wait may come."""
MAX_PAGE = 200
SWEEP_PAUSE_S = 0.02
"""Pause per job between two looks at many, so that a large batch does not keep the server busy."""
_Document = TypeVar("_Document", Job, Page)


class Client:
    """A connection to one platform; a context manager.

    Args:
        base_url: address of the API; default: `MMAUDIO_API_URL`, else http://127.0.0.1:8000.
        api_key: sent as a bearer token to that server, and to no other; default: `MMAUDIO_API_KEY`; "": none.
        timeout_s: longest time for one answer, not counting what a wait adds.
        patience_s: how long each call waits out an outage of the server (a restart, a gateway's 502 to 504, a lost
            connection), with growing pauses; 0: not at all. Default: 180, but only some seconds as long as the server
            has never answered this client, because its address may be wrong.
        wait_for_server: False: raise at once when no connection can be made and the server has never answered.
        on_outage: called with a sentence when an outage begins; default: the sentence is logged as a warning.
        transport: replaces the network in tests.
        sleep, clock: replace waiting and time in tests.

    Raises:
        InvalidAddressError: `base_url` is not an http(s) URL, or ends in `/v1`.
        InvalidKeyError: `api_key` is not printable ASCII.
        ValueError: `patience_s` is out of range.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float | None = None,
        wait_for_server: bool = True,
        on_outage: Callable[[str], None] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if base_url is None:
            base_url = os.environ.get("MMAUDIO_API_URL") or DEFAULT_URL
        if api_key is None:
            api_key = os.environ.get("MMAUDIO_API_KEY")
        self._http = open_http(base_url, api_key=api_key, timeout_s=timeout_s, transport=transport)
        self._calls = Transport(
            self._http,
            sleep=sleep,
            clock=clock,
            patience_s=patience_s,
            wait_for_server=wait_for_server,
            on_outage=on_outage,
        )
        self.triggers = Triggers(self._calls)
        self._sleep, self._clock, self._timeout_s = sleep, clock, timeout_s

    @property
    def base_url(self) -> str:
        return str(self._http.base_url)

    @property
    def on_outage(self) -> Callable[[str], None] | None:
        """What is called with a sentence when an outage begins; None: it is logged as a warning."""
        return self._calls.contact.on_outage

    @on_outage.setter
    def on_outage(self, tell: Callable[[str], None] | None) -> None:
        self._calls.contact.on_outage = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        *,
        video: Source | None = None,
        image: Source | None = None,
        idempotency_key: str | None = None,
        on_upload: Progress | None = None,
        **fields: Unpack[SubmitFields],
    ) -> Job:
        """Create a job and return it as queued; without video and image the prompt alone makes the sound.

        Args:
            video, image: a file, which is uploaded (a path, bytes, or a file opened with 'rb'), or an upload id,
                `s3://bucket/key` or an https URL, which the server fetches.
            idempotency_key: two submissions with one key create one job; default: a random key.
            on_upload: called with (bytes sent, bytes in total).
            fields: the other fields of the request, such as `prompt="rain"`, `seed=7`, `duration_s=4`.

        Raises:
            InvalidInputError: the file is missing or empty, or a text is not valid Unicode; nothing was sent.
            InvalidRequestError: a field is not allowed, or cannot be sent as JSON.
            UnavailableError: the server cannot be reached.
        """
        body: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        if isinstance(body.get("metadata"), Mapping):
            body["metadata"] = dict(body["metadata"])
        key = checked_idempotency_key(idempotency_key or str(uuid.uuid4()))
        check_body(body)  # before any upload
        for name, source in (("video", video), ("image", image)):
            if source is not None:
                body[name] = source if is_remote(source) else self.upload(source, on_progress=on_upload)
        headers = {"Idempotency-Key": key}
        return self._parsed(Job, self._calls.call("POST", "/v1/jobs", json=body, headers=headers, again=True))

    def upload(self, source: Source, *, filename: str | None = None, on_progress: Progress | None = None) -> str:
        """Upload a file and return its upload id, which `submit` takes as `video` or `image`.

        Args:
            source: a path, bytes, or a file opened with 'rb', which is sent from its current position on.
            filename: the name to store with it, after which results are named; default: that of the file.
            on_progress: called with (bytes sent, bytes in total).

        Raises:
            InvalidInputError: the file is missing or empty; nothing was sent.
            ApiError, UnavailableError: as `submit`.
        """
        with open_input(source, filename=filename) as opened:
            return send_upload(self._calls, opened, on_progress)

    def get(self, job: Job | str, *, wait_s: float = 0) -> Job:
        """Return a job by its id; with `wait_s` (at most 60), wait until it has ended or the time is up.

        Raises:
            InvalidJobIdError: the id can be none; nothing was sent.
            NotFoundError: there is no job of that id.
        """
        return self._get(job, wait_s=wait_s)[0]

    def resolve_id(self, text: str) -> str:
        """Return the id of the job that `text` means: a whole id, or the beginning of one, with or without `job_`.

        Raises:
            InvalidJobIdError: it is not hexadecimal, or shorter than 4 digits.
            AmbiguousJobIdError, NotFoundError: several jobs begin so, or none does.
        """
        prefix = normalized(text)
        return prefix if is_whole(prefix) else find_by_prefix(prefix, self.list(limit=MAX_PAGE)).id

    def watch(self, job: Job | str, *, every_s: float = 0.5) -> Iterator[Job]:
        """Yield the job's current document every `every_s` seconds; the last one has ended."""
        if not isinstance(job, Job):
            job = self.get(job)
        while True:
            yield job
            if job.ended:
                return
            self._sleep(every_s)
            job = self._look(job)[0]

    def watch_all(self, jobs: Iterable[Job], *, every_s: float = 0.5) -> Iterator[Job]:
        """Yield the current documents of several jobs, again and again; each until it has ended."""
        pending = {job.id: job for job in jobs}
        while pending:
            for job in [*pending.values()]:
                current = job if job.ended else self._look(job)[0]
                if current.ended:
                    del pending[job.id]
                yield current
            if pending:
                self._sleep(max(every_s, SWEEP_PAUSE_S * len(pending)))

    def wait(self, job: Job | str, *, timeout_s: float | None = None, clock: Callable[[], float] | None = None) -> Job:
        """Wait until a job has succeeded, and return it. Outages are waited out, and count for `timeout_s`.

        Raises:
            JobFailedError, JobCanceledError: it ended otherwise.
            WaitTimeoutError: it has not ended in time; it continues.
            UnavailableError: the server was away for longer than the patience; the job continues.
        """
        clock = clock or self._clock
        began = clock()
        if not isinstance(job, Job):
            job = self.get(job)
        job = wait_for_end(
            self._look,
            job,
            timeout_s=timeout_s,
            began=began,
            patience_s=self._calls.patience_s,
            clock=clock,
            sleep=self._sleep,
        )
        if job.state == "failed":
            raise JobFailedError(job)
        if job.state == "canceled":
            raise JobCanceledError(job)
        return job

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job; idempotent. A running job stops within one sampling step.

        Raises:
            ConflictError: it has already ended.
        """
        path = job_path(job_id_of(job))
        link = self.get(job_id_of(job)).link("cancel") or f"{path}/cancel"
        return self._parsed(Job, self._calls.call("POST", link, again=True))

    def retry(self, job: Job | str, *, idempotency_key: str | None = None) -> Job:
        """Run an ended job again, as a new job with the same request and seed.

        Args:
            idempotency_key: two retries with one key create one job; default: a random key.

        Raises:
            ConflictError: it has not ended.
        """
        headers = {"Idempotency-Key": checked_idempotency_key(idempotency_key or str(uuid.uuid4()))}
        path = job_path(job_id_of(job))
        link = self.get(job_id_of(job)).link("retry") or f"{path}/retry"
        return self._parsed(Job, self._calls.call("POST", link, headers=headers, again=True))

    def retry_all(
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
        return retry_matching(self._calls, wanted, dry_run=dry_run, limit=limit, on_page=on_page)

    def list(self, *, limit: int = 50, **filters: str) -> Iterator[Job]:
        """Yield all jobs, newest first, page by page.

        Args:
            limit: jobs per page, at most 200.
            filters: those of the API: `state`, `variant`, `code`, `created_after`, `created_before`,
                `**{"metadata.KEY": "VALUE"}`.
        """
        page = self.page(limit=limit, **filters)
        while True:
            yield from page.jobs
            if page.next_link is None:
                return
            page = self._parsed(Page, self._calls.call("GET", page.next_link, again=True))

    def page(self, *, limit: int = 50, **filters: str) -> Page:
        """Return the first page of jobs; arguments as `list`."""
        params = {"limit": limit, **filters}
        return self._parsed(Page, self._calls.call("GET", "/v1/jobs", params=params, again=True))

    def download(
        self,
        job: Job | str,
        folder: str | os.PathLike[str] = ".",
        *,
        name: str | None = None,
        on_progress: Progress | None = None,
    ) -> tuple[Path, ...]:
        """Save all files of a job and return their paths; each appears whole and checked, or not at all.

        Files are named after the input: for `walk.mp4` they are `walk.flac` and `walk-sound.mp4`. No file is ever
        replaced: a name that is taken gets a number. A file that is there already with the same bytes is kept.
        A job that had not ended is asked for again first.

        Args:
            folder: created where absent.
            name: what to name the files after instead, such as "walk" or "walk.mp4".
            on_progress: called with (bytes received, bytes in total) for each file.

        Raises:
            DownloadError: the job has no files, one has expired, or it did not arrive intact.
            OSError: a file cannot be written.
        """
        self._calls.check_open()
        if isinstance(job, Job):
            self._calls.contact.answered = True
        if not isinstance(job, Job) or not job.ended:
            job = self.get(job)
        if not job.artifacts:
            raise DownloadError(f"Job {job.id} has no files: it is {job.state}.")
        stem = stem_of_filename(name) if name is not None else ""
        return save_artifacts(self._calls, job, Path(folder), stem or self.result_stem(job), on_progress)

    def result_stem(self, job: Job) -> str:
        """Return what a job's results are named after: its input's file name, else its prompt, else its id."""
        source, stem = job.request.source, ""
        if source is not None and UPLOAD_ID.fullmatch(source):
            try:
                answer = self._calls.call("GET", f"/v1/uploads/{quote(source, safe='')}", again=True)
                filename = str(answer.json()["filename"])
                stem = stem_of_filename(filename) if filename != UNNAMED else ""
            except (NotFoundError, KeyError, TypeError):  # the record of the upload may be gone
                stem = ""
        elif source is not None:
            stem = stem_of_address(source)
        return stem or stem_of_prompt(job.request.prompt) or stem_of_filename(job.id) or "sound"

    def variants(self) -> tuple[Mapping[str, Any], ...]:
        """Return the model variants of the server."""
        answer = self._calls.call("GET", "/v1/variants", again=True)
        return tuple(self._calls.members(answer, "a list of variants", "data")[0])

    def _get(self, job: Job | str, *, wait_s: float = 0.0, within_s: float | None = None) -> tuple[Job, float | None]:
        """Return a job, and the pause in seconds that the server asks for before the next call."""
        if isinstance(job, Job):
            self._calls.contact.answered = True  # the job came from there
        params = {"wait": f"{wait_s:g}"} if wait_s else None
        link = (job.link("self") if isinstance(job, Job) else None) or job_path(job_id_of(job))
        late_s = self._timeout_s if within_s is None or within_s > wait_s else min(self._timeout_s, LATE_ANSWER_S)
        answer = self._calls.call("GET", link, params=params, again=True, timeout_s=wait_s + late_s, within_s=within_s)
        return self._parsed(Job, answer), retry_after_s(answer)

    def _look(self, job: Job, *, wait_s: float = 0.0, within_s: float | None = None) -> tuple[Job, float | None]:
        """As `_get`, for a job that is being followed."""
        try:
            return self._get(job, wait_s=wait_s, within_s=within_s)
        except UnavailableError as exc:
            raise type(exc)(f"{exc}. Job {job.id} continues.") from exc

    def _parsed(self, kind: type[_Document], answer: httpx.Response) -> _Document:
        try:
            return kind.from_json(answer.json())
        except (KeyError, TypeError, ValueError) as exc:
            raise self._calls.wrong_document(answer, f"a {kind.__name__.lower()}") from exc
