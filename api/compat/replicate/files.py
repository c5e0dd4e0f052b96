"""`/v1/files`: send a file as a form, get, list, delete. A file is an upload; its URL names it in an input."""

from __future__ import annotations

import contextlib
from http import HTTPStatus
from typing import Any, cast

from flask import Response, jsonify, request
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, ConfigDict

from api.compat.form_file import MAX_FORM_BYTES, FormFile
from api.compat.media_type import checked_media_type
from api.compat.replicate.predictions import REPLICATE_TAG
from api.compat.replicate.problems import replicate_problem
from api.compat.replicate.schemas import FilePath, ReplicateFile, ReplicateFilePage
from api.compat.submitting import base_url
from api.context import current_context
from api.errors import problem, too_many
from api.schemas.parameters import page_cursor
from api.schemas.responses import problems
from jobs.compat.files import announce_file, file_document, get_file, list_files, receive_file
from jobs.request import UPLOAD_ID
from jobs.service.deletion import delete_upload, delete_upload_object
from jobs.storage.errors import ObjectTooLargeError, StorageError

PAGE = 100
FORM = "multipart/form-data"
PATH = "/v1/files"
CREATE_FILE_ENDPOINT = "replicate_files.create_file"

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["content"],
                    # Parts of a form are text, whatever it means: so the others have no type.
                    "properties": {
                        "content": {"type": "string", "format": "binary", "description": "The file."},
                        "filename": {"description": "Its name, instead of that of the part."},
                        "type": {"description": "Its media type, instead of that of the part."},
                        "metadata": {"description": "JSON; not kept."},
                    },
                }
            }
        },
    }
}

files_api = APIBlueprint("replicate_files", __name__, url_prefix=PATH, abp_tags=[REPLICATE_TAG])
files_api.after_request(replicate_problem)


def is_file_form(method: str, path: str) -> bool:
    """Return whether `create_file` answers this request: it reads the body while it arrives."""
    return method == "POST" and path == PATH


class FilesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: str | None = page_cursor(UPLOAD_ID, "From `next` of a page.")


@files_api.post(
    "",
    summary="Send a file",
    openapi_extensions=_FORM,
    responses={"201": ReplicateFile, **problems(400, 403, 408, 411, 413, 415, 422, 503, 507)},
)
def create_file() -> Response:
    """Takes a `multipart/form-data` body with the file as its part `content`, and keeps it as an upload.

    `filename` and `type` may be fields before it. `metadata` is accepted and not kept.
    """
    ctx, settings = current_context(), current_context().settings
    if request.mimetype != FORM:
        got = request.mimetype or "no content type"
        return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "wrong_media_type", f"Got {got}; send {FORM}.")
    length = request.content_length
    limit = settings.max_upload_bytes
    if length is not None and length > limit + MAX_FORM_BYTES:
        raise ObjectTooLargeError(f"The form has {length} bytes; a file may have {limit}.", "upload")
    most_bytes = min(limit, length) if length else limit
    max_held_bytes = ctx.own_rules.max_stored_upload_bytes
    ctx.check_disk(most_bytes if length else 0)
    request.max_content_length = limit + MAX_FORM_BYTES + 1
    with ctx.upload_places.place() as held:
        if not held:
            return too_many("uploads")
        form = FormFile(cast("Any", request.stream), request.mimetype_params.get("boundary", ""), {"content"})
        upload = announce_file(
            ctx.db,
            filename=form.fields.get("filename") or form.filename,
            content_type=checked_media_type(form.fields.get("type") or form.content_type),
            ttl_s=settings.upload_ttl_s,
            most_bytes=most_bytes,
            least_bytes=max(1, (length or 0) - MAX_FORM_BYTES),
            max_held_bytes=max_held_bytes,
        )
        receive_file(ctx.db, ctx.store, upload, cast("Any", form), most_bytes=most_bytes, max_held_bytes=max_held_bytes)
    with ctx.db.reading() as tx:
        response = jsonify(file_document(get_file(tx, upload.id), base_url(ctx)))
    response.status_code = HTTPStatus.CREATED
    return response


@files_api.get("", summary="List files", responses={"200": ReplicateFilePage, **problems(422, 503)})
def list_all(query: FilesQuery) -> Response:
    """Returns a page of 100 uploads that have their content and have not expired, newest first."""
    ctx = current_context()
    base = base_url(ctx)
    with ctx.db.reading() as tx:
        page = list_files(tx, cursor=query.cursor, limit=PAGE, ttl_s=ctx.settings.upload_ttl_s)
        results = [file_document(upload, base) for upload in page.files]
    following = f"{base}{PATH}?cursor={page.next_cursor}" if page.next_cursor is not None else None
    return jsonify({"previous": None, "next": following, "results": results})


@files_api.get("/<file_id>", summary="Get a file", responses={"200": ReplicateFile, **problems(404, 422, 503)})
def get_one(path: FilePath) -> Response:
    """Returns what is known about a file."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        return jsonify(file_document(get_file(tx, path.file_id), base_url(ctx)))


@files_api.delete("/<file_id>", summary="Delete a file", responses={"204": None, **problems(403, 404, 409, 422, 503)})
def delete_file(path: FilePath) -> Response:
    """Deletes a file that no queued or running job needs."""
    ctx = current_context()
    ctx.db.run(lambda tx: delete_upload(tx, path.file_id), repeatable=True)
    with contextlib.suppress(StorageError):  # what stays is deleted by maintenance
        delete_upload_object(ctx.db, ctx.store, path.file_id)
    return Response(status=HTTPStatus.NO_CONTENT)
