"""The storage of fal's clients: files become uploads. Below `/fal/rest` and `/fal/cdn`."""

from __future__ import annotations

import re
from datetime import timedelta
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

from flask import Response, jsonify, request
from flask_openapi3 import APIBlueprint
from flask_openapi3.types import ResponseDict

from api.compat.fal.problems import fal_problem, fault
from api.compat.fal.queue import FAL_TAG
from api.compat.fal.schemas import (
    FalNewUpload,
    FalNoFields,
    FalStoredFile,
    FalUploadTarget,
    FalUploadToken,
    StorageQuery,
    UploadPath,
    faults,
)
from api.compat.media_type import checked_media_type
from api.compat.submitting import base_url
from api.context import AppContext, current_context
from api.errors import too_many
from jobs.compat.files import announce_file, receive_file
from jobs.compat.replicate_prediction import file_url
from jobs.db.tables import Upload
from jobs.service.uploads import check_accepts_content, get_upload
from jobs.storage.errors import ObjectTooLargeError

TOKEN_S = 3600
FILE_BODIES = {"fal_storage.send_file", "fal_storage.begin_parts", "fal_storage.put_content"}
"""Endpoints whose body is a file, or a part of one."""
_SEND_PATH = "/fal/cdn/files/upload"
_CONTENT_PATH = re.compile(r"/fal/cdn/uploads/[^/]+")
_STORED: ResponseDict = {"200": FalStoredFile, **faults(400, 403, 408, 411, 413, 422, 503, 507)}

_BYTES: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
}

fal_storage_api = APIBlueprint("fal_storage", __name__, url_prefix="/fal", abp_tags=[FAL_TAG])
fal_storage_api.after_request(fal_problem)


def is_fal_content(method: str, path: str) -> bool:
    """Return whether the body of this request is a file, which is read while it arrives."""
    return (method == "POST" and path == _SEND_PATH) or (method == "PUT" and _CONTENT_PATH.fullmatch(path) is not None)


@fal_storage_api.post(
    "/rest/storage/auth/token",
    summary="Get a token for uploads",
    responses={"200": FalUploadToken, **faults(400, 411, 413, 415, 422, 503)},
)
def create_token(query: StorageQuery, body: FalNoFields) -> Response:  # noqa: ARG001
    """Returns the caller's own key as the token, and where to send files with it."""
    ctx = current_context()
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    with ctx.db.reading() as tx:
        expires_at = tx.now + timedelta(seconds=TOKEN_S)
    response = jsonify(
        {
            "token": key or "none",
            "token_type": scheme or "Key",
            "base_url": f"{base_url(ctx)}/fal/cdn",
            "expires_at": expires_at.isoformat(),  # old versions of Python read no "Z"
        }
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@fal_storage_api.post("/cdn/files/upload", summary="Send a file", responses=_STORED, openapi_extensions=_BYTES)
def send_file() -> Response:
    """Takes the raw bytes of a file, with its name in `X-Fal-File-Name`, and keeps it as an upload."""
    ctx = current_context()
    upload = announce_file(
        ctx.db,
        filename=unquote(request.headers.get("X-Fal-File-Name", "")),
        content_type=checked_media_type(request.headers.get("Content-Type", "")),
        ttl_s=ctx.settings.upload_ttl_s,
        most_bytes=_most_bytes(ctx),
        least_bytes=request.content_length or 1,
        max_held_bytes=ctx.own_rules.max_stored_upload_bytes,
    )
    refusal = _receive(ctx, upload)
    return refusal or jsonify({"access_url": file_url(base_url(ctx), upload.id)})


@fal_storage_api.post(
    "/cdn/files/upload/multipart", summary="Begin an upload in parts", responses=faults(400, 403, 411, 413, 415, 422)
)
def begin_parts() -> Response:
    """Not supported: clients send files in parts above 100 MB unless they are told to use the other storage."""
    detail = "This server takes no files in parts; call upload_file(..., repository='fal'), which sends them in one."
    return fault(413, "parts_not_supported", detail)


@fal_storage_api.post(
    "/rest/storage/upload/initiate",
    summary="Announce a file",
    responses={"200": FalUploadTarget, **faults(400, 411, 413, 415, 422, 503, 507)},
)
def initiate_upload(query: StorageQuery, body: FalNewUpload) -> Response:  # noqa: ARG001
    """Returns where to PUT the content of a file, with the key of this call."""
    ctx = current_context()
    ctx.check_disk()
    upload = announce_file(
        ctx.db,
        filename=body.file_name,
        content_type=checked_media_type(body.content_type),
        ttl_s=ctx.settings.upload_ttl_s,
        most_bytes=ctx.settings.max_upload_bytes,
        max_held_bytes=ctx.own_rules.max_stored_upload_bytes,
    )
    base = base_url(ctx)
    return jsonify({"upload_url": f"{base}/fal/cdn/uploads/{upload.id}", "file_url": file_url(base, upload.id)})


@fal_storage_api.put(
    "/cdn/uploads/<upload_id>",
    summary="Send the content of an announced file",
    openapi_extensions=_BYTES,
    responses={"204": None, **faults(400, 404, 408, 409, 410, 411, 413, 422, 503, 507)},
)
def put_content(path: UploadPath) -> Response:
    """Takes the raw bytes of an announced file, once."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        upload = get_upload(tx, path.upload_id)
        check_accepts_content(upload, tx.now, request.content_length)
    return _receive(ctx, upload, once=False) or Response(status=HTTPStatus.NO_CONTENT)


def _most_bytes(ctx: AppContext) -> int:
    length, limit = request.content_length, ctx.settings.max_upload_bytes
    if length is not None and length > limit:
        raise ObjectTooLargeError(f"The file has {length} bytes; at most {limit} are allowed.", "upload")
    return length or limit


def _receive(ctx: AppContext, upload: Upload, *, once: bool = True) -> Response | None:
    """Store the body as the content of an upload; return a refusal where there is no place for it."""
    most_bytes = _most_bytes(ctx)
    ctx.check_disk(most_bytes if request.content_length else 0)
    request.max_content_length = most_bytes + 1
    with ctx.upload_places.place() as held:
        if not held:
            return too_many("uploads")
        receive_file(
            ctx.db,
            ctx.store,
            upload,
            cast("Any", request.stream),
            most_bytes=most_bytes,
            max_held_bytes=ctx.own_rules.max_stored_upload_bytes,
            once=once,
        )
    return None
