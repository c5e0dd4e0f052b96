"""Uploads: announce a file, then send its bytes the way the server says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, cast
from urllib.parse import quote

from mmaudio_client.errors import UnavailableError
from mmaudio_client.inputs import OpenInput
from mmaudio_client.transport import Transport, api_error

CHUNK_BYTES = 256 * 1024
COMPLETE = "upload_complete"
"""The server's code for content that it has already."""
Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in total)."""


async def send_upload(calls: Transport, opened: OpenInput, on_progress: Progress | None) -> str:
    """Upload a file and return its upload id.

    Raises:
        ApiError: the server or the object store refused it.
        UnavailableError: the server cannot be reached, or the connection broke.
    """
    digest = await calls.driver.run(_sha256, opened)
    announcement = {"filename": opened.filename, "size_bytes": opened.size_bytes, "sha256": digest}
    # A second announcement leaves an empty upload behind, which expires.
    answer = await calls.call("POST", "/v1/uploads", json=announcement, again=True)
    upload_id, how = calls.members(answer, "an upload", "id", "upload")
    if not isinstance(how, dict) or not {"method", "url", "headers", "fields"} <= how.keys():
        raise calls.wrong_document(answer, "an upload")
    upload_id = str(upload_id)
    try:
        await calls.patiently(lambda: _send(calls, upload_id, opened, how, on_progress), again=True)
    except UnavailableError as exc:
        raise UnavailableError(f"The upload was interrupted: {exc}. Try again.") from exc
    return upload_id


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
    answer = await calls.call("GET", f"/v1/uploads/{quote(upload_id, safe='')}", again=True)
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
