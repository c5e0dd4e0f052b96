"""Downloads: each file appears whole and checked under its name, or not at all, and replaces no other file."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

import httpx

from mmaudio_client.errors import DownloadError
from mmaudio_client.models import Artifact, Job
from mmaudio_client.result_names import numbered_names
from mmaudio_client.transport import api_error
from mmaudio_client.uploads import CHUNK_BYTES, Progress


def save_artifacts(
    http: httpx.Client, job: Job, folder: Path, stem: str, on_progress: Progress | None
) -> tuple[Path, ...]:
    """Save all files of a job in `folder`; a file that is there already with the same bytes is not fetched again.

    Raises:
        ApiError: the server refused a download.
        DownloadError: a file has expired, or did not arrive intact.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved: list[Path] = []
    for target, artifact in zip(_choose_targets(folder, stem, job.artifacts), job.artifacts, strict=True):
        if _holds(target, artifact):
            if on_progress is not None:
                on_progress(artifact.size_bytes, artifact.size_bytes)
            saved.append(target)
            continue
        if artifact.url is None:
            raise DownloadError(f"{artifact.name} of job {job.id} has expired on the server.")
        draft = folder / f".{uuid.uuid4().hex}.part"
        try:
            _fetch(http, artifact, draft, on_progress)
            while not _publish(draft, target) and not _holds(target, artifact):  # the name was taken meanwhile
                (target,) = _choose_targets(folder, stem, (artifact,))
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


def _fetch(http: httpx.Client, artifact: Artifact, draft: Path, on_progress: Progress | None) -> None:
    assert artifact.url is not None
    digest, done = hashlib.sha256(), 0
    try:
        with draft.open("wb") as file, http.stream("GET", artifact.url, follow_redirects=True) as answer:
            if not answer.is_success:
                answer.read()
                raise api_error(answer)
            for chunk in answer.iter_bytes(CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                file.write(chunk)
                if on_progress is not None:
                    on_progress(done, artifact.size_bytes)
    except httpx.RequestError as exc:
        raise DownloadError(f"The download of {artifact.name} was interrupted: {exc or type(exc).__name__}.") from exc
    if digest.hexdigest() != artifact.sha256:
        raise DownloadError(
            f"{artifact.name} arrived damaged ({done} of {artifact.size_bytes} bytes); download it again."
        )


def _publish(draft: Path, target: Path) -> bool:
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
