"""What is sent: a function for each shape of body, and the limit of its size.

Bodies are made when they are sent, so that signed links in them are fresh. What a renderer returns must tell the state
as of the event, not a later one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from jobs.db.database import Transaction
from jobs.db.webhook_tables import WebhookDelivery
from jobs.lifecycle import WebhookBody
from jobs.links import ResultLinks
from jobs.webhooks.batch_document import batch_document
from jobs.webhooks.document_times import shown
from jobs.webhooks.fal_body import fal_body
from jobs.webhooks.job_document import job_document
from jobs.webhooks.replicate_body import replicate_body

MAX_BODY_BYTES = 20_000

Document = dict[str, Any]
Renderer = Callable[[Transaction, WebhookDelivery, ResultLinks], Document]
"""Returns the body of a delivery.

Raises:
    SubjectGoneError: the job or batch was deleted.
"""


def envelope(delivery: WebhookDelivery, data: Document) -> Document:
    """Return the body that Standard Webhooks recommends."""
    document = {"type": delivery.event.type, "timestamp": shown(delivery.occurred_at)}
    if delivery.position is not None:
        document["event_id"] = str(delivery.position)
    return {**document, "data": data}


def job_body(tx: Transaction, delivery: WebhookDelivery, links: ResultLinks) -> Document:
    """Return the body that tells of a job; raises what `Renderer` does."""
    return envelope(delivery, job_document(tx, delivery, links))


def batch_body(tx: Transaction, delivery: WebhookDelivery, links: ResultLinks) -> Document:
    """Return the body that tells of a batch; raises what `Renderer` does."""
    return envelope(delivery, batch_document(tx, delivery, links))


def trial_body(_tx: Transaction, delivery: WebhookDelivery, _links: ResultLinks) -> Document:
    """Return the body of a test."""
    return envelope(delivery, {"endpoint": delivery.endpoint_id, "message": "This is a test."})


RENDERERS: dict[WebhookBody, Renderer] = {
    WebhookBody.JOB: job_body,
    WebhookBody.REPLICATE: replicate_body,
    WebhookBody.FAL: fal_body,
    WebhookBody.BATCH: batch_body,
    WebhookBody.TEST: trial_body,
}


def render(tx: Transaction, delivery: WebhookDelivery, links: ResultLinks) -> str:
    """Return the body of a delivery as JSON of less than 20 KB.

    Raises:
        SubjectGoneError: the job or batch was deleted.
        KeyError: this version has no renderer for the shape.
    """
    return encode(RENDERERS[delivery.body_kind](tx, delivery, links))


def encode(document: Document) -> str:
    """Return a document as JSON of at most `MAX_BODY_BYTES`: the largest members are shortened where needed.

    `truncated` names the members that were shortened or left out; the document's links lead to the whole.
    """
    text = _json(document)
    inner = document["data"] if isinstance(document.get("data"), dict) else document
    while len(text.encode()) > MAX_BODY_BYTES:
        kept = {"id", "links", "urls", "truncated", "data"}
        name = max(inner.keys() - kept, key=lambda member: len(_json(inner[member])), default=None)
        if name is None:
            raise ValueError(f"A body of {len(text.encode())} bytes has nothing that can be shortened.")
        inner["truncated"] = sorted({*inner.get("truncated", ()), name})
        inner[name] = _shortened(inner[name])
        text = _json(document)
    return text


def _shortened(value: Any) -> Any:
    if isinstance(value, str | list):
        return value[: len(value) // 2] if len(value) > 1 else type(value)()
    if isinstance(value, dict) and len(value) > 1:
        return dict(list(value.items())[: len(value) // 2])
    return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
