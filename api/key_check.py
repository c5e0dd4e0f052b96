"""Finds the sender of each request, by its key or its signed link, before anything reads the body."""

from __future__ import annotations

import logging

from flask import Flask, current_app, request

from api.auth import (
    WITHOUT_KEYS,
    Access,
    Principal,
    current_principal,
    declared_access,
    default_scope,
    set_principal,
    signed_method,
)
from api.bridge.environ import CALLED_BEFORE
from api.bridge.waiting import waited
from api.context import current_context
from api.limits.check import count_request
from jobs.api_keys.authentication import authenticate
from jobs.api_keys.key_text import is_ours
from jobs.api_keys.scope import KeyScope
from jobs.api_keys.service import TENANT_NAME
from jobs.errors import KeyRefusedError, LinkRefusedError, ScopeMissingError

log = logging.getLogger(__name__)

# The second and third are what clients of Replicate and of fal send.
SCHEMES = frozenset({"bearer", "token", "key"})
# Pages and their static files, whose views are mostly not ours.
_OPEN_BLUEPRINTS = frozenset({"dashboard", "openapi", "swagger"})


def register_key_check(app: Flask) -> None:
    """Check the key of every request. Register it before whatever reads the body."""
    app.before_request(_check_sender)


def access_of(app: Flask, endpoint: str, method: str) -> Access | KeyScope:
    """Return what a route demands of the sender."""
    if endpoint.partition(".")[0] in _OPEN_BLUEPRINTS:
        return Access.OPEN
    return declared_access(app.view_functions[endpoint]) or default_scope(method)


def _check_sender() -> None:
    """Set the sender of the request.

    Raises:
        KeyRefusedError: a key is needed and there is none, or the key is not valid.
        ScopeMissingError: the key does not allow this request.
        LinkRefusedError: the link is forged or has expired.
        TooManyRequestsError: the tenant or the key has sent too many requests in this minute.
    """
    if request.endpoint is None or request.method == "OPTIONS":
        return  # 404 and 405 are the same for everybody; OPTIONS says which methods there are
    access = access_of(current_app, request.endpoint, request.method)
    if access is Access.OPEN:
        return
    if access is Access.SIGNED_LINK and ("signature" in request.args or "expires" in request.args):
        set_principal(_of_link())
        return
    principal = _of_key()
    set_principal(principal)
    # A request that waited, for a job or for its own body, comes here a second time.
    if waited() is None and not request.environ.get(CALLED_BEFORE):
        count_request(principal)
    require(access if isinstance(access, KeyScope) else default_scope(request.method))


def require(scope: KeyScope) -> None:
    """Check that the sender's key allows something.

    Raises:
        ScopeMissingError: it does not.
    """
    if scope not in current_principal().scopes:
        raise ScopeMissingError(f"This needs a key with the scope {scope}.")


def _of_key() -> Principal:
    ctx = current_context()
    header = request.headers.get("Authorization", "").strip()
    if not header:
        if ctx.settings.require_api_key:
            raise KeyRefusedError("This server needs an API key; send it as `Authorization: Bearer KEY`.")
        return WITHOUT_KEYS
    scheme, _, text = header.partition(" ")
    key = None
    if scheme.lower() in SCHEMES:
        key = authenticate(ctx.database, text.strip())
    if key is None and not ctx.settings.require_api_key and scheme.lower() in SCHEMES and not is_ours(text.strip()):
        return WITHOUT_KEYS  # clients of hosted services send some key always; ours that is revoked is still refused
    if key is None:
        raise KeyRefusedError("The API key is not valid: it is unknown, revoked or has expired.")
    if key.use_is_due:
        ctx.key_use.note(key.id)
    return Principal(key.tenant, key.scopes, key.id)


def _of_link() -> Principal:
    """Return the sender that a signed link stands for: its tenant, without any scope."""
    ctx = current_context()
    tenant = request.args.get("tenant", "")
    expires, signature = request.args.get("expires", ""), request.args.get("signature", "")
    assert request.endpoint is not None
    method = signed_method(current_app.view_functions[request.endpoint], request.method)
    if not TENANT_NAME.fullmatch(tenant):
        raise LinkRefusedError("This URL names no tenant; get its job or announce its upload again.")
    with ctx.platform_db.reading() as tx:
        now = tx.now
    if not ctx.signer.is_valid(method, request.path, expires, signature, now=now, tenant=tenant):
        raise LinkRefusedError("This URL is not valid or has expired; get its job or announce its upload again.")
    return Principal(tenant, frozenset())
