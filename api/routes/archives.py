"""`/v1/jobs/{id}/artifacts.zip`: all files of a job in one archive, made while it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from zipstream import ZIP_STORED, ZipStream

from api.auth import by_signed_link
from api.context import AppContext, current_context
from api.schemas.jobs import JobPath
from api.schemas.responses import problems
from jobs.db.tables import Artifact
from jobs.file_names import content_disposition
from jobs.service.artifacts import downloadable_artifacts, missing_artifact
from jobs.service.queries import get_job
from jobs.storage.errors import ObjectNotFoundError

archives_api = APIBlueprint("archives", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="artifacts")])
ZIP_TYPE = "application/zip"


@archives_api.get(
    "/<job_id>/artifacts.zip",
    summary="Download all artifacts",
    responses={
        "200": {"content": {ZIP_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
        **problems(403, 404, 410, 422, 503),
    },
)
@by_signed_link
def download_all(path: JobPath) -> Response:
    """Returns a zip of all files of a job, uncompressed, with their length known: they are compressed already.

    It is made while it is sent, so ranges are not supported. 410: a file has expired.
    """
    ctx = current_context()
    with ctx.db.reading() as tx:
        job = get_job(tx, path.job_id)
        artifacts = downloadable_artifacts(tx, job)
    for artifact in artifacts:  # nothing can be said of a missing one once the answer has begun
        try:
            ctx.store.head(artifact.storage_key)
        except ObjectNotFoundError as exc:
            raise missing_artifact(artifact) from exc
    archive = _archive(ctx, artifacts)
    response = Response(() if request.method == "HEAD" else archive, status=HTTPStatus.OK, mimetype=ZIP_TYPE)
    response.headers["Content-Length"] = str(len(archive))
    response.headers["Content-Disposition"] = content_disposition(f"{job.id}.zip", inline=False)
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _archive(ctx: AppContext, artifacts: list[Artifact]) -> ZipStream:
    archive = ZipStream(compress_type=ZIP_STORED, sized=True)
    for artifact in artifacts:
        archive.add(_content(ctx, artifact), artifact.name, size=artifact.size_bytes)
    return archive


def _content(ctx: AppContext, artifact: Artifact) -> Iterator[bytes]:
    """Yield the bytes of an object, which is opened when its turn comes."""
    yield from ctx.store.open_read(artifact.storage_key, start=0, end=artifact.size_bytes)
