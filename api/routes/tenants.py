"""`/v1/tenants`: what operators set for tenants; for admins."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import KeyScope, current_principal, requires
from api.context import current_context
from api.presentation import answer
from api.schemas.responses import problems
from api.schemas.tenants import (
    ListTenantsQuery,
    OneTenantView,
    TenantChange,
    TenantList,
    TenantPath,
    TenantUsage,
    TenantView,
)
from jobs.db.database import Transaction
from jobs.service.scheduling.queue_counters import queued_of_tenant
from jobs.service.tenant_limits import stored_result_bytes, stored_upload_bytes, trigger_count
from jobs.tenants.service import change_tenant, known_tenants, restore_defaults, tenant_values

tenants_api = APIBlueprint("tenants", __name__, url_prefix="/v1/tenants", abp_tags=[Tag(name="tenants")])


@tenants_api.get("", summary="List tenants", responses={"200": TenantList, **problems(422, 503)})
@requires(KeyScope.ADMIN)
def list_all(query: ListTenantsQuery) -> Response:
    """Returns a page of the tenants that have keys or settings of their own, by name."""
    with current_context().platform_db.reading() as tx:
        page = known_tenants(tx, cursor=query.cursor, limit=query.limit)
        data = [TenantView(tenant=name, **tenant_values(tx, name)) for name in page.tenants]
    return answer(TenantList(data=data, next_cursor=page.next_cursor))


@tenants_api.get("/<tenant>", summary="Get a tenant", responses={"200": OneTenantView, **problems(422, 503)})
@requires(KeyScope.ADMIN)
def get_one(path: TenantPath) -> Response:
    """Returns what is set for a tenant, and what it has now. A name that was never used has the defaults."""
    with current_context().platform_db.reading() as tx:
        return answer(_view(tx, path.tenant))


@tenants_api.patch(
    "/<tenant>",
    summary="Change a tenant's settings",
    responses={"200": OneTenantView, **problems(400, 411, 413, 415, 422, 503)},
)
@requires(KeyScope.ADMIN)
def change(path: TenantPath, body: TenantChange) -> Response:
    """Changes the given fields. Limits of requests hold a few seconds later, the others from the next request on."""
    with current_context().platform_db.transaction() as tx:
        change_tenant(tx, path.tenant, body.model_dump(exclude_unset=True), actor=current_principal().actor)
        view = _view(tx, path.tenant)
    return answer(view)


@tenants_api.delete("/<tenant>", summary="Restore a tenant's defaults", responses={"204": None, **problems(422, 503)})
@requires(KeyScope.ADMIN)
def restore(path: TenantPath) -> Response:
    """Removes everything that is set for a tenant. Its keys and jobs stay. Idempotent."""
    with current_context().platform_db.transaction() as tx:
        restore_defaults(tx, path.tenant, actor=current_principal().actor)
    return Response(status=HTTPStatus.NO_CONTENT)


def _view(tx: Transaction, tenant: str) -> OneTenantView:
    with tx.as_tenant(tenant) as own:
        usage = TenantUsage(
            queued=queued_of_tenant(own, tenant),
            upload_bytes=stored_upload_bytes(own),
            result_bytes=stored_result_bytes(own),
            triggers=trigger_count(own),
        )
    return OneTenantView(tenant=tenant, usage=usage, **tenant_values(tx, tenant))
