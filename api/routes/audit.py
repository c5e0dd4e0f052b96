"""`/v1/audit`: what operators and repairs changed; for admins."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import KeyScope, requires
from api.context import current_context
from api.presentation import answer
from api.schemas.api_keys import AuditEventView, AuditList, ListAuditQuery
from api.schemas.responses import problems
from jobs.service.audit import list_audit

audit_api = APIBlueprint("audit", __name__, abp_tags=[Tag(name="audit")])


@audit_api.get("/v1/audit", summary="List the audit", responses={"200": AuditList, **problems(422, 503)})
@requires(KeyScope.ADMIN)
def list_all(query: ListAuditQuery) -> Response:
    """Returns a page of what was changed outside of the normal life of jobs, newest first, over all tenants."""
    with current_context().platform_db.reading() as tx:
        page = list_audit(tx, action=query.action, cursor=query.cursor, limit=query.limit)
        data = [AuditEventView.from_row(row) for row in page.events]
    return answer(AuditList(data=data, next_cursor=page.next_cursor))
