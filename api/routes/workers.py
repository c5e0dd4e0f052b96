"""`/v1/workers`: the worker processes, and draining one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag

from api.auth import current_tenant
from api.context import current_context
from api.presentation import iso
from api.schemas.responses import problems
from api.schemas.workers import WorkerList, WorkerPath, WorkerView
from jobs.db.database import Transaction
from jobs.db.tables import Worker
from jobs.service.queries import is_lost, list_workers, running_jobs
from jobs.service.workers import request_drain

workers_api = APIBlueprint("workers", __name__, abp_tags=[Tag(name="workers")])


@workers_api.get("/v1/workers", summary="List workers", responses={"200": WorkerList, **problems(422, 503)})
def list_all() -> Response:
    """Every worker process with its device, running jobs, memory and last heartbeat."""
    ctx = current_context()
    current_tenant()
    with ctx.db.reading() as tx:
        held = running_jobs(tx)
        data = [_present(tx, row, held.get(row.id, []), ctx.lost_after_s) for row in list_workers(tx)]
    return jsonify({"data": data})


@workers_api.post(
    "/v1/workers/<worker_id>/drain",
    summary="Drain a worker",
    responses={"202": WorkerView, "200": WorkerView, **problems(403, 404, 415, 422, 503)},
)
def drain_worker(path: WorkerPath) -> Response:
    """The worker takes no more jobs, finishes or releases its running jobs, and exits. It is not restarted.

    Idempotent. 202: requested; the worker sees it within one heartbeat. 200: it has already stopped.
    """
    ctx = current_context()
    current_tenant()
    with ctx.db.transaction() as tx:
        worker = request_drain(tx, path.worker_id)
        document = _present(tx, worker, running_jobs(tx).get(worker.id, []), ctx.lost_after_s)
    response = jsonify(document)
    response.status_code = HTTPStatus.OK if document["state"] == "stopped" else HTTPStatus.ACCEPTED
    return response


def _present(tx: Transaction, row: Worker, held: list[str], lost_after_s: float) -> dict[str, Any]:
    return {
        "id": row.id,
        "hostname": row.hostname,
        "pid": row.pid,
        "device": row.device,
        "state": _state(row, held, is_lost(row, tx.now, lost_after_s)),
        "drain_requested": row.drain_requested_at is not None,
        "slots": row.slots,
        "variants": row.variants,
        "variants_loaded": row.variants_loaded,
        "memory_bytes": row.memory_bytes,
        "gpu": row.gpu,
        "running_jobs": held,
        "started_at": iso(row.started_at),
        "heartbeat_at": iso(row.heartbeat_at),
    }


def _state(row: Worker, held: list[str], lost: bool) -> str:
    if row.stopped_at is not None:
        return "stopped"
    if lost:
        return "lost"
    if row.state == "ready":
        return "busy" if held else "idle"
    return row.state
