"""Downloads of all files of a job in one zip."""

from __future__ import annotations

import uuid
import zipfile
from pathlib import Path

from mmaudio_client.downloads import publish
from mmaudio_client.errors import DownloadError, UnavailableError
from mmaudio_client.models import Job
from mmaudio_client.transport import Transport, api_error
from mmaudio_client.upload_progress import Progress


async def save_archive(calls: Transport, job: Job, folder: Path, stem: str, on_progress: Progress | None) -> Path:
    """Save the zip of a job's files as `stem.zip`, or with a number where that name is taken.

    Raises:
        DownloadError: it has expired, or did not arrive intact.
        OSError: it cannot be written.
    """
    url = job.link("archive")
    if url is None:
        raise DownloadError(f"Job {job.id} has no archive of its files: they have expired, or the server makes none.")
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{uuid.uuid4().hex}.part"
    try:
        try:
            await calls.patiently(lambda: _receive(calls, url, draft, on_progress), again=True)
        except UnavailableError as exc:
            raise DownloadError(f"The download of the archive of {job.id} was interrupted: {exc}.") from exc
        if not await calls.driver.run(_is_intact, draft):
            raise DownloadError(f"The archive of {job.id} arrived damaged; download it again.")
        number = 1
        while not publish(draft, target := folder / (f"{stem}.zip" if number == 1 else f"{stem}-{number}.zip")):
            number += 1
        return target
    finally:
        draft.unlink(missing_ok=True)


async def _receive(calls: Transport, url: str, draft: Path, on_progress: Progress | None) -> None:
    """Receive an archive from its start: it is made while it is sent, and has no ranges."""
    async with calls.driver.stream("GET", url, follow_redirects=True) as answer:
        if not answer.is_success:
            await calls.driver.read(answer)
            raise api_error(calls.present(answer, again=True))
        calls.present(answer, again=True)
        total = int(answer.headers.get("Content-Length", "0"))
        with draft.open("wb") as file:
            async for chunk in calls.driver.chunks(answer):
                file.write(chunk)
                if on_progress is not None:
                    on_progress(file.tell(), max(total, file.tell()))


def _is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
