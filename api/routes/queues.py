"""`/v1/queue`: length, age and throughput of each variant's queue."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import current_principal
from api.context import current_context
from api.presentation import answer
from api.schemas.queues import QueueList
from api.schemas.responses import problems
from jobs.service.scheduling.queue_stats import queue_stats

queues_api = APIBlueprint("queues", __name__, abp_tags=[Tag(name="queues")])


@queues_api.get("/v1/queue", summary="Queue statistics", responses={"200": QueueList, **problems(422, 503)})
def list_queues() -> Response:
    """Returns the queue of each variant. Admins see all tenants' jobs, as autoscalers need; others their own."""
    ctx, principal = current_context(), current_principal()
    of_tenant = None if principal.is_admin else principal.tenant
    with ctx.platform_db.reading() as tx:
        return answer(QueueList.from_stats(queue_stats(tx, ctx.offered_variants(tx), of_tenant=of_tenant)))
