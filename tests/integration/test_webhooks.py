"""Webhooks over real connections: signatures, redirects, slow receivers, two senders at once, `mmaudio control`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import update
from standardwebhooks import Webhook

from jobs.db.database import Database
from jobs.db.webhook_tables import WebhookDelivery, WebhookEndpoint, WebhookTry
from jobs.lifecycle import WebhookEvent
from jobs.links import ResultLinks
from jobs.request import JobRequest
from jobs.service.cancellation import cancel
from jobs.service.submission import SubmitPolicy, submit
from jobs.settings import Settings
from jobs.storage.signing import LinkSigner
from jobs.webhooks.endpoints import create_endpoint
from jobs.webhooks.fan_out import fan_out
from local_services.commands import wait_until
from tests.databases import migrated_sqlite
from tests.integration.conftest import ON_SQLITE, PATIENCE_S, PlatformHarness
from workers.webhooks.pool import SenderPool
from workers.webhooks.sender import Sender

TENANT = "default"
LOOPBACK = ["127.0.0.0/8"]


@dataclass
class Receiver:
    """An HTTP server on this machine."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    before_answer: Callable[[], None] = lambda: None
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.received.append((self.path, dict(self.headers.items()), body))
            state.before_answer()
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    url = migrated_sqlite(tmp_path / "mmaudio.db")
    return Settings(data_dir=tmp_path, database_url=url, outbound_allowed_networks=LOOPBACK, webhook_timeout_s=1)


@pytest.fixture
def db(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url)
    yield database
    database.close()


def new_sender(settings: Settings, db: Database) -> Sender:
    signer = LinkSigner(b"k" * 32)
    return Sender.from_settings(
        settings, db.of_platform(), lambda tx, tenant: ResultLinks.from_settings(settings, signer, tx.now, tenant)
    )


def add_endpoint(db: Database, url: str) -> str:
    """Return the secret of a new endpoint."""
    with db.of_tenant(TENANT).transaction() as tx:
        secret = create_endpoint(tx, url, events=[WebhookEvent.CANCELED], description=None).secret
    assert secret is not None
    return secret


def end_job(db: Database) -> str:
    with db.of_tenant(TENANT).transaction() as tx:
        job = submit(tx, JobRequest(prompt="rain"), policy=SubmitPolicy(variants=("tiny_16k",))).job
        cancel(tx, job.id)
    return job.id


def end_claims(db: Database) -> None:
    """Let the claims of senders end now, as when their processes have been dead for long."""
    with db.of_platform().transaction() as tx:
        claimed = update(WebhookEndpoint).where(WebhookEndpoint.claimed_by.is_not(None))
        tx.session.execute(claimed.values(claimed_until=tx.now))


def tries(db: Database) -> list[WebhookTry]:
    with db.of_platform().reading() as tx:
        return list(tx.session.query(WebhookTry).order_by(WebhookTry.id))


def delivered(db: Database) -> int:
    with db.of_platform().reading() as tx:
        return tx.session.query(WebhookDelivery).filter_by(state="delivered").count()


def test_the_official_library_verifies_what_arrives(settings: Settings, db: Database) -> None:
    with receiver() as hook:
        secret = add_endpoint(db, hook.url)
        job_id = end_job(db)
        fan_out(db.of_platform())
        assert new_sender(settings, db).send_due() == 1
        ((path, headers, body),) = hook.received
        document = Webhook(secret).verify(body, headers)
    assert (path, document["type"], document["data"]["id"]) == ("/hook", "job.canceled", job_id)
    assert headers["User-Agent"].startswith("mmaudio")
    assert delivered(db) == 1


def test_a_redirect_is_a_failure_and_is_not_followed(settings: Settings, db: Database) -> None:
    with receiver() as hook, receiver() as elsewhere:
        hook.status, hook.headers = 307, {"Location": elsewhere.url}
        add_endpoint(db, hook.url)
        end_job(db)
        fan_out(db.of_platform())
        new_sender(settings, db).send_due()
        assert elsewhere.received == []
    (made,) = tries(db)
    assert made.status == 307
    assert "redirect" in (made.error or "")


