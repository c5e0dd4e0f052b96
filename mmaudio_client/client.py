"""The client: submit, watch, cancel, download. Follows the links that the server gives and builds none."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self, cast
from urllib.parse import quote

import httpx

from mmaudio_client.errors import (
    DownloadError,
    JobCanceledError,
    JobFailedError,
    UnavailableError,
    WaitTimeoutError,
    WrongServerError,
)
from mmaudio_client.models import Artifact, Job, Page
from mmaudio_client.transport import KeyAuth, Transport, api_error
from mmaudio_client.triggers import Triggers

DEFAULT_URL = "http://127.0.0.1:8000"
CHUNK_BYTES = 256 * 1024
LONG_POLL_S = 30.0
Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all)."""


class Client:
    """Talks to one platform; a context manager.

    Args:
        base_url: where the API is.
        api_key: sent as a bearer token to that server, and to no other.
        timeout_s: for one answer, beside what a wait adds.
        transport: replaces the network in tests.
        sleep: replaces waiting in tests.

    Raises:
        WrongServerError: `base_url` is no http(s) address.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        server = _address(base_url)
        key = (api_key or "").strip()  # a line break at the end of a secret's file is not the key's
        self._http = httpx.Client(
            base_url=server,
            auth=KeyAuth(key, server) if key else None,
            timeout=httpx.Timeout(timeout_s, connect=10),
            transport=transport,
        )
        self._calls = Transport(self._http, sleep=sleep)
        self.triggers = Triggers(self._calls)
        self._sleep, self._timeout_s = sleep, timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(
        self,
        *,
        video: str | Path | None = None,
        image: str | Path | None = None,
        idempotency_key: str | None = None,
        on_upload: Progress | None = None,
        **fields: Any,
    ) -> Job:
        """Ask for a sound; returns the queued job.

        Args:
            video, image: a file (a `Path`), or what the API takes: an upload id or `s3://bucket/key`.
            idempotency_key: drawn when absent, so that a repeated send makes one job.
            fields: the other fields of the request, such as `prompt="rain"`, `seed=7`, `duration_s=4`.

        Raises:
            InvalidRequestError: a field is not allowed.
            UnavailableError: the server could not be reached.
        """
        body = {name: value for name, value in fields.items() if value is not None}
        for name, source in (("video", video), ("image", image)):
            if isinstance(source, Path):
                body[name] = self.upload(source, on_progress=on_upload)
            elif source is not None:
                body[name] = source
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._job(self._calls.call("POST", "/v1/jobs", json=body, headers=headers, again=True))

    def upload(self, path: Path, *, on_progress: Progress | None = None) -> str:
        """Send a file, streamed from the disk, and return its upload id.

        Raises:
            ApiError, UnavailableError: as `submit`.
            OSError: the file cannot be read.
        """
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            announcement = {"filename": path.name, "size_bytes": size, "sha256": digest}
            # Announcing twice leaves an empty upload behind, which expires.
            announced = self._calls.call("POST", "/v1/uploads", json=announcement, again=True).json()
            self._send(file, size, announced["upload"], on_progress)
        return str(announced["id"])

    def _send(self, file: IO[bytes], size: int, how: Mapping[str, Any], on_progress: Progress | None) -> None:
        file.seek(0)
        try:
            if how["method"] == "PUT":
                headers = {**how["headers"], "Content-Length": str(size)}
                answer = self._http.put(how["url"], content=_told(file, size, on_progress), headers=headers)
            else:
                told = cast("IO[bytes]", _TellingFile(file, size, on_progress))
                answer = self._http.post(
                    how["url"], data=dict(how["fields"]), files={"file": told}, follow_redirects=True
                )
        except httpx.RequestError as exc:
            raise UnavailableError(f"The upload was interrupted: {exc or type(exc).__name__}. Try again.") from exc
        if not answer.is_success:
            raise api_error(answer)

    def get(self, job_id: str, *, wait_s: float = 0) -> Job:
        """Return a job; with `wait_s` (at most 60) the server answers when it ends or the time is over.

        Raises:
            NotFoundError: there is none of that id.
        """
        return self._get(_path(job_id), wait_s)

    def _get(self, link: str, wait_s: float) -> Job:
        params = {"wait": f"{wait_s:g}"} if wait_s else None
        answer = self._calls.call("GET", link, params=params, again=True, timeout_s=wait_s + self._timeout_s)
        return self._job(answer)

    def watch(self, job: Job, *, every_s: float = 0.5) -> Iterator[Job]:
        """Give the job again and again until it has ended; the last one given has."""
        while True:
            yield job
            if job.ended:
                return
            self._sleep(every_s)
            job = self._get(job.link("self") or _path(job.id), 0)

    def wait(self, job: Job, *, timeout_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> Job:
        """Return the job when it has succeeded.

        Raises:
            JobFailedError, JobCanceledError: it ended otherwise.
            WaitTimeoutError: it had not ended in time; it goes on.
        """
        deadline = clock() + timeout_s if timeout_s is not None else None
        while not job.ended:
            left = LONG_POLL_S if deadline is None else min(LONG_POLL_S, deadline - clock())
            if left <= 0:
                raise WaitTimeoutError(f"Job {job.id} is still {job.state} after {timeout_s:g} s; it goes on.")
            job = self._get(job.link("self") or _path(job.id), left)
        if job.state == "failed":
            raise JobFailedError(job)
        if job.state == "canceled":
            raise JobCanceledError(job)
        return job

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; idempotent.

        Raises:
            ConflictError: it has ended already.
        """
        job = self.get(job_id)
        return self._job(self._calls.call("POST", job.link("cancel") or f"{_path(job_id)}/cancel", again=True))

    def retry(self, job_id: str) -> Job:
        """Do an ended job again, as a new job.

        Raises:
            ConflictError: it has not ended.
        """
        job = self.get(job_id)
        # Not sent twice: each retry is a new job.
        return self._job(self._calls.call("POST", job.link("retry") or f"{_path(job_id)}/retry", again=False))

    def list(self, *, limit: int = 50, **filters: str) -> Iterator[Job]:
        """Give all jobs, newest first, page by page; filters are those of the API, such as `state="failed"`."""
        page = self.page(limit=limit, **filters)
        while True:
            yield from page.jobs
            if page.next_link is None:
                return
            page = self._page(self._calls.call("GET", page.next_link, again=True))

    def page(self, *, limit: int = 50, **filters: str) -> Page:
        """Return the first page of jobs."""
        return self._page(self._calls.call("GET", "/v1/jobs", params={"limit": limit, **filters}, again=True))

    def download(self, job: Job, folder: Path, *, on_progress: Progress | None = None) -> tuple[Path, ...]:
        """Save all files of a job as `<folder>/<job id>-<name>`; each appears whole and checked, or not at all.

        Raises:
            DownloadError: a file has expired, or its bytes are not what the job says.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(self._download_one(job, artifact, folder, on_progress) for artifact in job.artifacts)

    def _download_one(self, job: Job, artifact: Artifact, folder: Path, on_progress: Progress | None) -> Path:
        if artifact.url is None:
            raise DownloadError(f"{artifact.name} of job {job.id} has expired on the server.")
        # Id and name come from the server: only their last parts are used.
        target = folder / f"{Path(job.id).name}-{Path(artifact.name).name}"
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")  # another download may be under way
        digest, done = hashlib.sha256(), 0
        try:
            with draft.open("wb") as file, self._http.stream("GET", artifact.url, follow_redirects=True) as answer:
                if not answer.is_success:
                    answer.read()
                    raise api_error(answer)
                for chunk in answer.iter_bytes(CHUNK_BYTES):
                    digest.update(chunk)
                    done += len(chunk)
                    file.write(chunk)
                    if on_progress is not None:
                        on_progress(done, artifact.size_bytes)
            if digest.hexdigest() != artifact.sha256:
                raise DownloadError(f"{artifact.name} came damaged ({done} of {artifact.size_bytes} bytes); try again.")
            draft.replace(target)
        except httpx.RequestError as exc:
            raise DownloadError(
                f"The download of {artifact.name} was interrupted: {exc or type(exc).__name__}."
            ) from exc
        finally:
            draft.unlink(missing_ok=True)
        return target

    def variants(self) -> tuple[Mapping[str, Any], ...]:
        """Return the models that may be asked for."""
        return tuple(self._calls.call("GET", "/v1/variants", again=True).json()["data"])

    @staticmethod
    def _job(answer: httpx.Response) -> Job:
        return Job.from_json(answer.json())

    @staticmethod
    def _page(answer: httpx.Response) -> Page:
        document = answer.json()
        return Page(tuple(Job.from_json(item) for item in document["data"]), document["links"]["next"])


def _address(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as exc:
        raise WrongServerError(f"Got the server address {base_url!r}: {exc}.") from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise WrongServerError(f"Got the server address {base_url!r}; give one like {DEFAULT_URL}.")
    return url


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _told(file: IO[bytes], size: int, on_progress: Progress | None) -> Iterator[bytes]:
    done = 0
    while chunk := file.read(CHUNK_BYTES):
        done += len(chunk)
        yield chunk
        if on_progress is not None:
            on_progress(done, size)


class _TellingFile:
    """A file that tells how much of it was read, for a multipart form."""

    def __init__(self, file: IO[bytes], size: int, on_progress: Progress | None) -> None:
        self._file, self._size, self._on_progress = file, size, on_progress
        self.name = "file"

    def read(self, amount: int = -1) -> bytes:
        chunk = self._file.read(amount)
        if self._on_progress is not None:
            self._on_progress(self._file.tell(), self._size)
        return chunk

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()
