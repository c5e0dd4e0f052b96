"""`/v1/uploads`: announce a file, send its content, get its state."""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from http import HTTPStatus
from typing import Any, cast

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy.exc import SQLAlchemyError

from api.auth import by_signed_link, signed_as
from api.context import AppContext, current_context
from api.errors import too_many
from api.links import LinkBuilder
from api.presentation import answer
from api.request_body import LengthRequiredError
from api.schemas.responses import problems
from api.schemas.uploads import NewUpload, UploadInstruction, UploadOffsetView, UploadPath, UploadView
from api.upload_checks import UploadCheckPendingError
from jobs.db.tables import Upload
from jobs.errors import LinkRefusedError, RequestInvalidError, UploadCompleteError
from jobs.service import deletion
from jobs.service.upload_parts import receive_range, received_bytes
from jobs.service.uploads import (
    announce_upload,
    check_accepts_content,
    check_not_expired,
    get_upload,
    receive_content,
    refresh_upload,
    upload_state,
)
from jobs.storage.errors import StorageError
from jobs.tenants.rules import rules_of

_CONTENT_PATH = re.compile(r"/v1/uploads/[^/]+/content")
_CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<size>[0-9]{1,18})", re.ASCII)

uploads_api = APIBlueprint("uploads", __name__, url_prefix="/v1/uploads", abp_tags=[Tag(name="uploads")])


def is_upload_content(method: str, path: str) -> bool:
    """Return whether `put_content` answers this request: it reads the body while it arrives."""
    return method == "PUT" and _CONTENT_PATH.fullmatch(path) is not None


@uploads_api.post(
    "", summary="Create an upload", responses={"201": UploadView, **problems(400, 411, 413, 415, 422, 503, 507)}
)
def create_upload(body: NewUpload) -> Response:
    """Announces a file and returns how to send its content. Then a job's `video` or `image` may be the upload's id.

    With `resumable` the content may be sent in parts: `parts_url` lists them.
    """
    ctx = current_context()
    settings = ctx.settings
    ctx.check_disk(min(body.size_bytes, settings.max_upload_bytes))
    with ctx.db.transaction() as tx:
        upload = announce_upload(
            tx,
            filename=body.filename,
            content_type=body.content_type,
            size_bytes=body.size_bytes,
            sha256=body.sha256,
            ttl_s=settings.upload_ttl_s,
            max_bytes=settings.max_upload_bytes,
            max_held_bytes=rules_of(tx, settings).max_stored_upload_bytes,
            part_bytes=settings.upload_part_bytes if body.resumable else None,
        )
        links = ctx.links(tx)
    view = UploadView.from_row(upload, links)
    if body.resumable and ctx.store.part_writes is not None:
        return answer(view, HTTPStatus.CREATED)  # its parts go to the bucket
    target = ctx.store.upload_target(
        upload.storage_key,
        size_bytes=upload.size_bytes,
        content_type=upload.content_type,
        sha256=upload.sha256,
        expires_s=min(settings.signed_url_ttl_s, settings.upload_ttl_s),  # nothing arrives after the upload expired
        now=links.now,
    )
    view.upload = UploadInstruction.of(upload, target, links)
    return answer(view, HTTPStatus.CREATED)


@uploads_api.get("/<upload_id>", summary="Get an upload", responses={"200": UploadView, **problems(404, 410, 422, 503)})
def get_one(path: UploadPath) -> Response:
    """Returns the upload's state: whether its content has arrived and matches the announcement."""
    ctx = current_context()
    db = ctx.db  # the check runs in another thread, which has no request
    with db.reading() as tx:
        upload, links = get_upload(tx, path.upload_id), ctx.links(tx)
    # While the check goes on, the upload is pending.
    with contextlib.suppress(UploadCheckPendingError):
        ctx.upload_checks.run(upload.id, lambda: refresh_upload(db, ctx.store, upload, links.now))
    return answer(UploadView.from_row(upload, links))


@uploads_api.delete(
    "/<upload_id>", summary="Delete an upload", responses={"204": None, **problems(403, 404, 409, 422, 503)}
)
def delete_one(path: UploadPath) -> Response:
    """Deletes the file; the id is answered with 410 from then on. Idempotent.

    409: a job that has not ended needs it.
    """
    ctx = current_context()
    ctx.db.run(lambda tx: deletion.delete_upload(tx, path.upload_id), repeatable=True)
    with contextlib.suppress(StorageError, SQLAlchemyError):  # maintenance deletes it then
        deletion.delete_upload_object(ctx.db, ctx.store, path.upload_id)
    return Response(status=HTTPStatus.NO_CONTENT)


