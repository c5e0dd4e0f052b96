"""Uploads: announce a file, then send its bytes the way the server says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, cast
from urllib.parse import quote

from mmaudio_client.errors import InvalidRequestError, UnavailableError
from mmaudio_client.inputs import OpenInput
from mmaudio_client.resumable_uploads import LEAST_BYTES, refuses_resumable, send_parts
from mmaudio_client.transport import Transport, api_error
from mmaudio_client.upload_progress import CHUNK_BYTES, Progress

PATH = "/v1/uploads"
COMPLETE = "upload_complete"
"""The server's code for content that it has already."""


async def send_upload(
    calls: Transport, opened: OpenInput, on_progress: Progress | None, *, resume: str | None = None
) -> str:
    """Upload a file and return its upload id; a large one in parts, where the server takes parts.

    Args:
        resume: id of an upload of the same file in parts, which was interrupted.

    Raises:
        ApiError: the server or the object store refused it.
        UploadInterruptedError: the server cannot be reached, or the connection broke for too long.
    """
    if resume is not None:
        await send_parts(calls, resume, opened, on_progress)
        return resume
    digest = await calls.driver.run(_sha256, opened)
    announcement = {"filename": opened.filename, "size_bytes": opened.size_bytes, "sha256": digest}
    if opened.size_bytes >= LEAST_BYTES:
        upload_id = await _announce_parts(calls, announcement)
        if upload_id is not None:
            await send_parts(calls, upload_id, opened, on_progress)
            return upload_id
    # A second announcement leaves an empty upload behind, which expires.
    answer = await calls.call("POST", PATH, json=announcement, again=True)
    upload_id, how = calls.members(answer, "an upload", "id", "upload")
    if not isinstance(how, dict) or not {"method", "url", "headers", "fields"} <= how.keys():
        raise calls.wrong_document(answer, "an upload")
    upload_id = str(upload_id)
    try:
        await calls.patiently(lambda: _send(calls, upload_id, opened, how, on_progress), again=True)
    except UnavailableError as exc:
        raise UnavailableError(f"The upload was interrupted: {exc}. Try again.") from exc
    return upload_id


async def _announce_parts(calls: Transport, announcement: Mapping[str, Any]) -> str | None:
    """Announce an upload in parts and return its id; None: the server has none."""
    try:
        answer = await calls.call("POST", PATH, json={**announcement, "resumable": True}, again=True)
    except InvalidRequestError as exc:
        if refuses_resumable(exc):
            return None
        raise
    return str(calls.members(answer, "an upload", "id")[0])


async def _send(
    calls: Transport, upload_id: str, opened: OpenInput, how: Mapping[str, Any], on_progress: Progress | None
) -> None:
    """Send the whole file; sending it again changes nothing."""
    opened.file.seek(opened.start)
    reader = _ProgressReader(opened, on_progress)
    if how["method"] == "PUT":
        headers = {**how["headers"], "Content-Length": str(opened.size_bytes)}
        answer = await calls.driver.request("PUT", how["url"], content=reader.chunks(), headers=headers)
    else:
        form_file = cast("IO[bytes]", reader)
        fields, files = dict(how["fields"]), {"file": form_file}
        answer = await calls.driver.request("POST", how["url"], data=fields, files=files, follow_redirects=True)
    if calls.present(answer, again=True).is_success:
        return
    refusal = api_error(answer)
    # The answer to an earlier try was lost, on its way here or between a gateway and the server.
    if refusal.code != COMPLETE or not await _is_ready(calls, upload_id):
        raise refusal


async def _is_ready(calls: Transport, upload_id: str) -> bool:
    answer = await calls.call("GET", f"{PATH}/{quote(upload_id, safe='')}", again=True)
    return bool(calls.members(answer, "an upload", "state") == ("ready",))


def _sha256(opened: OpenInput) -> str:
    digest = hashlib.sha256()
    while chunk := opened.file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


class _ProgressReader:
    """The bytes of an input as a file of their own, for a multipart form; reports how much was read."""

    name = "file"

    def __init__(self, opened: OpenInput, on_progress: Progress | None) -> None:
        self._opened, self._on_progress = opened, on_progress

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK_BYTES):
            yield chunk

    def read(self, amount: int = -1) -> bytes:
        chunk = self._opened.file.read(amount)
        if chunk and self._on_progress is not None:
            self._on_progress(self.tell(), self._opened.size_bytes)
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        start = self._opened.start if whence == 0 else 0
        return self._opened.file.seek(start + offset, whence) - self._opened.start

    def tell(self) -> int:
        return self._opened.file.tell() - self._opened.start
