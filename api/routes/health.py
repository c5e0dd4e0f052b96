"""`/healthz` and `/readyz`: liveness and readiness."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy.exc import SQLAlchemyError

from api.context import current_context
from api.presentation import answer
from api.schemas.health import HealthView, ReadyView
from api.schemas.responses import problems
from jobs.queue import Broker, BrokerUnavailableError
from jobs.storage.errors import StorageError

log = logging.getLogger(__name__)

health_api = APIBlueprint("health", __name__, abp_tags=[Tag(name="health")])


@health_api.get("/healthz", summary="Liveness", responses={"200": HealthView, **problems(422)})
def healthz() -> Response:
    """Checks this process only: restarting it would not repair an unreachable database."""
    return answer(HealthView(status="ok"))


@health_api.get("/readyz", summary="Readiness", responses={"200": ReadyView, "503": ReadyView, **problems(422)})
def readyz() -> Response:
    """Checks database, broker and storage; 503 when one does not answer."""
    ctx = current_context()
    checks: dict[str, Callable[[], None]] = {"database": ctx.db.check, "storage": ctx.store.check}
    if isinstance(ctx.broker, Broker):
        checks["broker"] = ctx.broker.check
    down = set()
    for name, check in checks.items():
        try:
            check()
        except (SQLAlchemyError, StorageError, BrokerUnavailableError) as exc:
            if ctx.log_limit.allows(f"readiness of the {name}"):
                log.warning("not ready: the %s does not answer (said once a minute): %s", name, exc)
            down.add(name)
    view = ReadyView(
        status="down" if down else "ready", checks={name: "down" if name in down else "ok" for name in checks}
    )
    return answer(view, HTTPStatus.SERVICE_UNAVAILABLE if down else HTTPStatus.OK)