@uploads_api.put(
    "/<upload_id>/content",
    summary="Send the content of an upload",
    responses={"204": None, "202": UploadOffsetView, **problems(400, 403, 404, 408, 409, 410, 411, 413, 422, 503, 507)},
)
@by_signed_link
def put_content(path: UploadPath) -> Response:
    """Takes the raw bytes at the signed URL of the announcement, with their Content-Length.

    Without `Content-Range` all of them: a call that breaks off changes nothing. 204 also for the same bytes once more;
    409: the upload has others.

    With `Content-Range: bytes FIRST-LAST/SIZE` a part of them, which must begin where those that are there end, and of
    which a call that breaks off keeps what came. 202: `Upload-Offset` says how many bytes are there; 204: all of them;
    409: the part begins elsewhere, and `Upload-Offset` says where it should, or another call sends a part now.
    """
    ctx = current_context()
    upload, links = _signed_upload(ctx, path.upload_id)
    now, part = links.now, _content_range(upload)
    if part is not None:
        return _put_range(ctx, upload, now, *part)
    try:
        check_accepts_content(upload, now, request.content_length)
    except UploadCompleteError:
        if request.content_length != upload.size_bytes:
            raise
        # What comes may be the same once more; it is compared.
    ctx.check_disk(upload.size_bytes)
    # Replaces the limit for JSON bodies, which None would restore. One more than the size, because reading up to the
    # limit itself, to find the end of the body, is refused.
    request.max_content_length = upload.size_bytes + 1
    with ctx.upload_places.place() as held:
        if not held:
            return too_many("uploads")
        receive_content(ctx.db, ctx.store, upload, cast("Any", request.stream))
    return Response(status=HTTPStatus.NO_CONTENT)


@uploads_api.get(
    "/<upload_id>/content",
    summary="Get how much of an upload's content is there",
    responses={"200": UploadOffsetView, **problems(403, 404, 409, 410, 422, 503)},
)
@by_signed_link
@signed_as("PUT")
def get_offset(path: UploadPath) -> Response:
    """Answers at the URL that the content is sent to (also `HEAD`): `Upload-Offset` says how many bytes are there."""
    ctx = current_context()
    upload, links = _signed_upload(ctx, path.upload_id)
    check_not_expired(upload, links.now)
    return _offset_answer(upload, received_bytes(ctx.store, upload), links.now, HTTPStatus.OK)


def _signed_upload(ctx: AppContext, upload_id: str) -> tuple[Upload, LinkBuilder]:
    """Return the upload of a signed URL, which was checked before.

    Raises:
        LinkRefusedError: the URL has no signature.
    """
    if "signature" not in request.args:
        raise LinkRefusedError("Use the signed URL that `POST /v1/uploads` returned.")
    with ctx.db.reading() as tx:
        return get_upload(tx, upload_id), ctx.links(tx)


def _content_range(upload: Upload) -> tuple[int, int] | None:
    """Return first byte and end of the part that a request sends; None: it sends all.

    Raises:
        RequestInvalidError: it is no range of this upload, or the body has another length.
    """
    text = request.headers.get("Content-Range")
    if text is None:
        return None
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        raise RequestInvalidError.of("Content-Range", "give `bytes FIRST-LAST/SIZE`, such as bytes 0-1048575/5000000")
    first, last, size = (int(match[name]) for name in ("first", "last", "size"))
    if size != upload.size_bytes:
        raise RequestInvalidError.of("Content-Range", f"the size is {size}; announced were {upload.size_bytes} bytes")
    if not first <= last < size:
        raise RequestInvalidError.of("Content-Range", f"bytes {first}-{last} are no range of {size} bytes")
    if request.content_length is None:
        raise LengthRequiredError("Got a part without Content-Length; send its length, not chunks.")
    if request.content_length != last - first + 1:
        raise RequestInvalidError.of(
            "Content-Range", f"the range has {last - first + 1} bytes, the body {request.content_length}"
        )
    return first, last + 1


def _put_range(ctx: AppContext, upload: Upload, now: datetime, start: int, end: int) -> Response:
    check_not_expired(upload, now)
    ctx.check_disk(end - start)
    request.max_content_length = end - start + 1  # as above
    with ctx.upload_places.place() as held:
        if not held:
            return too_many("uploads")
        there = receive_range(ctx.db, ctx.store, upload, cast("Any", request.stream), start=start, end=end)
    if there == upload.size_bytes:
        return Response(status=HTTPStatus.NO_CONTENT)
    return _offset_answer(upload, there, now, HTTPStatus.ACCEPTED)


def _offset_answer(upload: Upload, there: int, now: datetime, status: HTTPStatus) -> Response:
    view = UploadOffsetView(
        upload_id=upload.id,
        state=upload_state(upload, now),
        size_bytes=upload.size_bytes,
        received_bytes=there,
    )
    response = answer(view, status)
    response.headers["Upload-Offset"] = str(there)
    response.headers["Cache-Control"] = "no-store"
    return response
