"""The state of the house: `/v1/variants`, `/v1/queue`, `/v1/workers`, `/healthz`, `/readyz`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy.exc import SQLAlchemyError

from api.auth import current_tenant
from api.platform import platform
from api.presentation import iso
from api.schemas.answers import problems
from api.schemas.house import HealthView, QueueList, ReadyView, VariantList, WorkerList, WorkerPath, WorkerView
from jobs.db.database import Transaction
from jobs.db.tables import Worker
from jobs.queue import Broker, BrokerUnavailableError
from jobs.request import MAX_NUM_SAMPLES, MAX_NUM_STEPS
from jobs.service.positions import queue_sums
from jobs.service.queries import is_lost, jobs_in_hand, known_workers
from jobs.service.workers import request_drain
from jobs.storage.errors import StorageError
from jobs.variants import VARIANTS

log = logging.getLogger(__name__)

house_api = APIBlueprint("house", __name__, abp_tags=[Tag(name="house")])


@house_api.get("/v1/variants", summary="Which models there are", responses={"200": VariantList, **problems(422, 503)})
def variants() -> Response:
    """The variants that may be asked for, the default first, with limits and licence."""
    here = platform()
    with here.db.reading() as tx:
        offered, served = here.offered_variants(tx), set(here.served_variants(tx))
    known = [VARIANTS[name] for name in offered if name in VARIANTS]
    data = [
        {
            "name": facts.name,
            "installed": facts.name in served,
            "default": place == 0,
            "sample_rate_hz": facts.sample_rate_hz,
            "min_duration_s": facts.min_duration_s,
            "max_duration_s": facts.max_duration_s,
            "default_duration_s": facts.default_duration_s,
            "licence": facts.licence,
            "note": facts.note,
        }
        for place, facts in enumerate(known)
    ]
    limits = {
        "max_upload_bytes": here.settings.max_upload_bytes,
        "max_pixels": here.settings.max_pixels,
        "max_source_duration_s": here.settings.max_source_duration_s,
        "max_num_steps": MAX_NUM_STEPS,
        "max_num_samples": MAX_NUM_SAMPLES,
    }
    return jsonify({"data": data, "limits": limits})


@house_api.get("/v1/queue", summary="How long the queues are", responses={"200": QueueList, **problems(422, 503)})
def queue() -> Response:
    """Sums over all tenants, a variant a row: what an autoscaler reads."""
    here = platform()
    with here.db.reading() as tx:
        sums = queue_sums(tx, here.offered_variants(tx))
    return jsonify(
        {
            "data": [vars(row) for row in sums],
            "queued": sum(row.queued for row in sums),
            "running": sum(row.running for row in sums),
        }
    )


@house_api.get("/v1/workers", summary="Who works", responses={"200": WorkerList, **problems(422, 503)})
def workers() -> Response:
    """The worker processes: device, load, memory, when they were last heard."""
    here = platform()
    current_tenant()
    with here.db.reading() as tx:
        held = jobs_in_hand(tx)
        data = [_present(tx, row, held.get(row.id, []), here.lost_after_s) for row in known_workers(tx)]
    return jsonify({"data": data})


@house_api.post(
    "/v1/workers/<worker_id>/drain",
    summary="Have a worker end",
    responses={"202": WorkerView, "200": WorkerView, **problems(403, 404, 415, 422, 503)},
)
def drain_worker(path: WorkerPath) -> Response:
    """It takes no more jobs, finishes what it runs or hands it back, and ends; it is not started again by itself.

    Idempotent. 202: asked for, and heard within a heartbeat. 200: it has ended already.
    """
    here = platform()
    current_tenant()
    with here.db.transaction() as tx:
        worker = request_drain(tx, path.worker_id)
        document = _present(tx, worker, jobs_in_hand(tx).get(worker.id, []), here.lost_after_s)
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
        "jobs_in_hand": held,
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


@house_api.get("/healthz", summary="Is this process alive?", responses={"200": HealthView, **problems(422)})
def healthz() -> Response:
    """Looks at nothing else: a database that is away is no reason to restart this process."""
    return jsonify({"status": "ok"})


@house_api.get("/readyz", summary="Can it serve?", responses={"200": ReadyView, "503": ReadyView, **problems(422)})
def readyz() -> Response:
    """Database, broker and storage, each by name; 503 when one does not answer."""
    here = platform()
    checks: dict[str, Callable[[], None]] = {"database": here.db.check, "storage": here.store.check}
    if isinstance(here.broker, Broker):
        checks["broker"] = here.broker.check
    down = {}
    for name, check in checks.items():
        try:
            check()
        except (SQLAlchemyError, StorageError, BrokerUnavailableError) as exc:
            log.warning("%s: %s", name, exc)
            down[name] = type(exc).__name__
    response = jsonify(
        {"status": "down" if down else "ready", "checks": {n: "down" if n in down else "ok" for n in checks}}
    )
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE if down else HTTPStatus.OK
    return response
