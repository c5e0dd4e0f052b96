"""`/v1/api-keys`: make, list, rotate and revoke keys; for admins."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import KeyScope, current_principal, requires
from api.context import current_context
from api.presentation import answer
from api.schemas.api_keys import (
    ApiKeyList,
    ApiKeyPath,
    ApiKeyView,
    ListApiKeysQuery,
    NewApiKey,
    NewApiKeyView,
    RotateApiKey,
    TenantQuery,
)
from api.schemas.responses import problems
from jobs.api_keys.service import create_key, get_key, list_keys, revoke_key, rotate_key

api_keys_api = APIBlueprint("api_keys", __name__, url_prefix="/v1/api-keys", abp_tags=[Tag(name="api-keys")])


@api_keys_api.post(
    "", summary="Create an API key", responses={"201": NewApiKeyView, **problems(400, 411, 413, 415, 422, 503)}
)
@requires(KeyScope.ADMIN)
def create(body: NewApiKey) -> Response:
    """Returns the key. Its text is shown only now: the server keeps its SHA-256 alone."""
    ctx, principal = current_context(), current_principal()
    ctx.check_disk()
    with ctx.platform_db.transaction() as tx:
        new = create_key(
            tx,
            tenant=body.tenant or principal.tenant,
            name=body.name,
            scopes=body.scopes,
            expires_at=body.expires_at,
            actor=principal.actor,
        )
        view = NewApiKeyView.from_new(new, tx.now)
    return _shown_once(view)


@api_keys_api.get("", summary="List API keys", responses={"200": ApiKeyList, **problems(422, 503)})
@requires(KeyScope.ADMIN)
def list_all(query: ListApiKeysQuery) -> Response:
    """Returns a page of a tenant's keys, newest first, without their texts."""
    with current_context().platform_db.reading() as tx:
        page = list_keys(tx, tenant=_tenant(query.tenant), cursor=query.cursor, limit=query.limit, active=query.active)
        data = [ApiKeyView.from_row(row, tx.now) for row in page.keys]
    return answer(ApiKeyList(data=data, next_cursor=page.next_cursor))


@api_keys_api.get("/<key_id>", summary="Get an API key", responses={"200": ApiKeyView, **problems(404, 422, 503)})
@requires(KeyScope.ADMIN)
def get_one(path: ApiKeyPath, query: TenantQuery) -> Response:
    """Returns the key, without its text. 404 for a key of another tenant, unless `tenant` names that."""
    with current_context().platform_db.reading() as tx:
        return answer(ApiKeyView.from_row(get_key(tx, path.key_id, tenant=_tenant(query.tenant)), tx.now))


@api_keys_api.delete("/<key_id>", summary="Revoke an API key", responses={"204": None, **problems(404, 422, 503)})
@requires(KeyScope.ADMIN)
def revoke(path: ApiKeyPath, query: TenantQuery) -> Response:
    """Every process refuses the key from now on. Idempotent; the key stays listed as `revoked`."""
    with current_context().platform_db.transaction() as tx:
        revoke_key(tx, path.key_id, tenant=_tenant(query.tenant), actor=current_principal().actor)
    return Response(status=HTTPStatus.NO_CONTENT)


@api_keys_api.post(
    "/<key_id>/rotate",
    summary="Rotate an API key",
    responses={"201": NewApiKeyView, **problems(400, 404, 409, 411, 413, 415, 422, 503)},
)
@requires(KeyScope.ADMIN)
def rotate(path: ApiKeyPath, query: TenantQuery, body: RotateApiKey) -> Response:
    """Makes a key with the same name, scopes and lifetime. The old one stays valid for `grace_s`, or is revoked now.

    409: the key is not valid any more, or has been replaced already.
    """
    ctx, principal = current_context(), current_principal()
    with ctx.platform_db.transaction() as tx:
        new = rotate_key(tx, path.key_id, tenant=_tenant(query.tenant), grace_s=body.grace_s, actor=principal.actor)
        view = NewApiKeyView.from_new(new, tx.now)
    return _shown_once(view)


def _tenant(named: str | None) -> str:
    return named or current_principal().tenant


def _shown_once(view: NewApiKeyView) -> Response:
    response = answer(view, HTTPStatus.CREATED)
    base = current_context().settings.public_url.rstrip("/")
    named = "" if view.tenant == current_principal().tenant else f"?tenant={view.tenant}"
    response.headers["Location"] = f"{base}/v1/api-keys/{view.id}{named}"
    response.headers["Cache-Control"] = "no-store"
    return response
