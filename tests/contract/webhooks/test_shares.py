"""One tenant with many receivers that do not answer leaves senders to the others, and so do failing receivers."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from urllib.parse import urlsplit

from jobs.db.webhook_tables import WebhookEndpoint
from jobs.outbound.calls import OutboundAnswer
from jobs.outbound.errors import OutboundUnreachableError
from local_services.commands import wait_until
from tests.contract.webhooks.conftest import Received, Webhooks
from workers.webhooks.pool import SenderPool

THREADS = 8


class SlowHosts:
    """Receivers below `.slow.example.com` answer when the test lets them; the others at once."""

    def __init__(self) -> None:
        self.answer, self.lock = threading.Event(), threading.Lock()
        self.waiting: Counter[str] = Counter()

    def __call__(self, request: Received) -> OutboundAnswer:
        host = urlsplit(request.url).hostname or ""
        if host.endswith(".slow.example.com"):
            with self.lock:
                self.waiting[host] += 1
            assert self.answer.wait(30)
            raise OutboundUnreachableError(f"{host} did not answer in time.")
        return OutboundAnswer(200, {}, b"")


def pool_of(webhooks: Webhooks, hosts: SlowHosts) -> SenderPool:
    post = webhooks.receiver.post
    webhooks.receiver.answers = dict.fromkeys((endpoint.url for endpoint in all_endpoints(webhooks)), hosts)
    return SenderPool(replace(webhooks.sender, post=post), threads=THREADS)


def all_endpoints(webhooks: Webhooks) -> list[WebhookEndpoint]:
    with webhooks.db.of_platform().reading() as tx:
        return list(tx.session.query(WebhookEndpoint))


def test_receivers_of_one_tenant_that_do_not_answer_hold_up_no_other_tenant(webhooks: Webhooks) -> None:
    for number in range(3 * THREADS):
        webhooks.endpoint(f"https://r{number}.slow.example.com/in", tenant="loud")
    webhooks.endpoint("https://quick.example.com/in", tenant="quiet")
    webhooks.ended_job(tenant="loud")
    webhooks.ended_job(tenant="quiet")
    webhooks.fan_out()
    hosts = SlowHosts()
    pool = pool_of(webhooks, hosts)
    try:
        pool.start_due()
        wait_until(
            lambda: any("quick" in one.url for one in webhooks.receiver.accepted),
            within_s=20,
            what="the delivery to the quiet tenant",
        )
        assert len(hosts.waiting) <= THREADS * 3 // 4
    finally:
        hosts.answer.set()
        pool.join(30)


def test_receivers_that_failed_before_hold_up_no_other_of_their_tenant(webhooks: Webhooks) -> None:
    for number in range(3 * THREADS):
        webhooks.endpoint(f"https://r{number}.slow.example.com/in")
    quick = webhooks.endpoint("https://quick.example.com/in")
    hosts = SlowHosts()
    hosts.answer.set()
    pool = pool_of(webhooks, hosts)
    webhooks.ended_job()
    webhooks.fan_out()
    pool.start_due()
    pool.join(30)
    hosts.answer.clear()
    hosts.waiting.clear()
    webhooks.receiver.accepted.clear()
    webhooks.clock.advance(400)  # the failed ones are due again, and have waited longer
    webhooks.ended_job()
    webhooks.fan_out()
    try:
        pool.start_due()
        wait_until(lambda: bool(webhooks.receiver.accepted), within_s=20, what=f"the delivery to {quick.url}")
        assert len(hosts.waiting) <= THREADS // 2
    finally:
        hosts.answer.set()
        pool.join(30)
