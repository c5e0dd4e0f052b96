"""Jobs that end, receivers that follow a script, and the senders, on each kind of database; time is the test's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.db.webhook_tables import WebhookDelivery, WebhookEndpoint
from jobs.lifecycle import WebhookEvent
from jobs.links import ResultLinks
from jobs.outbound.calls import OutboundAnswer
from jobs.outbound.errors import OutboundUnreachableError
from jobs.outbound.policy import OutboundPolicy
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.cancellation import cancel
from jobs.service.submission import SubmitPolicy, submit
from jobs.storage.signing import LinkSigner
from jobs.webhooks import endpoints
from jobs.webhooks.fan_out import fan_out
from jobs.webhooks.sending import SendingRules
from tests.conftest import FakeClock
from workers.webhooks.sender import Sender

TENANT = "default"
HOOK = "https://hooks.example.com/in"
DAY_S = 86_400


@dataclass(frozen=True)
class Received:
    """One request that a receiver got."""

    url: str
    headers: Mapping[str, str]
    body: str

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Receiver:
    """Answers by a script: `answers` by URL is a status, an answer, an error, or a function of the request."""

    answers: dict[str, Any] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    accepted: list[Received] = field(default_factory=list)
    after: Callable[[], None] = lambda: None

    def post(self, url: str, body: bytes, headers: Mapping[str, str], policy: OutboundPolicy) -> OutboundAnswer:
        assert policy.max_redirects == 0
        request = Received(url, dict(headers), body.decode())
        self.received.append(request)
        answer = self.answers.get(url, 200)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            answer = OutboundAnswer(answer, {}, b"said the receiver")
        if 200 <= answer.status < 300:
            self.accepted.append(request)
        self.after()
        return answer

    def is_down(self, url: str = HOOK) -> None:
        self.answers[url] = OutboundUnreachableError("hooks.example.com could not be connected to.")

    def is_up(self, url: str = HOOK) -> None:
        self.answers.pop(url, None)


@dataclass
class Webhooks:
    """The platform's part: each step in a transaction of its own."""

    db: Database
    clock: FakeClock
    receiver: Receiver
    policy: SubmitPolicy
    sender: Sender

    def endpoint(self, url: str = HOOK, *, tenant: str = TENANT, events: tuple[str, ...] = ()) -> WebhookEndpoint:
        wanted = [WebhookEvent(name) for name in events] or endpoints.DEFAULT_ENDPOINT_EVENTS
        with self.db.of_tenant(tenant).transaction() as tx:
            return endpoints.create_endpoint(tx, url, events=wanted, description=None)

    def change(self, endpoint_id: str, **fields: Any) -> WebhookEndpoint:
        with self.db.of_tenant(TENANT).transaction() as tx:
            return endpoints.change_endpoint(tx, endpoint_id, **fields)

    def submit(self, *, tenant: str = TENANT, **fields: Any) -> str:
        with self.db.of_tenant(tenant).transaction() as tx:
            request = JobRequest(**{"prompt": "rain", **fields})
            return submit(tx, request, policy=self.policy).job.id

    def start(self, job_id: str) -> attempts.Claim:
        with self.db.of_platform().transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id="w1", lease_s=60)
        assert claim is not None
        return claim

    def succeed(self, job_id: str) -> None:
        claim = self.start(job_id)
        with self.db.of_platform().transaction() as tx:
            attempts.complete(tx, claim, [], warnings=[], timings={}, artifact_ttl_s=3600)

    def ended_job(self, *, tenant: str = TENANT, **fields: Any) -> str:
        """Return the id of a job that was canceled: the shortest life."""
        job_id = self.submit(tenant=tenant, **fields)
        with self.db.of_tenant(tenant).transaction() as tx:
            cancel(tx, job_id)
        return job_id

    def fan_out(self) -> None:
        while fan_out(self.db.of_platform()):
            pass

    def deliver(self) -> int:
        """Turn all events into deliveries and send what is due."""
        self.fan_out()
        return self.sender.send_due()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with the senders at work whenever something is due."""
        end = self.clock.time + timedelta(seconds=seconds)
        while True:
            self.deliver()
            with self.db.of_platform().reading() as tx:
                due = tx.session.scalar(select(func.min(WebhookEndpoint.due_at)).where(WebhookEndpoint.due_at < end))
                claimed = tx.session.scalar(select(func.min(WebhookEndpoint.claimed_until)))
            if due is None:
                break
            self.clock.time = max(due, min(claimed or due, end), self.clock.time + timedelta(seconds=1))
        self.clock.time = end
        self.deliver()

    def row(self, endpoint_id: str) -> WebhookEndpoint:
        with self.db.of_platform().reading() as tx:
            return tx.session.get_one(WebhookEndpoint, endpoint_id)

    def deliveries(self) -> list[WebhookDelivery]:
        with self.db.of_platform().reading() as tx:
            return list(tx.session.query(WebhookDelivery).order_by(WebhookDelivery.sequence))

    def states(self) -> list[str]:
        return [row.state.value for row in self.deliveries()]

    def job(self, job_id: str) -> Job:
        with self.db.of_platform().reading() as tx:
            return tx.session.get_one(Job, job_id)


@pytest.fixture
def webhooks(db: Database, clock: FakeClock) -> Webhooks:
    receiver = Receiver()
    sender = Sender(
        db.of_platform(),
        OutboundPolicy(schemes=frozenset({"http", "https"})),
        lambda tx, tenant: ResultLinks(
            "https://sounds.example.com", LinkSigner(b"k" * 32), timedelta(hours=1), tx.now, tenant
        ),
        SendingRules(timedelta(seconds=10), timedelta(days=5), lambda: 0.0),
        post=receiver.post,
        monotonic=lambda: 0.0,
    )
    policy = SubmitPolicy(variants=("tiny_16k",), draw_seed=lambda: 7)
    return Webhooks(db, clock, receiver, policy, sender)
