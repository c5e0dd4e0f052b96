"""Calls that create jobs: upload, submit, and both with the wait and the download."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import quote

from mmaudio_client.calls.results import ResultCalls
from mmaudio_client.inputs import Source, is_image, is_remote, open_input
from mmaudio_client.models import Job
from mmaudio_client.request_body import check_body, checked_idempotency_key
from mmaudio_client.submit_fields import SubmitFields
from mmaudio_client.upload_progress import Progress
from mmaudio_client.uploads import send_upload


@dataclass(frozen=True)
class Generated:
    """A job that has succeeded, and its saved files: the sounds, then the videos with sound."""

    job: Job
    paths: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The first file: the sound, of several takes that of the first."""
        return self.paths[0]


class SubmissionCalls(ResultCalls):
    """Calls that create jobs."""

    async def generate(
        self,
        source: Source | None = None,
        *,
        image: Source | None = None,
        output: str | os.PathLike[str] = ".",
        name: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        on_upload: Progress | None = None,
        on_download: Progress | None = None,
        **fields: Unpack[SubmitFields],
    ) -> Generated:
        """Create a job, wait until it has succeeded and save its files.

        Args:
            source: a video, or a file or address whose suffix is that of an image; None: the prompt alone.
            image: an image, whatever its suffix is.
            output: folder for the files, created where absent; they are named as `download` does.
            name: what to name the files after instead.
            timeout_s: longest wait for the job's end.
            idempotency_key, on_upload, fields: as `submit`.
            on_download: called with (bytes received, bytes in total) for each file.

        Raises:
            JobFailedError, JobCanceledError: the job did not succeed.
            WaitTimeoutError: it has not ended in time; it continues.
            DownloadError, OSError: a file could not be saved.
            InvalidInputError, InvalidRequestError, UnavailableError: as `submit`.
        """
        video = source
        if image is None and source is not None and is_image(source):
            video, image = None, source
        job = await self.submit(
            video=video, image=image, idempotency_key=idempotency_key, on_upload=on_upload, **fields
        )
        job = await self.wait(job, timeout_s=timeout_s)
        return Generated(job, await self.download(job, output, name=name, on_progress=on_download))

    async def submit(
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
        if body.get("webhook_events") is not None:
            body["webhook_events"] = [*body["webhook_events"]]
        key = checked_idempotency_key(idempotency_key or str(uuid.uuid4()))
        check_body(body)  # before any upload
        for name, source in (("video", video), ("image", image)):
            if source is not None:
                body[name] = source if is_remote(source) else await self.upload(source, on_progress=on_upload)
        headers = {"Idempotency-Key": key}
        answer = await self._transport.call("POST", "/v1/jobs", json=body, headers=headers, again=True)
        return self._parsed(Job, answer)

    async def delete_upload(self, upload_id: str) -> None:
        """Delete an uploaded file that no job needs any more; idempotent.

        Raises:
            ConflictError: a job that has not ended uses it.
            NotFoundError: there is no such upload.
        """
        await self._transport.call("DELETE", f"/v1/uploads/{quote(upload_id, safe='')}", again=True)

    async def upload(
        self,
        source: Source,
        *,
        filename: str | None = None,
        on_progress: Progress | None = None,
        resume: str | None = None,
    ) -> str:
        """Upload a file and return its upload id, which `submit` takes as `video` or `image`.

        Args:
            source: a path, bytes, or a file opened with 'rb', which is sent from its current position on.
            filename: the name to store with it, after which results are named; default: that of the file.
            on_progress: called with (bytes sent, bytes in total).
            resume: the id of an upload of the same file that was interrupted; only what is missing is sent.

        Raises:
            InvalidInputError: the file is missing or empty; nothing was sent.
            UploadInterruptedError: a file of 32 MiB or more was sent in part; `upload_id` goes on with it.
            ApiError, UnavailableError: as `submit`.
        """
        with open_input(source, filename=filename) as opened:
            return await send_upload(self._transport, opened, on_progress, resume=resume)
