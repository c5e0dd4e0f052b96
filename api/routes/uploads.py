"""`/v1/uploads`: announce a file, send its content, get its state."""

from __future__ import annotations

import contextlib
import re
from http import HTTPStatus
from typing import Any, cast

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy.exc import SQLAlchemyError

from api.auth import by_signed_link
from api.context import current_context
from api.errors import too_many
from api.presentation import answer
from api.schemas.responses import problems
from api.schemas.uploads import NewUpload, UploadInstruction, UploadPath, UploadView
from api.upload_checks import UploadCheckPendingError
from jobs.errors import LinkRefusedError, UploadCompleteError
from jobs.service import deletion
from jobs.service.uploads import (
    announce_upload,
    check_accepts_content,
    get_upload,
    receive_content,
    refresh_upload,
)
from jobs.storage.errors import StorageError
from jobs.tenants.rules import rules_of

_CONTENT_PATH = re.compile(r"/v1/uploads/[^/]+/content")

uploads_api = APIBlueprint("uploads", __name__, url_prefix="/v1/uploads", abp_tags=[Tag(name="uploads")])


def is_upload_content(method: str, path: str) -> bool:
    """Return whether `put_content` answers this request: it reads the body while it arrives."""
    return method == "PUT" and _CONTENT_PATH.fullmatch(path) is not None


@uploads_api.post(
    "", summary="Create an upload", responses={"201": UploadView, **problems(400, 411, 413, 415, 422, 503, 507)}
)
def create_upload(body: NewUpload) -> Response:
    """Announces a file and returns how to send its content. Then a job's `video` or `image` may be the upload's id."""
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
        )
        links = ctx.links(tx)
    target = ctx.store.upload_target(
        upload.storage_key,
        size_bytes=upload.size_bytes,
        content_type=upload.content_type,
        sha256=upload.sha256,
        expires_s=min(settings.signed_url_ttl_s, settings.upload_ttl_s),  # nothing arrives after the upload expired
        now=links.now,
    )
    view = UploadView.from_row(upload, links.now)
    view.upload = UploadInstruction.of(upload, target, links)
    return answer(view, HTTPStatus.CREATED)


@uploads_api.get("/<upload_id>", summary="Get an upload", responses={"200": UploadView, **problems(404, 410, 422, 503)})
def get_one(path: UploadPath) -> Response:
    """Returns the upload's state: whether its content has arrived and matches the announcement."""
    ctx = current_context()
    db = ctx.db  # the check runs in another thread, which has no request
    with db.reading() as tx:
        upload, now = get_upload(tx, path.upload_id), tx.now
    # While the check goes on, the upload is pending.
    with contextlib.suppress(UploadCheckPendingError):
        ctx.upload_checks.run(upload.id, lambda: refresh_upload(db, ctx.store, upload, now))
    return answer(UploadView.from_row(upload, now))


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
    responses={"204": None, **problems(400, 403, 404, 408, 409, 410, 411, 413, 422, 503, 507)},
)
@by_signed_link
def put_content(path: UploadPath) -> Response:
    """Takes the raw bytes at the signed URL of the announcement, with their Content-Length, once.

    A call that breaks off changes nothing. 204 also for the same bytes once more; 409: the upload has others.
    """
    ctx = current_context()
    if "signature" not in request.args:
        raise LinkRefusedError("Send the content to the signed URL that `POST /v1/uploads` returned.")
    with ctx.db.reading() as tx:
        upload, now = get_upload(tx, path.upload_id), tx.now
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