def test_a_private_address_is_not_called_without_the_operators_leave(settings: Settings, db: Database) -> None:
    with receiver() as hook:
        add_endpoint(db, hook.url)
        end_job(db)
        fan_out(db.of_platform())
        new_sender(settings.model_copy(update={"outbound_allowed_networks": []}), db).send_due()
        assert hook.received == []
    (made,) = tries(db)
    assert made.status is None
    assert "address" in (made.error or "")


def test_slow_receivers_do_not_hold_up_others(settings: Settings, db: Database) -> None:
    """A host that is slow occupies one thread of four, although it has two receivers; the quick one gets all."""
    answer = threading.Event()
    with receiver() as slow, receiver() as quick:
        slow.before_answer = lambda: answer.wait(PATIENCE_S) and None
        for number in range(2):
            add_endpoint(db, f"{slow.url}/{number}")
        add_endpoint(db, quick.url)
        for _ in range(20):
            end_job(db)
        fan_out(db.of_platform())
        patient = settings.model_copy(update={"webhook_timeout_s": 60})
        pool = SenderPool(new_sender(patient, db), threads=4)
        pool.start_due()
        wait_until(lambda: len(quick.received) == 20, within_s=PATIENCE_S, what="the messages of the quick receiver")
        assert len(slow.received) == 1
        slow.before_answer = lambda: None
        answer.set()
        wait_until(lambda: delivered(db) == 60, within_s=PATIENCE_S, what="all messages")
        pool.join(PATIENCE_S)


def test_a_receiver_that_does_not_answer_costs_the_time_limit_only(settings: Settings, db: Database) -> None:
    answer = threading.Event()
    with receiver() as hook:
        hook.before_answer = lambda: answer.wait(PATIENCE_S) and None
        add_endpoint(db, hook.url)
        end_job(db)
        fan_out(db.of_platform())
        new_sender(settings, db).send_due()
        answer.set()
    (made,) = tries(db)
    assert made.status is None
    assert "in time" in (made.error or "")


def test_senders_of_two_processes_deliver_each_message_once_and_in_order(settings: Settings, db: Database) -> None:
    with receiver() as hook:
        add_endpoint(db, hook.url)
        jobs = [end_job(db) for _ in range(30)]
        others = [Database(settings.database_url) for _ in range(2)]
        pools = [SenderPool(new_sender(settings, other), threads=4) for other in others]
        for _ in range(3):  # while events are still being turned into deliveries
            fan_out(db.of_platform(), limit=20)
            for pool in pools:
                pool.start_due()

        def all_arrived() -> bool:
            fan_out(db.of_platform(), limit=20)
            for pool in pools:
                pool.start_due()
            return delivered(db) == 30

        wait_until(all_arrived, within_s=PATIENCE_S, what="all messages")
        for pool in pools:
            pool.join(PATIENCE_S)
        for other in others:
            other.close()
        verified = [str(body).partition('"data":{"id":"')[2][:36] for _, _, body in hook.received]
    assert verified == jobs


@ON_SQLITE
def test_control_delivers_and_a_restart_loses_nothing(platform: PlatformHarness) -> None:
    with receiver() as hook:
        allowed = {"MMAUDIO_OUTBOUND_ALLOWED_NETWORKS": ",".join(LOOPBACK)}
        platform.commands.environment = {**platform.commands.environment, **allowed}
        add_endpoint(platform.db, hook.url)
        first = end_job(platform.db)
        control = platform.commands.start("control")
        wait_until(lambda: len(hook.received) == 1, within_s=PATIENCE_S, what="the first message")
        hook.before_answer = lambda: time.sleep(0.3)
        second = end_job(platform.db)
        wait_until(lambda: len(hook.received) == 2, within_s=PATIENCE_S, what="the second message")
        control.kill()  # perhaps between sending and recording
        control.wait()
        end_claims(platform.db)
        third = end_job(platform.db)
        platform.commands.start("control")
        wait_until(
            lambda: any(third in str(body) for _, _, body in hook.received), within_s=PATIENCE_S, what="the last one"
        )
        got = [str(body).partition('"data":{"id":"')[2][:36] for _, _, body in hook.received]
    assert sorted(set(got), key=got.index) == [first, second, third]
    assert len(got) <= 4, "the one that was being sent may come twice"
