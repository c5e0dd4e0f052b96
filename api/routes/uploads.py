"""`/v1/uploads`: announce a file, send it, see it."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from http import HTTPStatus
from typing import Any, cast

from flask import Response, jsonify, request
from flask_openapi3 import APIBlueprint, Tag

from api.auth import current_tenant
from api.context import AppContext, current_context
from api.errors import LinkRefusedError, UploadCompleteError, UploadExpiredError, UploadMismatchError
from api.presentation import iso, present_upload
from api.schemas.responses import problems
from api.schemas.uploads import NewUpload, UploadPath, UploadView
from jobs.db.tables import Upload
from jobs.errors import RequestInvalidError, UploadNotFoundError
from jobs.request import UPLOAD_ID, JobRequest
from jobs.service.uploads import announce_upload, get_upload, mark_upload_checked
from jobs.storage.errors import ObjectNotFoundError, ObjectTooLargeError

uploads_api = APIBlueprint("uploads", __name__, url_prefix="/v1/uploads", abp_tags=[Tag(name="uploads")])


@uploads_api.post("", summary="Announce a file", responses={"201": UploadView, **problems(400, 413, 415, 422, 503)})
def create_upload(body: NewUpload) -> Response:
    """Answers how to send the bytes; afterwards the id can be a job's `video` or `image`."""
    ctx = current_context()
    limit = ctx.settings.max_upload_bytes
    if body.size_bytes > limit:
        raise ObjectTooLargeError(f"The file has {body.size_bytes} bytes, at most {limit} are allowed.", "api")
    with ctx.db.transaction() as tx:
        upload = announce_upload(
            tx,
            tenant=current_tenant(),
            filename=body.filename,
            content_type=body.content_type,
            size_bytes=body.size_bytes,
            sha256=body.sha256,
            ttl_s=ctx.settings.upload_ttl_s,
        )
        now = tx.now
    document = present_upload(upload, now)
    target = ctx.store.upload_target(
        upload.storage_key,
        size_bytes=upload.size_bytes,
        content_type=upload.content_type,
        sha256=upload.sha256,
        expires_s=ctx.settings.signed_url_ttl_s,
        now=now,
    )
    if target is None:  # the store is a folder: the bytes come through this API
        until = now + timedelta(seconds=ctx.settings.signed_url_ttl_s)
        path = _content_path(upload.id)
        document["upload"] = {
            "method": "PUT",
            "url": f"{ctx.settings.public_url.rstrip('/')}{path}?{ctx.signer.query('PUT', path, until)}",
            "headers": {"Content-Type": "application/octet-stream"},
            "fields": {},
            "expires_at": iso(until),
        }
    else:
        document["upload"] = {
            "method": target.method,
            "url": target.url,
            "headers": dict(target.headers),
            "fields": dict(target.fields),
            "expires_at": iso(target.expires_at),
        }
    response = jsonify(document)
    response.status_code = HTTPStatus.CREATED
    return response


@uploads_api.get("/<upload_id>", summary="See an upload", responses={"200": UploadView, **problems(404, 422, 503)})
def get_one(path: UploadPath) -> Response:
    """Says whether the file has come and is what was announced."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        upload, now = get_upload(tx, path.upload_id, tenant=current_tenant()), tx.now
    if upload.checked_at is None and upload.deleted_at is None:
        with contextlib.suppress(ObjectNotFoundError, UploadMismatchError):  # not there yet, or to be sent again
            _accept(ctx, upload, ctx.store.head(upload.storage_key).size_bytes)
            upload.checked_at = now
    return jsonify(present_upload(upload, now))


@uploads_api.put(
    "/<upload_id>/content",
    summary="Send the bytes",
    responses={"204": None, **problems(403, 404, 409, 410, 413, 422, 503, 507)},
)
def put_content(path: UploadPath) -> Response:
    """Takes the raw bytes, by the signed link of the announcement, until they have come whole once."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        given = request.args
        if not ctx.signer.is_valid(
            "PUT", _content_path(path.upload_id), given.get("expires", ""), given.get("signature", ""), now=tx.now
        ):
            raise LinkRefusedError("This upload link is not valid or has expired; announce the file again.")
        upload, now = get_upload(tx, path.upload_id, tenant=current_tenant()), tx.now
    if upload.deleted_at is not None or upload.expires_at <= now:
        raise UploadExpiredError(f"Upload {upload.id} has expired; announce the file again.")
    if upload.checked_at is not None:
        raise UploadCompleteError(f"Upload {upload.id} is complete already; announce another one.")
    announced = request.content_length
    if announced is not None and announced > upload.size_bytes:
        raise ObjectTooLargeError(f"{announced} bytes come, announced were {upload.size_bytes}.", "api")
    # In place of the bound of JSON bodies, which None would bring back. One more than is taken: who reads on at the
    # bound itself, to find the end, is refused.
    request.max_content_length = upload.size_bytes + 1
    stored = ctx.store.put_stream(
        upload.storage_key,
        cast("Any", request.stream),
        content_type=upload.content_type,
        max_bytes=upload.size_bytes,
        sha256=upload.sha256,
    )
    _accept(ctx, upload, stored.size_bytes)
    return Response(status=HTTPStatus.NO_CONTENT)


def check_upload(ctx: AppContext, body: JobRequest, tenant: str) -> None:
    """See that the upload a request names has come whole, if nobody has seen it yet.

    Raises:
        RequestInvalidError: it has not; names the field.
    """
    source = body.source
    if source is None or not UPLOAD_ID.fullmatch(source):
        return
    field = "video" if body.video is not None else "image"
    try:
        with ctx.db.reading() as tx:
            upload = get_upload(tx, source, tenant=tenant)
        if upload.checked_at is None and upload.deleted_at is None:
            _accept(ctx, upload, ctx.store.head(upload.storage_key).size_bytes)
    except UploadNotFoundError as exc:
        raise RequestInvalidError.of(field, f"there is no upload {source}") from exc
    except ObjectNotFoundError as exc:
        raise RequestInvalidError.of(field, f"upload {source} has no content yet; send the file first") from exc
    except UploadMismatchError as exc:
        raise RequestInvalidError.of(field, exc.message) from exc


def _accept(ctx: AppContext, upload: Upload, size_bytes: int) -> None:
    if size_bytes != upload.size_bytes:
        ctx.store.delete([upload.storage_key])
        raise UploadMismatchError(
            f"Upload {upload.id} has {size_bytes} bytes, announced were {upload.size_bytes}; send it again."
        )
    ctx.db.run(lambda tx: mark_upload_checked(tx, upload.id), repeatable=True)


def _content_path(upload_id: str) -> str:
    return f"/v1/uploads/{upload_id}/content"
