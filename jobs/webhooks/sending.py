"""What is tried next, and how a try ended: the part of the senders that is SQL.

A sender claims an endpoint for a while, so that its deliveries go one after another, and records each try before it
begins. After a crash between sending and recording, the delivery is tried again once the claim has ended: the receiver
sees the same `webhook-id` twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Select, and_, func, or_, select, update

from jobs.db.database import Transaction
from jobs.db.webhook_tables import WebhookDelivery, WebhookEndpoint, WebhookTry
from jobs.ids import new_id
from jobs.lifecycle import DeliveryState
from jobs.webhooks.endpoints import disable
from jobs.webhooks.schedule import MAX_TRIES, next_try_at
from jobs.webhooks.signing import valid_secrets
from jobs.webhooks.tenant_secret import secret_of

log = logging.getLogger(__name__)

CLAIM_MARGIN_S = 20.0
"""How much longer than one try a claim lasts: for the database."""
PROBE_AFTER_TRIES = 3
"""From this failure of the oldest delivery on, a later one is tried as well: perhaps only the oldest is refused."""
GONE = 410
_PENDING = WebhookDelivery.state == DeliveryState.PENDING


@dataclass(frozen=True)
class EndpointClaim:
    """The right to send to an endpoint, until it ends."""

    endpoint_id: str
    holder: str
    host: str
    tenant: str
    failing: bool


@dataclass(frozen=True)
class Occupied:
    """What has as many senders as it may have, and gets no more now.

    Attributes:
        hosts: see `WebhookEndpoint.host`.
        failing: no endpoint that failed at its last try.
    """

    hosts: Collection[str] = ()
    tenants: Collection[str] = ()
    failing: bool = False


NOTHING_OCCUPIED = Occupied()


@dataclass(frozen=True)
class BegunTry:
    """A try that is recorded and may be made now."""

    sequence: int
    try_id: int
    message_id: str
    url: str
    secrets: tuple[str, ...] = field(repr=False)
    started_at: datetime
    is_probe: bool


@dataclass(frozen=True)
class TryOutcome:
    """How a try ended.

    Attributes:
        error: why it failed; None: it did not.
        final: there is nothing to deliver any more.
    """

    duration_s: float
    status: int | None = None
    error: str | None = None
    answer_start: str | None = None
    retry_after_s: float | None = None
    final: bool = False


@dataclass(frozen=True)
class SendingRules:
    """The settings of the senders.

    Attributes:
        try_limit: how long one try takes at most.
        disable_after: how long an endpoint may fail.
        rng: for jitter; from 0 up to 1.
    """

    try_limit: timedelta
    disable_after: timedelta
    rng: Callable[[], float]

    @property
    def claim(self) -> timedelta:
        """How long a claim lasts without a further try."""
        return self.try_limit + timedelta(seconds=CLAIM_MARGIN_S)


def claim_endpoint(
    tx: Transaction, rules: SendingRules, *, occupied: Occupied = NOTHING_OCCUPIED
) -> EndpointClaim | None:
    """Claim the endpoint that has waited longest; None: nothing is due, which `is_due` tells without a lock."""
    endpoint = tx.session.scalar(_due(tx, occupied).with_for_update(skip_locked=True, key_share=True))
    if endpoint is None:
        return None
    endpoint.claimed_by, endpoint.claimed_until = new_id("snd"), tx.now + rules.claim
    tx.session.flush()
    failing = endpoint.failing_since is not None
    return EndpointClaim(endpoint.id, endpoint.claimed_by, endpoint.host, endpoint.tenant, failing)


def is_due(tx: Transaction, *, occupied: Occupied = NOTHING_OCCUPIED) -> bool:
    """Return whether an endpoint could be claimed."""
    return tx.session.scalar(_due(tx, occupied)) is not None


def _due(tx: Transaction, occupied: Occupied) -> Select[WebhookEndpoint]:
    query = (
        select(WebhookEndpoint)
        .where(
            WebhookEndpoint.due_at <= tx.now,
            or_(WebhookEndpoint.claimed_until.is_(None), WebhookEndpoint.claimed_until <= tx.now),
            WebhookEndpoint.host.not_in(sorted(occupied.hosts)),
            WebhookEndpoint.tenant.not_in(sorted(occupied.tenants)),
        )
        .order_by(WebhookEndpoint.due_at, WebhookEndpoint.id)
        .limit(1)
    )
    return query.where(WebhookEndpoint.failing_since.is_(None)) if occupied.failing else query


def begin_try(
    tx: Transaction, claim: EndpointClaim, rules: SendingRules, *, probe_after: int | None = None
) -> BegunTry | None:
    """Record that the next delivery is tried now; None: nothing is to be done now, and the claim has ended.

    Args:
        probe_after: `sequence` of a delivery that has just failed; a later one is tried, if there is one.
    """
    endpoint = _claimed(tx, claim)
    if endpoint is None:
        return None
    delivery = _probe(tx, endpoint, probe_after) if probe_after is not None else None
    is_probe = delivery is not None
    delivery = delivery or _next(tx, endpoint)
    if delivery is None:
        _release(tx, endpoint)
        return None
    if is_probe:
        delivery.probes += 1
    else:
        delivery.tries += 1
        delivery.first_tried_at = delivery.first_tried_at or tx.now
    endpoint.claimed_until = tx.now + rules.claim
    begun = WebhookTry(
        tenant=delivery.tenant, delivery=delivery.sequence, number=delivery.tries + delivery.probes, started_at=tx.now
    )
    tx.session.add(begun)
    tx.session.flush()
    secrets = _secrets(tx, endpoint)
    return BegunTry(delivery.sequence, begun.id, delivery.id, endpoint.url, secrets, tx.now, is_probe)


def finish_try(
    tx: Transaction, claim: EndpointClaim, begun: BegunTry, outcome: TryOutcome, rules: SendingRules
) -> bool:
    """Record how a try ended; return whether a later delivery should be tried now as well (`probe_after`)."""
    made = tx.session.get(WebhookTry, begun.try_id)
    delivery = tx.session.get(WebhookDelivery, begun.sequence, with_for_update={"key_share": True})
    if made is None or delivery is None:
        return False  # the endpoint was deleted meanwhile
    made.duration_s, made.status = round(outcome.duration_s, 3), outcome.status
    made.error, made.answer_start = outcome.error, outcome.answer_start
    endpoint = _claimed(tx, claim)
    if outcome.error is None:
        if delivery.state is not DeliveryState.DELIVERED:
            _end(tx, delivery, DeliveryState.DELIVERED, outcome)
        if endpoint is not None:
            _accepted(tx, endpoint, delivery)
        return False
    if endpoint is None or delivery.state is not DeliveryState.PENDING:
        return False  # another sender has it, or it was dropped
    return _failed(tx, endpoint, delivery, begun, outcome, rules)


def release(tx: Transaction, claim: EndpointClaim) -> None:
    """End a claim; others may send what is due."""
    endpoint = _claimed(tx, claim)
    if endpoint is not None:
        _release(tx, endpoint)


def _claimed(tx: Transaction, claim: EndpointClaim) -> WebhookEndpoint | None:
    """Return the endpoint, locked, if the claim still holds."""
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.id == claim.endpoint_id, WebhookEndpoint.claimed_by == claim.holder
    )
    locked = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return tx.session.scalar(locked)


def _pending(endpoint: WebhookEndpoint) -> Select[WebhookDelivery]:
    return select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id, _PENDING)


def _next(tx: Transaction, endpoint: WebhookEndpoint) -> WebhookDelivery | None:
    """Return the oldest delivery that is due.

    While the endpoint fails, the time of its retry stands for those of its deliveries, except the overtaken ones.
    """
    due = WebhookDelivery.next_try_at <= tx.now
    if endpoint.retry_at is not None:
        due = and_(WebhookDelivery.overtaken, due)
        if endpoint.retry_at <= tx.now:
            due = or_(due, ~WebhookDelivery.overtaken)
    query = _pending(endpoint).where(due).order_by(WebhookDelivery.sequence).limit(1)
    while True:
        delivery = tx.session.scalar(query)
        if delivery is None or delivery.tries < MAX_TRIES:
            return delivery
        # Its last try was begun by a process that died.
        _end(tx, delivery, DeliveryState.FAILED, TryOutcome(0, error="the outcome of the last try is unknown"))


def _probe(tx: Transaction, endpoint: WebhookEndpoint, after: int) -> WebhookDelivery | None:
    """Return a later delivery, the least probed one, to find out whether the receiver accepts anything."""
    later = _pending(endpoint).where(WebhookDelivery.sequence > after, ~WebhookDelivery.overtaken)
    return tx.session.scalar(later.order_by(WebhookDelivery.probes, WebhookDelivery.sequence).limit(1))


def _secrets(tx: Transaction, endpoint: WebhookEndpoint) -> tuple[str, ...]:
    if endpoint.registered:
        return valid_secrets(endpoint, tx.now)
    return valid_secrets(secret_of(tx, endpoint.tenant), tx.now)


def _end(tx: Transaction, delivery: WebhookDelivery, state: DeliveryState, outcome: TryOutcome) -> None:
    delivery.state, delivery.next_try_at, delivery.ended_at = state, None, tx.now
    delivery.last_error = outcome.error
    if outcome.status is not None:
        delivery.last_status = outcome.status
    tx.session.flush()


def _accepted(tx: Transaction, endpoint: WebhookEndpoint, delivery: WebhookDelivery) -> None:
    """Note that the endpoint works: what waited is due, and what it refused before holds up nothing any more."""
    failed_before = endpoint.failing_since is not None
    endpoint.failing_since = endpoint.retry_at = None
    endpoint.last_success_at = tx.now
    if not failed_before:
        return
    waiting = and_(WebhookDelivery.endpoint_id == endpoint.id, _PENDING, ~WebhookDelivery.overtaken)
    refused = and_(WebhookDelivery.sequence < delivery.sequence, WebhookDelivery.tries >= PROBE_AFTER_TRIES)
    for statement in (
        update(WebhookDelivery).where(waiting, refused).values(overtaken=True),
        update(WebhookDelivery).where(waiting).values(next_try_at=tx.now),
    ):
        tx.session.execute(statement, execution_options={"synchronize_session": False})


def _failed(
    tx: Transaction,
    endpoint: WebhookEndpoint,
    delivery: WebhookDelivery,
    begun: BegunTry,
    outcome: TryOutcome,
    rules: SendingRules,
) -> bool:
    """Record a failure; return whether a later delivery should be tried."""
    delivery.last_status, delivery.last_error = outcome.status, outcome.error
    if outcome.final:
        _end(tx, delivery, DeliveryState.DROPPED, outcome)
        return False
    if outcome.status == GONE:
        _end(tx, delivery, DeliveryState.FAILED, outcome)
        disable(tx, endpoint, "the receiver answered 410 Gone")
        return False
    if begun.is_probe:
        return False
    first = delivery.first_tried_at or begun.started_at
    following = next_try_at(
        delivery.tries, first_tried_at=first, now=tx.now, rng=rules.rng, retry_after_s=outcome.retry_after_s
    )
    if following is None:
        _end(tx, delivery, DeliveryState.FAILED, outcome)
        log.warning("webhook %s to endpoint %s failed in all %d tries", delivery.id, endpoint.id, delivery.tries)
    else:
        delivery.next_try_at = following
    if delivery.overtaken:
        return False
    endpoint.failing_since = endpoint.failing_since or begun.started_at
    endpoint.retry_at = following or tx.now
    if delivery.tries >= PROBE_AFTER_TRIES and tx.now - endpoint.failing_since >= rules.disable_after:
        days = rules.disable_after.total_seconds() / 86_400
        disable(
            tx, endpoint, f"every delivery failed for {days:g} days, since {endpoint.failing_since:%Y-%m-%d %H:%M}Z"
        )
        return False
    return delivery.tries >= PROBE_AFTER_TRIES and following is not None


def _release(tx: Transaction, endpoint: WebhookEndpoint) -> None:
    endpoint.claimed_by = endpoint.claimed_until = None
    endpoint.due_at = _due_at(tx, endpoint)
    tx.session.flush()


def _due_at(tx: Transaction, endpoint: WebhookEndpoint) -> datetime | None:
    """Return when there is something to do for an endpoint next."""
    first = select(func.min(WebhookDelivery.next_try_at)).where(WebhookDelivery.endpoint_id == endpoint.id, _PENDING)
    overtaken = tx.session.scalar(first.where(WebhookDelivery.overtaken))
    waiting = tx.session.scalar(first.where(~WebhookDelivery.overtaken))
    if waiting is not None and endpoint.retry_at is not None:
        waiting = endpoint.retry_at
    return min((time for time in (overtaken, waiting) if time is not None), default=None)
