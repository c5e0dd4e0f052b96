"""`/v1/workers`: list worker processes, drain one."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import KeyScope, current_principal, requires
from api.context import AppContext, current_context
from api.presentation import answer
from api.schemas.responses import problems
from api.schemas.workers import WorkerList, WorkerPath, WorkerView
from jobs.db.database import Transaction
from jobs.db.tables import Worker
from jobs.lifecycle import DisplayedWorkerState
from jobs.service.audit import record_action
from jobs.service.queries import list_workers, running_jobs
from jobs.service.workers import request_drain

workers_api = APIBlueprint("workers", __name__, abp_tags=[Tag(name="workers")])


@workers_api.get("/v1/workers", summary="List workers", responses={"200": WorkerList, **problems(422, 503)})
def list_all() -> Response:
    """Returns every worker process with its device, running jobs, memory and last heartbeat, and counts by state.

    Hosts and jobs of others are for admins: other keys get the counts alone, and `data` is empty.
    """
    ctx = current_context()
    with ctx.platform_db.reading() as tx:
        running = running_jobs(tx)
        views = [_view(ctx, tx, row, running) for row in list_workers(tx)]
    counts = Counter(view.state for view in views)
    return answer(
        WorkerList(
            data=views if current_principal().is_admin else [],
            counts={state: counts[state] for state in DisplayedWorkerState},
        )
    )


@workers_api.post(
    "/v1/workers/<worker_id>/drain",
    summary="Drain a worker",
    responses={"202": WorkerView, "200": WorkerView, **problems(403, 404, 411, 415, 422, 503)},
)
@requires(KeyScope.ADMIN)
def drain_worker(path: WorkerPath) -> Response:
    """The worker claims no more jobs, finishes or releases its running jobs, and exits. It is not restarted.

    Idempotent. 202: requested; the worker learns of it with its next heartbeat. 200: it has already stopped.
    """
    ctx = current_context()
    with ctx.platform_db.transaction() as tx:
        worker = request_drain(tx, path.worker_id)
        record_action(tx, current_principal().actor, "worker.drain", worker.id)
        view = _view(ctx, tx, worker, running_jobs(tx))
    stopped = view.state is DisplayedWorkerState.STOPPED
    return answer(view, HTTPStatus.OK if stopped else HTTPStatus.ACCEPTED)


def _view(ctx: AppContext, tx: Transaction, row: Worker, running: dict[str, list[str]]) -> WorkerView:
    return WorkerView.from_row(row, running_jobs=running.get(row.id, []), now=tx.now, lost_after_s=ctx.lost_after_s)
