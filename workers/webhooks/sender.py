"""Sends what is due to one endpoint after another; each try is recorded before and after it."""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from jobs.db.database import Database, Transaction
from jobs.db.webhook_tables import WebhookDelivery
from jobs.links import ResultLinks
from jobs.outbound.calls import OutboundAnswer, post
from jobs.outbound.errors import OutboundError
from jobs.outbound.policy import OutboundPolicy
from jobs.settings import Settings
from jobs.webhooks.bodies import render
from jobs.webhooks.errors import SubjectGoneError
from jobs.webhooks.schedule import parse_retry_after
from jobs.webhooks.sending import (
    NOTHING_OCCUPIED,
    BegunTry,
    EndpointClaim,
    Occupied,
    SendingRules,
    TryOutcome,
    begin_try,
    claim_endpoint,
    finish_try,
    is_due,
    release,
)
from jobs.webhooks.signing import signed_headers

log = logging.getLogger(__name__)

ROUND_S = 20.0
"""A sender goes on to another endpoint after this time, so that one with much to receive does not keep it."""
ANSWER_BYTES = 500
RECORD_AGAIN_S = 1.0
_BUSY = frozenset({429, 503})

Post = Callable[[str, bytes, Mapping[str, str], OutboundPolicy], OutboundAnswer]
LinksOf = Callable[[Transaction, str], ResultLinks]
"""Returns the builder of URLs for a transaction's documents, given their tenant."""


@dataclass(frozen=True)
class Sender:
    """Sends webhooks; may be used by several threads.

    Args:
        db: bound to the platform.
        post: `jobs.outbound.calls.post`; tests replace it.
        stopping: the process ends.
        pause: waits for some seconds, or until the process ends.
    """

    db: Database
    policy: OutboundPolicy
    links: LinksOf
    rules: SendingRules
    post: Post = post
    stopping: Callable[[], bool] = lambda: False
    pause: Callable[[float], object] = time.sleep
    monotonic: Callable[[], float] = field(default=time.monotonic)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        db: Database,
        links: LinksOf,
        *,
        stopping: Callable[[], bool] = lambda: False,
        pause: Callable[[float], object] = time.sleep,
    ) -> Sender:
        """Return the sender that the settings describe."""
        policy = dataclasses.replace(
            OutboundPolicy.for_webhooks(settings),
            max_redirects=0,
            total_s=settings.webhook_timeout_s,
            idle_s=settings.webhook_timeout_s,
        )
        rules = SendingRules(
            try_limit=timedelta(seconds=settings.webhook_timeout_s),
            disable_after=timedelta(seconds=settings.webhook_disable_after_s),
            rng=random.random,
        )
        return cls(db, policy, links, rules, stopping=stopping, pause=pause)

    def claim(self, occupied: Occupied = NOTHING_OCCUPIED) -> EndpointClaim | None:
        """Claim an endpoint that has something due; None: there is none."""
        if not self.db.run_reading(lambda tx: is_due(tx, occupied=occupied)):
            return None  # without the lock that SQLite's writers wait for
        return self.db.run(lambda tx: claim_endpoint(tx, self.rules, occupied=occupied), repeatable=True)

    def serve(self, claim: EndpointClaim) -> int:
        """Send what is due to an endpoint, in order; return how many tries were made."""
        until, tries = self.monotonic() + ROUND_S, 0
        begun = self.db.run(lambda tx: begin_try(tx, claim, self.rules), repeatable=True)
        while begun is not None:
            outcome = self._try(begun)
            tries += 1
            goes_on = self.monotonic() < until and not self.stopping()
            begun = self._record(claim, begun, outcome, goes_on=goes_on)
        return tries

    def send_due(self) -> int:
        """Send everything that is due, one endpoint after another; return how many tries were made."""
        tries = 0
        while (claim := self.claim()) is not None:
            tries += self.serve(claim)
        return tries

    def _try(self, begun: BegunTry) -> TryOutcome:
        """Make one try; whatever goes wrong is its outcome."""
        began = self.monotonic()
        try:
            body = self.db.run_reading(lambda tx: self._body(tx, begun.sequence))
        except SubjectGoneError as exc:
            return TryOutcome(self.monotonic() - began, error=str(exc), final=True)
        except DBAPIError as exc:
            log.warning("webhook %s: the database did not give the body: %s", begun.message_id, exc.orig)
            return TryOutcome(self.monotonic() - began, error="internal error: the database did not answer")
        except Exception:
            # The boundary: a fault in one body must not end the others.
            log.exception("webhook %s: the body could not be made", begun.message_id)
            return TryOutcome(self.monotonic() - began, error="internal error: the body could not be made")
        headers = {
            "Content-Type": "application/json",
            **signed_headers(begun.message_id, begun.started_at, body, begun.secrets),
        }
        try:
            answer = self.post(begun.url, body.encode(), headers, self.policy)
        except OutboundError as exc:
            return TryOutcome(self.monotonic() - began, error=exc.message)
        return self._judged(answer, self.monotonic() - began, begun)

    def _body(self, tx: Transaction, sequence: int) -> str:
        delivery = tx.session.get(WebhookDelivery, sequence)
        if delivery is None:
            raise SubjectGoneError("the delivery was deleted")
        return render(tx, delivery, self.links(tx, delivery.tenant))

    @staticmethod
    def _judged(answer: OutboundAnswer, duration_s: float, begun: BegunTry) -> TryOutcome:
        retry_after_s = None
        if answer.status in _BUSY:
            retry_after_s = parse_retry_after(answer.headers.get("retry-after"), now=begun.started_at)
        return TryOutcome(
            duration_s,
            status=answer.status,
            error=_complaint(answer.status),
            answer_start=printable(answer.body_start[:ANSWER_BYTES]),
            retry_after_s=retry_after_s,
        )

    def _record(self, claim: EndpointClaim, begun: BegunTry, outcome: TryOutcome, *, goes_on: bool) -> BegunTry | None:
        """Record an outcome, and begin the next try or end the claim, in one transaction.

        Waits until the database answers: a delivery that is not recorded would be sent again.
        """

        def step(tx: Transaction) -> BegunTry | None:
            probe = finish_try(tx, claim, begun, outcome, self.rules)
            if goes_on:
                return begin_try(tx, claim, self.rules, probe_after=begun.sequence if probe else None)
            release(tx, claim)
            return None

        while True:
            try:
                return self.db.run(step, repeatable=True)
            except DBAPIError as exc:
                if self.stopping():
                    raise
                log.warning("webhook %s: its outcome waits for the database: %s", begun.message_id, exc.orig)
            self.pause(RECORD_AGAIN_S)


def _complaint(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"the receiver answered {status}; redirects are not followed, give the final URL"
    return f"the receiver answered {status}"


def printable(body: bytes) -> str:
    """Return the beginning of an answer without characters that a terminal or a page could take for more than text."""
    text = body.decode("utf-8", errors="replace")
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )
