"""Download a published file from the hub, into a weights folder or into the hub's cache.

A partial download is kept in `<name>.part` and a later attempt resumes it; the hub's own client deletes it when it
fails. A file gets its name only when it is complete and its checksum is the published one.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from mmaudio_model.checkpoints.files import cached_path
from mmaudio_model.checkpoints.published import PublishedFile
from mmaudio_model.checkpoints.verify import FileState, verify_file
from mmaudio_model.errors import WeightsDownloadError

ATTEMPTS = 5
"""In a row, without a byte received."""
PAUSE_S = 1.0
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 20


def fetch_file(file: PublishedFile, weights_dir: Path | None, *, on_bytes: Callable[[int], None] | None = None) -> Path:
    """Download a file into a weights folder, or without one into the hub's cache; return its path.

    Args:
        on_bytes: called with the number of bytes received so far.

    Raises:
        WeightsDownloadError: the file cannot be downloaded, does not fit on the disk, or has another checksum.
    """
    from filelock import FileLock, Timeout
    from huggingface_hub import constants

    target = cached_path(file) if weights_dir is None else weights_dir / file.path
    if constants.HF_HUB_OFFLINE:
        raise WeightsDownloadError(
            f"{file.path} cannot be fetched while HF_HUB_OFFLINE is set. Unset it and fetch again."
        )
    lock = FileLock(target.with_name(f"{target.name}.lock"), timeout=0)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            try:
                _fetch(file, target, on_bytes or (lambda _: None))
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as exc:
        raise WeightsDownloadError(f"{file.path} is being fetched by another process. Wait until it ends.") from exc
    except OSError as exc:
        if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise WeightsDownloadError(f"{file.path} cannot be written to {target.parent}: {exc}.") from exc
        raise WeightsDownloadError(
            f"{file.path} needs {file.size_bytes / 1e9:.1f} GB, and there is not enough space in "
            f"{target.parent}. Free some space and fetch again; the download is resumed."
        ) from exc
    return target


def _fetch(file: PublishedFile, target: Path, on_bytes: Callable[[int], None]) -> None:
    part = target.with_name(f"{target.name}.part")
    if shutil.disk_usage(target.parent).free < file.size_bytes - _size(part):
        raise OSError(errno.ENOSPC, "not enough space")
    failures = 0
    while True:
        before = _size(part)
        try:
            _append(file, part, on_bytes)
            break
        except (httpx.HTTPStatusError, httpx.TransportError) as exc:
            failures = 1 if _size(part) > before else failures + 1
            if _is_refusal(exc) or failures >= ATTEMPTS:
                raise WeightsDownloadError(
                    f"{file.path} could not be fetched from {file.repository}: {_reason(exc)}. Fetch again to resume."
                ) from exc
            time.sleep(PAUSE_S)
    if verify_file(file, part).state is not FileState.OK:
        part.unlink()
        raise WeightsDownloadError(
            f"{file.path} was fetched from {file.repository}, but its checksum is not the published one; it was "
            f"deleted. Fetch again."
        )
    part.replace(target)


def _append(file: PublishedFile, part: Path, on_bytes: Callable[[int], None]) -> None:
    """Append the missing bytes of a file, or write it from the start if the server ignores ranges."""
    from huggingface_hub import constants, get_token

    url = constants.HUGGINGFACE_CO_URL_TEMPLATE.format(
        repo_id=file.repository, revision=file.revision, filename=file.path_on_hub
    )
    there = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    if token := get_token():
        headers["Authorization"] = f"Bearer {token}"
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT_S) as response:
        if there and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # probably complete: the checksum decides
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        with part.open("ab" if resumed else "wb") as stream:
            for chunk in response.iter_bytes(CHUNK_BYTES):
                stream.write(chunk)
                on_bytes(stream.tell())


def _is_refusal(exc: httpx.HTTPStatusError | httpx.TransportError) -> bool:
    """Return whether another attempt cannot succeed."""
    temporary = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}
    return (
        isinstance(exc, httpx.HTTPStatusError)
        and exc.response.is_client_error
        and (exc.response.status_code not in temporary)
    )


def _reason(exc: httpx.HTTPStatusError | httpx.TransportError) -> str:
    if isinstance(exc, httpx.HTTPStatusError):
        return f"the hub answered {exc.response.status_code} {exc.response.reason_phrase}"
    return str(exc).rstrip(".") or type(exc).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
