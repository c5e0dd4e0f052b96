"""`/v1/s3-events`: receives bucket events of MinIO, Ceph RGW and SNS; answers 2xx only once they are committed."""

from __future__ import annotations

import hmac
import json
import logging
from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from werkzeug.exceptions import RequestEntityTooLarge

from api.auth import open_to_all
from api.context import current_context
from api.presentation import answer
from api.schemas.health import HealthView
from api.schemas.responses import open_problems
from api.schemas.triggers import IngestionView
from jobs.errors import EventsRefusedError, EventUnreadableError
from jobs.log_lines import printable
from jobs.triggers.event_parsers.event import UnreadableEventError
from jobs.triggers.event_parsers.message import read_document
from jobs.triggers.event_parsers.sns import SUBSCRIPTION, is_sns

log = logging.getLogger(__name__)

TOKEN_HEADER = "X-MMAudio-Events-Token"  # noqa: S105 - the name of a header
MAX_EVENT_BYTES = 1024 * 1024

s3_events_api = APIBlueprint("s3_events", __name__, url_prefix="/v1/s3-events", abp_tags=[Tag(name="s3-events")])
EVENTS_ENDPOINT = "s3_events.receive"


@s3_events_api.get("", summary="Check the event endpoint", responses={"200": HealthView, **open_problems(422)})
@open_to_all
def probe() -> Response:
    """MinIO calls it (also by HEAD) before it accepts the URL. Needs no token."""
    return answer(HealthView(status="ok"))


@s3_events_api.post(
    "",
    summary="Receive bucket events",
    responses={"200": IngestionView, **open_problems(400, 403, 411, 413, 422, 503, 507)},
)
@open_to_all
def receive() -> Response:
    """Accepts S3 records, SNS messages, EventBridge events, and events of MinIO and Ceph RGW.

    Send the shared token as `Authorization: Bearer TOKEN`, as the password of `Authorization: Basic`, in the header
    `X-MMAudio-Events-Token`, or, where only a URL can be configured, as `?token=TOKEN`.
    """
    ctx = current_context()
    _check_token(ctx.settings.s3_events_token.get_secret_value())
    body = request.get_data()
    if request.content_length is None and len(body) >= MAX_EVENT_BYTES:
        raise RequestEntityTooLarge  # a chunked body was read up to the limit only
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise EventUnreadableError("The body is not JSON.") from exc
    if is_sns(document):
        ctx.sns.check(document)
        if document["Type"] == SUBSCRIPTION:
            ctx.sns.confirm(document)
    try:
        events = read_document(document)
    except UnreadableEventError as exc:
        raise EventUnreadableError(str(exc)) from exc
    result = ctx.ingestion.take(events)
    for variant in result.variants:
        ctx.publish(variant)
    return answer(IngestionView.from_result(result))


def _check_token(expected: str) -> None:
    """Compare the token in constant time, however it was sent."""
    if not expected:
        raise EventsRefusedError("This server accepts no bucket events: MMAUDIO_S3_EVENTS_TOKEN is not set.")
    given = [
        request.headers.get(TOKEN_HEADER, ""),
        request.args.get("token", ""),
        request.headers.get("Authorization", ""),  # MinIO sends a token of two words without `Bearer`
    ]
    if request.authorization is not None:
        given += [request.authorization.token or "", request.authorization.password or ""]
    matching = [hmac.compare_digest(one.encode(errors="replace"), expected.encode()) for one in given]
    if not any(matching):
        _say_refused(any(given))
        raise EventsRefusedError("The shared token is missing or wrong.")


def _say_refused(sent: bool) -> None:
    """Log the sender of events that are refused, once a minute for all senders: it is an operator's wrong setting."""
    if not current_context().log_limit.allows("events token"):
        return
    via = request.headers.get("X-Forwarded-For", "")
    log.warning(
        "refused bucket events from %s%s: the token is %s; further ones are not logged for a minute",
        request.remote_addr,
        f" (X-Forwarded-For: {printable(via[:100])})" if via else "",
        "wrong" if sent else "missing",
    )
