"""`/v1/webhooks`: endpoints, secrets, the delivery log, replay."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from api.auth import KeyScope, requires
from api.context import AppContext, current_context
from api.presentation import answer
from api.schemas.jobs import PageLinks
from api.schemas.responses import problems
from api.schemas.view import View
from api.schemas.webhooks import (
    DeliveryPage,
    DeliveryPath,
    DeliveryView,
    EndpointList,
    EndpointPath,
    EndpointUpdate,
    EndpointView,
    ListDeliveriesQuery,
    ListEndpointsQuery,
    ListMessagesQuery,
    MessagePage,
    MessageView,
    NewEndpoint,
    NewEndpointView,
    ReplayBody,
    ReplayView,
    RotateBody,
    SecretView,
)
from jobs.db.database import Transaction
from jobs.errors import RequestInvalidError
from jobs.lifecycle import WebhookEvent
from jobs.outbound.policy import OutboundPolicy
from jobs.webhooks import endpoints, history
from jobs.webhooks.history import DeliveryFilter, LoggedDelivery
from jobs.webhooks.job_url import url_problem
from jobs.webhooks.preview import preview_messages
from jobs.webhooks.tenant_secret import rotate_tenant_secret, tenant_secret

webhooks_api = APIBlueprint("webhooks", __name__, url_prefix="/v1/webhooks", abp_tags=[Tag(name="webhooks")])
_CHANGES = problems(400, 404, 411, 413, 415, 422, 503)


@webhooks_api.post(
    "/endpoints",
    summary="Create a webhook endpoint",
    responses={"201": NewEndpointView, **problems(400, 409, 411, 413, 415, 422, 503, 507)},
)
def create(body: NewEndpoint) -> Response:
    """From now on the URL receives a signed POST for each of these events. The answer has the secret.

    409: there are too many endpoints.
    """
    ctx = current_context()
    _check_url(ctx, body.url)
    ctx.check_disk()
    with ctx.db.transaction() as tx:
        events = [WebhookEvent(name) for name in body.events]
        made = endpoints.create_endpoint(tx, body.url, events=events, description=body.description or None)
        view = NewEndpointView.from_row(made, ctx.links(tx))
    response = _secret_answer(view, HTTPStatus.CREATED)
    response.headers["Location"] = view.links.self_
    return response


@webhooks_api.get("/endpoints", summary="List webhook endpoints", responses={"200": EndpointList, **problems(422, 503)})
def list_all(query: ListEndpointsQuery) -> Response:
    """Returns a page of endpoints, newest first; `links.next` is the next page."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        page, links = endpoints.list_endpoints(tx, cursor=query.cursor, limit=query.limit), ctx.links(tx)
        data = [EndpointView.from_row(one, links) for one in page.endpoints]
        following = _next_page(ctx, tx, "endpoints", page.next_cursor)
    return answer(EndpointList(data=data, next_cursor=page.next_cursor, links=following))


@webhooks_api.get(
    "/endpoints/<endpoint_id>",
    summary="Get a webhook endpoint",
    responses={"200": EndpointView, **problems(404, 422, 503)},
)
def get_one(path: EndpointPath) -> Response:
    """Returns the endpoint: whether it works, since when it fails, why it is disabled."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        return answer(EndpointView.from_row(endpoints.get_endpoint(tx, path.endpoint_id), ctx.links(tx)))


@webhooks_api.patch(
    "/endpoints/<endpoint_id>",
    summary="Change, enable or disable a webhook endpoint",
    responses={"200": EndpointView, **_CHANGES},
)
def change(path: EndpointPath, body: EndpointUpdate) -> Response:
    """Changes what is given. Deliveries that were dropped while it was disabled can be replayed."""
    ctx = current_context()
    if body.url is not None:
        _check_url(ctx, body.url)
    with ctx.db.transaction() as tx:
        changed = endpoints.change_endpoint(
            tx,
            path.endpoint_id,
            url=body.url,
            events=None if body.events is None else [WebhookEvent(name) for name in body.events],
            description=body.description,
            enabled=body.enabled,
        )
        return answer(EndpointView.from_row(changed, ctx.links(tx)))


@webhooks_api.delete(
    "/endpoints/<endpoint_id>",
    summary="Delete a webhook endpoint",
    responses={"204": None, **problems(404, 422, 503)},
)
def delete(path: EndpointPath) -> Response:
    """Deletes the endpoint and its deliveries; what is pending is not sent."""
    with current_context().db.transaction() as tx:
        endpoints.delete_endpoint(tx, path.endpoint_id)
    return Response(status=HTTPStatus.NO_CONTENT)


@webhooks_api.get(
    "/endpoints/<endpoint_id>/secret",
    summary="Get the secret of a webhook endpoint",
    responses={"200": SecretView, **problems(403, 404, 422, 503)},
)
@requires(KeyScope.JOBS_WRITE)
def get_secret(path: EndpointPath) -> Response:
    """Returns the secret that verifies the signatures. Needs a key that may write."""
    with current_context().db.reading() as tx:
        return _secret_answer(SecretView.from_row(endpoints.get_endpoint(tx, path.endpoint_id), tx.now))


@webhooks_api.post(
    "/endpoints/<endpoint_id>/secret/rotate",
    summary="Rotate the secret of a webhook endpoint",
    responses={"200": SecretView, **_CHANGES},
)
def rotate_secret(path: EndpointPath, body: RotateBody) -> Response:
    """Makes a new secret. Until `overlap_s` has passed each delivery has a signature by either secret."""
    with current_context().db.transaction() as tx:
        row = endpoints.rotate_endpoint_secret(tx, path.endpoint_id, overlap_s=body.overlap_s)
        return _secret_answer(SecretView.from_row(row, tx.now))


@webhooks_api.post(
    "/endpoints/<endpoint_id>/test",
    summary="Send a test to a webhook endpoint",
    responses={"202": DeliveryView, **_CHANGES, **problems(409)},
)
def send_test(path: EndpointPath) -> Response:
    """Sends an event `webhook.test`; `links.self` of the answer tells what became of it.

    409: the endpoint is disabled.
    """
    ctx = current_context()
    with ctx.db.transaction() as tx:
        return _delivery(ctx, tx, history.send_test(tx, path.endpoint_id), HTTPStatus.ACCEPTED)


@webhooks_api.get(
    "/secret",
    summary="Get the secret of the URLs that jobs name",
    responses={"200": SecretView, **problems(403, 422, 503)},
)
@requires(KeyScope.JOBS_WRITE)
def get_own_secret() -> Response:
    """Returns the secret that verifies webhooks to a job's `webhook_url`. Needs a key that may write."""
    with current_context().db.transaction() as tx:
        return _secret_answer(SecretView.from_row(tenant_secret(tx), tx.now))


