"""Uploads in parts, which go on after a broken connection or in another process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from mmaudio_client.errors import ApiError, ClientError, UnavailableError, UploadInterruptedError
from mmaudio_client.inputs import OpenInput
from mmaudio_client.transport import Transport, api_error
from mmaudio_client.upload_progress import CHUNK_BYTES, Progress

LEAST_BYTES = 32 * 1024 * 1024
"""Smaller files are sent in one piece: their upload is soon repeated."""
CONFLICT = 409
FRUITLESS_ROUNDS = 5
"""How often the missing parts are asked for again without any more having arrived."""
COMPLETE_TIMEOUT_S = 120.0


async def send_parts(calls: Transport, upload_id: str, opened: OpenInput, on_progress: Progress | None) -> None:
    """Send what the server does not have of a file, and let it check the whole.

    Raises:
        UploadInterruptedError: the server or the store was away for longer than the patience; carries the upload's id.
        ApiError: the upload was refused, or its content is not the announced.
    """
    path = f"/v1/uploads/{quote(upload_id, safe='')}"
    try:
        await _send_missing(calls, path, opened, on_progress)
        await calls.call("POST", f"{path}/complete", again=True, timeout_s=COMPLETE_TIMEOUT_S)
    except UnavailableError as exc:
        text = f"The upload {upload_id} was interrupted: {exc}. What has arrived is kept for a while."
        raise UploadInterruptedError(text, upload_id) from exc
    if on_progress is not None:
        on_progress(opened.size_bytes, opened.size_bytes)


async def _send_missing(calls: Transport, path: str, opened: OpenInput, on_progress: Progress | None) -> None:
    most, fruitless = -1, 0
    while True:
        # Asked again after each round: addresses of parts expire, and a list is not endless.
        answer = await calls.call("GET", f"{path}/parts", again=True)
        size, received, missing = calls.members(
            answer, "the parts of an upload", "size_bytes", "received_bytes", "missing"
        )
        if size != opened.size_bytes:
            text = f"The upload is one of {size} bytes, and the file has {opened.size_bytes}: it is another file."
            raise ApiError(CONFLICT, "upload_mismatch", text)
        if not missing:
            return
        fruitless = 0 if received > most else fruitless + 1
        most = max(most, received)
        refusal = ApiError(CONFLICT, "upload_incomplete", "The server does not keep what is sent of the upload.")
        try:
            done = received
            for part in missing:
                await _send_part(calls, part, opened, done, on_progress)
                done += part["end"] - part["start"]
        except (KeyError, TypeError) as exc:
            raise calls.wrong_document(answer, "the parts of an upload") from exc
        except ApiError as exc:  # an address has expired, or a part arrived although its answer was lost
            refusal = exc
        if fruitless >= FRUITLESS_ROUNDS:
            raise refusal
        if fruitless:
            await calls.driver.sleep(float(fruitless))


async def _send_part(
    calls: Transport, part: Mapping[str, Any], opened: OpenInput, done: int, on_progress: Progress | None
) -> None:
    start, end = int(part["start"]), int(part["end"])
    headers = {**part["headers"], "Content-Length": str(end - start)}

    async def step() -> None:
        content = _section(opened, start, end, done, on_progress)
        answer = await calls.driver.request(part["method"], part["url"], content=content, headers=headers)
        if not calls.present(answer, again=True).is_success:
            raise api_error(answer)

    await calls.patiently(step, again=True)


def _section(opened: OpenInput, start: int, end: int, done: int, on_progress: Progress | None) -> Iterator[bytes]:
    """Yield bytes [start, end) of a file."""
    opened.file.seek(opened.start + start)
    left = end - start
    while left > 0 and (chunk := opened.file.read(min(CHUNK_BYTES, left))):
        left -= len(chunk)
        if on_progress is not None:
            on_progress(done + end - start - left, opened.size_bytes)
        yield chunk


def refuses_resumable(error: ClientError) -> bool:
    """Return whether an announcement was refused because the server has no uploads in parts."""
    return isinstance(error, ApiError) and "resumable" in error.fields
