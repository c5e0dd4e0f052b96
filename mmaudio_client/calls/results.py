"""Calls that save what a job made."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from mmaudio_client.archives import save_archive
from mmaudio_client.calls.jobs import JobCalls
from mmaudio_client.downloads import save_artifacts
from mmaudio_client.errors import DownloadError, NotFoundError
from mmaudio_client.inputs import UNNAMED, UPLOAD_ID
from mmaudio_client.models import Job
from mmaudio_client.result_names import stem_of_address, stem_of_filename, stem_of_prompt
from mmaudio_client.upload_progress import Progress


class ResultCalls(JobCalls):
    """Calls that save the files of jobs."""

    async def download(
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
        self._transport.check_open()
        if isinstance(job, Job):
            self._transport.contact.answered = True
        if not isinstance(job, Job) or not job.ended:
            job = await self.get(job)
        if not job.artifacts:
            raise DownloadError(f"Job {job.id} has no files: it is {job.state}.")
        stem = stem_of_filename(name) if name is not None else ""
        return await save_artifacts(
            self._transport, job, Path(folder), stem or await self.result_stem(job), on_progress
        )

    async def download_archive(
        self,
        job: Job | str,
        folder: str | os.PathLike[str] = ".",
        *,
        name: str | None = None,
        on_progress: Progress | None = None,
    ) -> Path:
        """Save all files of a job as one zip and return its path; it appears whole and checked, or not at all.

        Arguments and names as `download`: for `walk.mp4` it is `walk.zip`.

        Raises:
            DownloadError: the job has no files, one has expired, or the zip did not arrive intact.
            OSError: it cannot be written.
        """
        job = await self.get(job)  # its link is signed, and expires
        if not job.artifacts:
            raise DownloadError(f"Job {job.id} has no files: it is {job.state}.")
        stem = stem_of_filename(name) if name is not None else ""
        return await save_archive(self._transport, job, Path(folder), stem or await self.result_stem(job), on_progress)

    async def result_stem(self, job: Job) -> str:
        """Return what a job's results are named after: its input's file name, else its prompt, else its id."""
        source, stem = job.request.source, ""
        if source is not None and UPLOAD_ID.fullmatch(source):
            try:
                answer = await self._transport.call("GET", f"/v1/uploads/{quote(source, safe='')}", again=True)
                filename = str(answer.json()["filename"])
                stem = stem_of_filename(filename) if filename != UNNAMED else ""
            except (NotFoundError, KeyError, TypeError):  # the record of the upload may be gone
                stem = ""
        elif source is not None:
            stem = stem_of_address(source)
        return stem or stem_of_prompt(job.request.prompt) or stem_of_filename(job.id) or "sound"