@webhooks_api.post(
    "/secret/rotate",
    summary="Rotate the secret of the URLs that jobs name",
    responses={"200": SecretView, **problems(400, 411, 413, 415, 422, 503)},
)
def rotate_own_secret(body: RotateBody) -> Response:
    """Makes a new secret. Until `overlap_s` has passed each delivery has a signature by either secret."""
    with current_context().db.transaction() as tx:
        return _secret_answer(SecretView.from_row(rotate_tenant_secret(tx, overlap_s=body.overlap_s), tx.now))


@webhooks_api.get(
    "/deliveries", summary="List webhook deliveries", responses={"200": DeliveryPage, **problems(422, 503)}
)
def list_deliveries(query: ListDeliveriesQuery) -> Response:
    """Returns a page of the delivery log, newest first; `links.next` is the next page."""
    ctx = current_context()
    wanted = DeliveryFilter(query.endpoint_id, query.state, query.job_id)
    with ctx.db.reading() as tx:
        page, links = history.list_deliveries(tx, wanted, cursor=query.cursor, limit=query.limit), ctx.links(tx)
        data = [DeliveryView.from_logged(one, tries=None, links=links) for one in page.deliveries]
        following = _next_page(ctx, tx, "deliveries", page.next_cursor)
    return answer(DeliveryPage(data=data, next_cursor=page.next_cursor, links=following))


@webhooks_api.get(
    "/deliveries/<delivery_id>",
    summary="Get a webhook delivery",
    responses={"200": DeliveryView, **problems(404, 422, 503)},
)
def get_delivery(path: DeliveryPath) -> Response:
    """Returns the delivery with all its tries and the beginning of each answer."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        return _delivery(ctx, tx, history.get_delivery(tx, path.delivery_id), HTTPStatus.OK)


@webhooks_api.post(
    "/deliveries/<delivery_id>/replay",
    summary="Send a webhook delivery again",
    responses={"202": DeliveryView, **_CHANGES, **problems(409)},
)
def replay_one(path: DeliveryPath) -> Response:
    """Sends it again with the same `webhook-id`; its tries begin anew.

    409: it is still being tried, or its endpoint is disabled.
    """
    ctx = current_context()
    with ctx.db.transaction() as tx:
        return _delivery(ctx, tx, history.replay(tx, path.delivery_id), HTTPStatus.ACCEPTED)


@webhooks_api.post(
    "/replay",
    summary="Send failed webhook deliveries again",
    responses={"202": ReplayView, **_CHANGES, **problems(409)},
)
def replay_failed(body: ReplayBody) -> Response:
    """Sends again what failed or was dropped of the events since a time, in their order.

    Deliveries to disabled endpoints are left out. 409: the endpoint that is named is disabled.
    """
    with current_context().db.transaction() as tx:
        replayed, more = history.replay_failed(tx, since=body.since, endpoint_id=body.endpoint_id)
    return answer(ReplayView(replayed=replayed, has_more=more), HTTPStatus.ACCEPTED)


@webhooks_api.get("/messages", summary="Preview webhooks", responses={"200": MessagePage, **problems(422, 503)})
def list_messages(query: ListMessagesQuery) -> Response:
    """Returns what an endpoint for all events would have received; nothing is sent.

    For developers without a public URL: `mmaudio webhooks listen` signs and forwards these messages.
    """
    ctx = current_context()
    with ctx.db.reading() as tx:
        after = None if query.after is None else int(query.after)
        links = ctx.links(tx)
        page = preview_messages(tx, after=after, links=links, limit=query.limit)
    data = [MessageView.from_message(message) for message in page.messages]
    return answer(MessagePage(data=data, next_after=str(page.next_after), has_more=page.has_more))


def _check_url(ctx: AppContext, url: str) -> None:
    problem = url_problem("url", url, OutboundPolicy.for_webhooks(ctx.settings))
    if problem is not None:
        raise RequestInvalidError([problem])


def _delivery(ctx: AppContext, tx: Transaction, found: LoggedDelivery, status: HTTPStatus) -> Response:
    tries = history.tries_of(tx, found.row)
    view = DeliveryView.from_logged(found, tries=tries, links=ctx.links(tx))
    return answer(view, status)


def _secret_answer(view: View, status: HTTPStatus = HTTPStatus.OK) -> Response:
    response = answer(view, status)
    response.headers["Cache-Control"] = "no-store"
    return response


def _next_page(ctx: AppContext, tx: Transaction, kind: str, cursor: str | None) -> PageLinks:
    if cursor is None:
        return PageLinks(next=None)
    return PageLinks(next=ctx.links(tx).webhooks_page(kind, urlencode({**request.args.to_dict(), "cursor": cursor})))
