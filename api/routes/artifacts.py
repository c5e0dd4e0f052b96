"""`/v1/jobs/{id}/artifacts/{name}`: the files that a job made, by signed URL."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from werkzeug.datastructures import Range
from werkzeug.http import parse_range_header

from api.auth import by_signed_link
from api.context import AppContext, current_context
from api.errors import problem
from api.schemas.jobs import ArtifactPath
from api.schemas.responses import files, problems
from jobs.db.tables import Artifact
from jobs.file_names import content_disposition
from jobs.service.artifacts import download_name, get_artifact, missing_artifact
from jobs.service.queries import get_job
from jobs.storage.errors import ObjectNotFoundError

artifacts_api = APIBlueprint("artifacts", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="artifacts")])
PRESIGNED_S = 600


@artifacts_api.get(
    "/<job_id>/artifacts/<name>",
    summary="Download an artifact",
    responses={**files(200, 206), "302": None, "304": None, **problems(403, 404, 410, 416, 422, 503)},
)
@by_signed_link
def download(path: ArtifactPath) -> Response:
    """Returns the content (ranges are supported), or a redirect to the object store.

    With `?download=1` browsers save the file instead of playing it, under a name after the source's. With
    `?redirect=0` there is no redirect: this server sends the content itself.
    """
    ctx = current_context()
    with ctx.db.reading() as tx:
        job = get_job(tx, path.job_id)
        artifact = get_artifact(tx, path.job_id, path.name)
        filename = download_name(tx, job, artifact)
    inline = request.args.get("download") is None
    disposition = content_disposition(filename, inline=inline)
    if request.if_none_match.contains_weak(artifact.sha256):
        return _with_headers(Response(status=HTTPStatus.NOT_MODIFIED), artifact, disposition)
    requested = _requested_range(artifact)
    window = _window(requested, artifact.size_bytes) if requested is not None else None
    if requested is not None and window is None:  # also where the store would answer it, with XML
        return _range_not_satisfiable(artifact.size_bytes)
    if request.method == "HEAD":  # not redirected: a presigned URL is valid for GET only
        _check_stored(ctx, artifact)
        return _content(ctx, artifact, window, disposition)
    url = None
    if request.args.get("redirect") != "0":
        url = ctx.store.presigned_get(
            artifact.storage_key,
            expires_s=PRESIGNED_S,
            filename=filename,
            content_type=artifact.content_type,
            inline=inline,
        )
    if url is not None:
        _check_stored(ctx, artifact)  # the store itself would answer with XML that it is gone, or not answer
        # Not cached: the target expires.
        return Response(status=HTTPStatus.FOUND, headers={"Location": url, "Cache-Control": "no-store"})
    return _content(ctx, artifact, window, disposition)


def _check_stored(ctx: AppContext, artifact: Artifact) -> None:
    """Raise the error of the answer unless the store has the object.

    Raises:
        ArtifactMissingError: it does not.
        StorageError: the store does not answer.
    """
    try:
        ctx.store.head(artifact.storage_key)
    except ObjectNotFoundError as exc:
        raise missing_artifact(artifact) from exc


def _content(ctx: AppContext, artifact: Artifact, window: tuple[int, int] | None, disposition: str) -> Response:
    """Stream the object, or the part of it that the Range header requests.

    Raises:
        ArtifactMissingError: the store does not have it.
    """
    size = artifact.size_bytes
    start, end = window or (0, size)
    if request.method == "HEAD":
        response = Response(mimetype=artifact.content_type)
    else:
        try:
            chunks = ctx.store.open_read(artifact.storage_key, start=start, end=end)
        except ObjectNotFoundError as exc:
            raise missing_artifact(artifact) from exc
        response = Response(chunks, mimetype=artifact.content_type)
    if window is not None:
        response.status_code = HTTPStatus.PARTIAL_CONTENT
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    response.headers["Content-Length"] = str(end - start)
    return _with_headers(response, artifact, disposition)


def _range_not_satisfiable(size: int) -> Response:
    response = problem(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        "range_not_satisfiable",
        f"Got Range {request.headers.get('Range', '')[:100]!r}; the file has {size} bytes, numbered from 0.",
    )
    response.headers["Content-Range"] = f"bytes */{size}"
    return response


def _with_headers(response: Response, artifact: Artifact, disposition: str) -> Response:
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    response.headers["Content-Disposition"] = disposition
    response.set_etag(artifact.sha256)
    return response


def _requested_range(artifact: Artifact) -> Range | None:
    """Return the requested range; None (the whole file) for several ranges, other units and a stale If-Range."""
    if request.method != "GET":
        return None
    if request.headers.get("If-Range") and artifact.sha256 not in request.headers["If-Range"]:
        return None
    requested = parse_range_header(request.headers.get("Range"))
    if requested is None or requested.units != "bytes" or len(requested.ranges) != 1:
        return None
    return requested


def _window(requested: Range, size: int) -> tuple[int, int] | None:
    """Return start and end of the range; None when it is outside the file."""
    start, _ = requested.ranges[0]
    if start is not None and start < -size:  # more of the last bytes than there are: all
        return (0, size) if size else None
    return requested.range_for_length(size)
