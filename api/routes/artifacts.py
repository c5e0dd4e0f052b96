"""`/v1/jobs/{id}/artifacts/{name}`: the files a job made, by signed link."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from werkzeug.datastructures import Range
from werkzeug.http import parse_range_header

from api.auth import current_tenant
from api.context import AppContext, current_context
from api.errors import LinkRefusedError, problem
from api.schemas.jobs import ArtifactPath
from api.schemas.responses import files, problems
from jobs.db.tables import Artifact
from jobs.service.artifacts import get_artifact
from jobs.service.queries import get_job

artifacts_api = APIBlueprint("artifacts", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="artifacts")])
PRESIGNED_S = 600


@artifacts_api.get(
    "/<job_id>/artifacts/<name>",
    summary="Download a file",
    responses={**files(200, 206), "302": None, "304": None, **problems(403, 404, 410, 416, 422, 503)},
)
def download(path: ArtifactPath) -> Response:
    """The bytes (ranges work), or a redirect to the object store. `?download=1` asks for a file instead of a player."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        expires, signature = request.args.get("expires"), request.args.get("signature")
        if (expires or signature) and not ctx.signer.is_valid(
            "GET", request.path, expires or "", signature or "", now=tx.now
        ):
            raise LinkRefusedError("This link is not valid or has expired; get the job again for a new one.")
        get_job(tx, path.job_id, tenant=current_tenant())
        artifact = get_artifact(tx, path.job_id, path.name)
    inline = request.args.get("download") is None
    if request.method == "HEAD":  # answered here: a presigned URL is good for GET alone
        return _bytes(ctx, artifact, inline)
    url = ctx.store.presigned_get(
        artifact.storage_key,
        expires_s=PRESIGNED_S,
        filename=artifact.name,
        content_type=artifact.content_type,
        inline=inline,
    )
    if url is not None:
        # Not kept by caches: the target expires.
        return Response(status=HTTPStatus.FOUND, headers={"Location": url, "Cache-Control": "no-store"})
    return _bytes(ctx, artifact, inline)


def _bytes(ctx: AppContext, artifact: Artifact, inline: bool) -> Response:
    """Stream the object, or the part of it that a Range header asks for."""
    size = artifact.size_bytes
    if request.if_none_match.contains_weak(artifact.sha256):
        return _described(Response(status=HTTPStatus.NOT_MODIFIED), artifact, inline)
    wanted = _wanted_range(artifact)
    window = _window(wanted, size) if wanted is not None else None
    if wanted is not None and window is None:
        response = problem(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "range_not_satisfiable", f"The file has {size} bytes."
        )
        response.headers["Content-Range"] = f"bytes */{size}"
        return response
    start, end = window or (0, size)
    if request.method == "HEAD":
        response = Response(mimetype=artifact.content_type)
    else:
        chunks = ctx.store.open_read(artifact.storage_key, start=start, end=end)
        response = Response(chunks, mimetype=artifact.content_type)
    if window is not None:
        response.status_code = HTTPStatus.PARTIAL_CONTENT
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    response.headers["Content-Length"] = str(end - start)
    return _described(response, artifact, inline)


def _described(response: Response, artifact: Artifact, inline: bool) -> Response:
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    # Names are made by the worker: plain letters, digits, dot and dash.
    response.headers["Content-Disposition"] = f'{"inline" if inline else "attachment"}; filename="{artifact.name}"'
    response.set_etag(artifact.sha256)
    return response


def _wanted_range(artifact: Artifact) -> Range | None:
    """Return the one range asked for; several ranges, other units and a stale If-Range mean the whole file."""
    if request.method != "GET":
        return None
    if request.headers.get("If-Range") and artifact.sha256 not in request.headers["If-Range"]:
        return None
    wanted = parse_range_header(request.headers.get("Range"))
    return wanted if wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1 else None


def _window(wanted: Range, size: int) -> tuple[int, int] | None:
    """Return where the range starts and ends; None when the file has nothing there."""
    start, _ = wanted.ranges[0]
    if start is not None and start < -size:  # the last bytes, and more of them than there are: all
        return (0, size) if size else None
    return wanted.range_for_length(size)
