"""Downloads: each file appears whole and checked under its name, or not at all, and replaces no other file."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from io import BufferedRandom
from pathlib import Path

import httpx

from mmaudio_client.errors import DownloadError, UnavailableError
from mmaudio_client.models import Artifact, Job
from mmaudio_client.result_names import numbered_names
from mmaudio_client.transport import PassingError, Transport, api_error
from mmaudio_client.upload_progress import CHUNK_BYTES, Progress

_PART = re.compile(r"bytes (\d+)-")


async def save_artifacts(
    calls: Transport, job: Job, folder: Path, stem: str, on_progress: Progress | None
) -> tuple[Path, ...]:
    """Save all files of a job in `folder`; a file that is there already with the same bytes is not fetched again.

    A download that breaks off goes on where it was as soon as the server answers again.

    Raises:
        ApiError: the server refused a download.
        DownloadError: a file has expired, or did not arrive intact.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved: list[Path] = []
    run = calls.driver.run  # for work that reads whole files
    targets = await run(_choose_targets, folder, stem, job.artifacts)
    for target, artifact in zip(targets, job.artifacts, strict=True):
        if await run(_holds, target, artifact):
            if on_progress is not None:
                on_progress(artifact.size_bytes, artifact.size_bytes)
            saved.append(target)
            continue
        if artifact.url is None:
            raise DownloadError(f"{artifact.name} of job {job.id} has expired on the server.")
        draft = folder / f".{uuid.uuid4().hex}.part"
        try:
            await _fetch(calls, artifact, draft, on_progress)
            # Otherwise the name was taken meanwhile.
            while not publish(draft, target) and not await run(_holds, target, artifact):
                (target,) = await run(_choose_targets, folder, stem, (artifact,))
        finally:
            draft.unlink(missing_ok=True)
        saved.append(target)
    return tuple(saved)


def _choose_targets(folder: Path, stem: str, artifacts: tuple[Artifact, ...]) -> tuple[Path, ...]:
    for names in numbered_names(stem, artifacts):
        targets = tuple(folder / name for name in names)
        if all(
            not os.path.lexists(target) or _holds(target, artifact)
            for target, artifact in zip(targets, artifacts, strict=True)
        ):
            return targets
    raise AssertionError("the names never end")


def _holds(target: Path, artifact: Artifact) -> bool:
    """Return whether a file is this artifact already."""
    try:
        if not target.is_file() or target.stat().st_size != artifact.size_bytes:
            return False
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256
    except OSError:
        return False


async def _fetch(calls: Transport, artifact: Artifact, draft: Path, on_progress: Progress | None) -> None:
    with draft.open("w+b") as file:
        try:
            resumed = await calls.patiently(lambda: _receive(calls, artifact, file, on_progress), again=True)
            # Whatever went wrong in between: once from the start.
            if resumed and not await calls.driver.run(_is_intact, file, artifact):
                file.truncate(0)
                await calls.patiently(lambda: _receive(calls, artifact, file, on_progress), again=True)
        except UnavailableError as exc:
            raise DownloadError(f"The download of {artifact.name} was interrupted: {exc}.") from exc
        if not await calls.driver.run(_is_intact, file, artifact):
            have = file.seek(0, os.SEEK_END)
            raise DownloadError(
                f"{artifact.name} arrived damaged ({have} of {artifact.size_bytes} bytes); download it again."
            )


def _is_intact(file: BufferedRandom, artifact: Artifact) -> bool:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256


async def _receive(calls: Transport, artifact: Artifact, file: BufferedRandom, on_progress: Progress | None) -> bool:
    """Receive what is missing of a file, which keeps what came when the connection breaks.

    Returns:
        Whether some of it had come before.
    """
    assert artifact.url is not None
    have = file.seek(0, os.SEEK_END)
    if have == artifact.size_bytes:  # only the end of the answer was lost
        return True
    if have > artifact.size_bytes:
        have = file.truncate(0)
    # Not compressed on the way: a range would count other bytes.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    async with calls.driver.stream("GET", artifact.url, headers=headers, follow_redirects=True) as answer:
        if not answer.is_success:
            await calls.driver.read(answer)
            if have and answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                file.truncate(0)
                raise PassingError(UnavailableError("the server has fewer bytes than it sent before"))
            raise api_error(calls.present(answer, again=True))
        calls.present(answer, again=True)
        start = _first_byte(answer)
        file.seek(start if start <= have else 0)
        file.truncate()
        async for received in calls.driver.chunks(answer):  # as it comes: a chunk that is being collected would be lost
            for offset in range(0, len(received), CHUNK_BYTES):
                file.write(received[offset : offset + CHUNK_BYTES])
                if on_progress is not None:
                    on_progress(file.tell(), artifact.size_bytes)
        if have < file.tell() < artifact.size_bytes and "Content-Length" not in answer.headers:
            # Only the end of the connection says where such an answer ends.
            raise PassingError(UnavailableError(f"it ended after {file.tell()} of {artifact.size_bytes} bytes"))
    return start > 0


def _first_byte(answer: httpx.Response) -> int:
    """Return which byte of the file an answer begins with."""
    if answer.status_code != httpx.codes.PARTIAL_CONTENT:
        return 0
    match = _PART.match(answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else 0


def publish(draft: Path, target: Path) -> bool:
    """Give a finished file its name, unless that exists; return whether it has it."""
    try:
        os.link(draft, target)
    except FileExistsError:
        return False
    except OSError:  # no hard links here, as on FAT: reserve the name first
        try:
            target.open("xb").close()
        except FileExistsError:
            return False
        draft.replace(target)
    return True
