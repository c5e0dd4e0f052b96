"""`/v1/uploads/{id}/parts` and `/complete`: an upload whose content comes in parts."""

from __future__ import annotations

from datetime import timedelta

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import KeyScope, current_principal
from api.context import AppContext, current_context
from api.links import LinkBuilder
from api.presentation import answer
from api.schemas.responses import problems
from api.schemas.uploads import MissingPartView, PartsQuery, UploadPartsView, UploadPath, UploadView
from jobs.db.tables import Upload
from jobs.service.upload_parts import Part, complete_parts, find_parts, part_url
from jobs.service.uploads import check_not_expired, get_upload, upload_state

upload_parts_api = APIBlueprint("upload_parts", __name__, url_prefix="/v1/uploads", abp_tags=[Tag(name="uploads")])


@upload_parts_api.get(
    "/<upload_id>/parts",
    summary="List the parts of an upload",
    responses={"200": UploadPartsView, **problems(403, 404, 409, 410, 422, 503)},
)
def list_parts(path: UploadPath, query: PartsQuery) -> Response:
    """Returns which parts of a resumable upload are there, and how to send the missing ones.

    After a connection that broke, or a restart, call it again and go on with what is missing. A key that may only read
    gets no URLs. 409: the upload was not announced with `resumable`.
    """
    ctx = current_context()
    may_write = KeyScope.JOBS_WRITE in current_principal().scopes
    with ctx.db.reading() as tx:
        upload, links = get_upload(tx, path.upload_id), ctx.links(tx)
    check_not_expired(upload, links.now)
    parts = find_parts(ctx.db, ctx.store, upload, begin=may_write)
    assert upload.part_bytes is not None, upload.id
    view = UploadPartsView(
        upload_id=upload.id,
        state=upload_state(upload, links.now),
        size_bytes=upload.size_bytes,
        part_bytes=upload.part_bytes,
        part_count=parts.part_count,
        in_order=parts.in_order,
        received_bytes=parts.received_bytes,
        received=parts.received,
        missing_count=len(parts.missing),
        missing=[_missing(ctx, upload, part, links, may_write=may_write) for part in parts.missing[: query.limit]],
    )
    return answer(view)


def _missing(ctx: AppContext, upload: Upload, part: Part, links: LinkBuilder, *, may_write: bool) -> MissingPartView:
    view = MissingPartView(number=part.number, start=part.start, end=part.end)
    if not may_write:
        return view
    expires_s = min(ctx.settings.signed_url_ttl_s, ctx.settings.upload_ttl_s)
    url = part_url(ctx.store, upload, part, expires_s=expires_s)
    headers, expires_at = {}, links.now + timedelta(seconds=expires_s)
    if url is None:
        url, expires_at = links.upload_content(upload.id)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {part.start}-{part.end - 1}/{upload.size_bytes}",
        }
    view.method, view.url, view.headers, view.expires_at = "PUT", url, headers, expires_at
    return view


@upload_parts_api.post(
    "/<upload_id>/complete",
    summary="Complete an upload",
    responses={"200": UploadView, **problems(403, 404, 409, 410, 411, 415, 422, 503, 507)},
)
def complete(path: UploadPath) -> Response:
    """Joins the parts of a resumable upload and compares the content with the announcement; needs no body. Idempotent.

    409: parts are missing. 422: the content is not what was announced; all parts must be sent again. 503 with
    `Retry-After`: it is still being compared; call again.
    """
    ctx = current_context()
    db = ctx.db  # the check runs in another thread, which has no request
    with db.reading() as tx:
        upload, now = get_upload(tx, path.upload_id), tx.now
    check_not_expired(upload, now)
    ctx.upload_checks.run(upload.id, lambda: complete_parts(db, ctx.store, upload))
    with db.reading() as tx:
        upload, links = get_upload(tx, path.upload_id), ctx.links(tx)
    return answer(UploadView.from_row(upload, links))
