"""`/healthz` and `/readyz`: liveness and readiness."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy.exc import SQLAlchemyError

from api.context import current_context
from api.schemas.health import HealthView, ReadyView
from api.schemas.responses import problems
from jobs.queue import Broker, BrokerUnavailableError
from jobs.storage.errors import StorageError

log = logging.getLogger(__name__)

health_api = APIBlueprint("health", __name__, abp_tags=[Tag(name="health")])


@health_api.get("/healthz", summary="Liveness", responses={"200": HealthView, **problems(422)})
def healthz() -> Response:
    """Checks this process only: an unreachable database is no reason to restart it."""
    return jsonify({"status": "ok"})


@health_api.get("/readyz", summary="Readiness", responses={"200": ReadyView, "503": ReadyView, **problems(422)})
def readyz() -> Response:
    """Checks database, broker and storage, each by name; 503 when one does not answer."""
    ctx = current_context()
    checks: dict[str, Callable[[], None]] = {"database": ctx.db.check, "storage": ctx.store.check}
    if isinstance(ctx.broker, Broker):
        checks["broker"] = ctx.broker.check
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
