"""`/healthz` and `/readyz`: liveness and readiness."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import open_to_all
from api.context import current_context
from api.presentation import answer
from api.schemas.health import HealthView, ReadyView
from api.schemas.responses import open_problems
from jobs.queue import Broker

log = logging.getLogger(__name__)

health_api = APIBlueprint("health", __name__, abp_tags=[Tag(name="health")])


@health_api.get("/healthz", summary="Liveness", responses={"200": HealthView, **open_problems(422)})
@open_to_all
def healthz() -> Response:
    """Checks this process only: restarting it would not repair an unreachable database."""
    return answer(HealthView(status="ok"))


@health_api.get("/readyz", summary="Readiness", responses={"200": ReadyView, "503": ReadyView, **open_problems(422)})
@open_to_all
def readyz() -> Response:
    """Checks database, broker and storage; 503 when one does not answer. Answers within two seconds."""
    ctx = current_context()
    checks: dict[str, Callable[[], None]] = {"database": ctx.database.check, "storage": ctx.store.check}
    if isinstance(ctx.broker, Broker):
        checks["broker"] = ctx.broker.check
    failures = ctx.readiness.failures(checks)
    for name, why in failures.items():
        if ctx.log_limit.allows(f"readiness of the {name}"):
            log.warning("not ready: the %s does not answer (said once a minute): %s", name, why)
    view = ReadyView(
        status="down" if failures else "ready", checks={name: "down" if name in failures else "ok" for name in checks}
    )
    return answer(view, HTTPStatus.SERVICE_UNAVAILABLE if failures else HTTPStatus.OK)
