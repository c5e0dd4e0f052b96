"""The documents of jobs for callers that poll: made once for each version of a job."""

from __future__ import annotations

import hashlib
import json

from flask import Response, request

from api.context import AppContext
from api.presentation import job_view
from jobs.lifecycle import State
from jobs.service.job_look import JobLook, look_at_job
from jobs.service.queries import get_job

_NO_POSITION = b'"queue_position":null'


def job_status(ctx: AppContext, tenant: str, look: JobLook) -> bytes:
    """Return the JSON document of a job that was looked at.

    Raises:
        JobNotFoundError: it is gone since.
    """
    mark, key, state = None, (tenant, look.id), look.state
    if look.expires_at is None or look.expires_at > look.now:
        mark = (look.version, look.files, look.files and ctx.links_at(look.now, tenant).artifacts_until)
    document = ctx.job_documents.get(key, mark) if mark is not None else None
    if document is None:
        with ctx.database.of_tenant(tenant).reading() as tx:
            job = get_job(tx, look.id)
            document = _json(job_view(ctx, tx, job, with_position=False).document())
            state = job.state
        if mark is not None and job.version == look.version:
            ctx.job_documents.put(key, mark, document)
        elif state is State.QUEUED:
            look = look_at_job(ctx.database, tenant, look.id)
    if state is State.QUEUED and look.state is State.QUEUED:
        position = ctx.queue_positions.position(ctx.platform_db, look)
        return document.replace(_NO_POSITION, b'"queue_position":%d' % position, 1)
    return document


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def status_answer(document: bytes) -> Response:
    """Return the response with a document; 304 if the caller has it already."""
    response = Response(document, mimetype="application/json")
    response.set_etag(hashlib.sha256(document).hexdigest()[:32])
    response.headers["Cache-Control"] = "private, no-cache"
    if "If-None-Match" in request.headers:
        response.make_conditional(request)
    return response
