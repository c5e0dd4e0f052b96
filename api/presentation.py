"""Reads what documents need beside their row, and makes responses from documents."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Any

from flask import Response, jsonify, request

from api.context import AppContext
from api.schemas.jobs import JobView
from api.schemas.view import View
from jobs.db.database import Transaction
from jobs.db.tables import Job
from jobs.lifecycle import State
from jobs.service.artifacts import artifacts_by_job, previews_of_job
from jobs.service.queries import attempts_by_job
from jobs.service.scheduling.queue_stats import queue_position


def job_view(ctx: AppContext, tx: Transaction, job: Job, *, with_position: bool = True) -> JobView:
    """Return the document of a job, with its queue position."""
    return JobView.from_row(
        job,
        artifacts=artifacts_by_job(tx, [job.id])[job.id] if job.state is State.SUCCEEDED else [],
        previews=previews_of_job(tx, job.id) if job.state is State.SUCCEEDED else None,
        attempts=attempts_by_job(tx, [job.id])[job.id] if job.attempt else [],
        queue_position=queue_position(tx, job) if with_position else None,
        links=ctx.links(tx),
    )


def job_views(ctx: AppContext, tx: Transaction, jobs: list[Job]) -> list[JobView]:
    """Return the documents of a page of jobs, without queue positions and previews: they would cost too much."""
    ids = [job.id for job in jobs]
    artifacts, attempts, links = artifacts_by_job(tx, ids), attempts_by_job(tx, ids), ctx.links(tx)
    return [
        JobView.from_row(
            job,
            artifacts=artifacts[job.id],
            previews=None,
            attempts=attempts[job.id],
            queue_position=None,
            links=links,
        )
        for job in jobs
    ]


def job_document(ctx: AppContext, job_id: str) -> dict[str, Any]:
    """Return the JSON document of a job that exists."""
    with ctx.db.reading() as tx:
        return job_view(ctx, tx, tx.session.get_one(Job, job_id)).document()


def answer(view: View, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return a response with a document."""
    response = jsonify(view.document())
    response.status_code = status
    return response


def conditional_answer(view: View) -> Response:
    """Return a response with a document and its ETag; 304 if the caller already has this document."""
    document = view.document()
    response = jsonify(document)
    response.set_etag(hashlib.sha256(repr(document).encode()).hexdigest()[:32])
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response
