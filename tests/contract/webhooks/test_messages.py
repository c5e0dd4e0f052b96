"""What is sent: signatures that the library verifies, bodies as of the event, secrets that rotate, tenants apart."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from jobs.db.webhook_tables import JobWebhook, WebhookDelivery
from jobs.errors import RequestInvalidError
from jobs.lifecycle import ArtifactKind, Stage, State
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.batch_creation import NewBatch, create_and_commit
from jobs.service.batches import finish_batches, request_cancel
from jobs.service.cancellation import cancel, retry
from jobs.service.deletion import delete_job
from jobs.service.running_attempts import Progress, record_progress
from jobs.webhooks import endpoints, history, retention
from jobs.webhooks.bodies import MAX_BODY_BYTES
from jobs.webhooks.errors import DeliveryNotFoundError, EndpointNotFoundError
from jobs.webhooks.tenant_secret import rotate_tenant_secret, tenant_secret
from tests.contract.webhooks.conftest import DAY_S, HOOK, TENANT, Received, Webhooks


def verifies(secret: str | None, request: Received) -> bool:
    """Verify with the official library, whose clock is the machine's."""
    assert secret is not None
    try:
        Webhook(secret).verify(request.body, dict(request.headers))
    except WebhookVerificationError:
        return False
    return True


@pytest.fixture
def now_webhooks(webhooks: Webhooks) -> Webhooks:
    """The same, at the machine's time."""
    webhooks.clock.time = datetime.now(UTC)
    return webhooks


def test_the_library_verifies_what_an_endpoint_receives(now_webhooks: Webhooks) -> None:
    endpoint = now_webhooks.endpoint()
    other = now_webhooks.endpoint("https://other.example.com/")
    assert endpoint.secret is not None
    assert len(base64.b64decode(endpoint.secret.removeprefix("whsec_"))) == 32
    now_webhooks.ended_job()
    now_webhooks.deliver()
    (request,) = [one for one in now_webhooks.receiver.accepted if one.url == HOOK]
    assert verifies(endpoint.secret, request)
    assert not verifies(other.secret, request)
    assert request.headers["Content-Type"] == "application/json"


def test_after_a_rotation_both_secrets_sign_until_the_old_one_expires(now_webhooks: Webhooks) -> None:
    old = now_webhooks.endpoint()
    with now_webhooks.db.of_tenant(TENANT).transaction() as tx:
        new = endpoints.rotate_endpoint_secret(tx, old.id, overlap_s=60)
    now_webhooks.ended_job()
    now_webhooks.deliver()
    now_webhooks.clock.advance(61)
    now_webhooks.ended_job()
    now_webhooks.deliver()
    during, after = now_webhooks.receiver.accepted
    assert (verifies(old.secret, during), verifies(new.secret, during)) == (True, True)
    assert (verifies(old.secret, after), verifies(new.secret, after)) == (False, True)


def test_a_url_that_a_job_names_is_signed_with_the_tenants_secret(now_webhooks: Webhooks) -> None:
    job_id = now_webhooks.ended_job(webhook_url=HOOK)
    now_webhooks.ended_job()
    now_webhooks.deliver()
    (request,) = now_webhooks.receiver.accepted
    assert request.document["data"]["id"] == job_id
    with now_webhooks.db.of_tenant(TENANT).transaction() as tx:
        secret = tenant_secret(tx).secret
    assert verifies(secret, request)
    with now_webhooks.db.of_tenant(TENANT).transaction() as tx:
        rotated = rotate_tenant_secret(tx, overlap_s=0).secret
    now_webhooks.ended_job(webhook_url=HOOK)
    now_webhooks.deliver()
    assert not verifies(secret, now_webhooks.receiver.accepted[-1])
    assert verifies(rotated, now_webhooks.receiver.accepted[-1])


def test_the_body_tells_the_state_as_of_the_event(webhooks: Webhooks) -> None:
    webhooks.endpoint(events=("started", "progress", "succeeded"))
    job_id = webhooks.submit(metadata={"order": "7"})
    claim = webhooks.start(job_id)
    with webhooks.db.of_platform().transaction() as tx:
        record_progress(tx, [Progress(job_id, 1, Stage.SAMPLE, 0.5)])
    artifact = NewArtifact(
        name="audio.flac", kind=ArtifactKind.AUDIO, format="flac", content_type="audio/flac",
        storage_key=f"jobs/{job_id}/1/audio.flac", size_bytes=10, sha256="0" * 64, duration_s=8.0, take=0,
        seed=7,
    )  # fmt: skip
    with webhooks.db.of_platform().transaction() as tx:
        attempts.complete(tx, claim, [artifact], warnings=[], timings={}, artifact_ttl_s=3600)
    webhooks.deliver()  # only now, when the job has ended
    started, progress, succeeded = (one.document for one in webhooks.receiver.accepted)
    assert (started["type"], started["timestamp"]) == ("job.started", "2026-01-01T12:00:00.000Z")
    assert (started["data"]["state"], started["data"]["artifacts"]) == ("running", [])
    assert (started["data"]["finished_at"], started["data"]["stage"]) == (None, "fetch")
    assert (progress["data"]["stage"], progress["data"]["state"]) == ("sample", "running")
    assert (succeeded["data"]["state"], succeeded["data"]["metadata"]) == ("succeeded", {"order": "7"})
    (shown,) = succeeded["data"]["artifacts"]
    assert shown["url"].startswith(f"https://sounds.example.com/v1/jobs/{job_id}/artifacts/audio.flac?")
    assert succeeded["data"]["links"]["self"] == f"https://sounds.example.com/v1/jobs/{job_id}"


def test_progress_is_told_at_most_every_five_seconds(webhooks: Webhooks) -> None:
    webhooks.endpoint(events=("progress",))
    job_id = webhooks.submit(webhook_url="https://own.example.com/", webhook_events=["progress"])
    webhooks.start(job_id)
    for stage in (Stage.FETCH, Stage.DECODE, Stage.ENCODE, Stage.SAMPLE, Stage.VOCODE):
        with webhooks.db.of_platform().transaction() as tx:
            record_progress(tx, [Progress(job_id, 1, stage, 0.0)])
        webhooks.deliver()
        webhooks.clock.advance(2)
    told = [one.document["data"]["stage"] for one in webhooks.receiver.accepted if one.url == HOOK]
    assert told == ["decode", "vocode"], "at 2 s and 8 s, not at 4 and 6 s"
    assert len(webhooks.receiver.accepted) == 4


def test_the_largest_body_is_smaller_than_20_kb_and_says_what_it_left_out(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    metadata = {f"k{number:02}" + "ä" * 250: '"' * 512 for number in range(16)}
    job_id = webhooks.submit(prompt="\\" * 20_000, metadata=metadata)
    claim = webhooks.start(job_id)
    made = [
        NewArtifact(
            name=f"{number}.flac", kind=ArtifactKind.AUDIO, format="flac", content_type="audio/flac",
            storage_key=f"{job_id}/{number}", size_bytes=10, sha256="0" * 64, duration_s=8.0, take=number,
            seed=number,
        )
        for number in range(24)
    ]  # fmt: skip
    with webhooks.db.of_platform().transaction() as tx:
        attempts.complete(tx, claim, made, warnings=[], timings={}, artifact_ttl_s=3600)
    webhooks.deliver()
    (request,) = webhooks.receiver.accepted
    assert len(request.body.encode()) <= MAX_BODY_BYTES
    data = request.document["data"]
    assert "prompt" in data["truncated"]
    assert data["links"]["self"].endswith(job_id)
    assert data["artifacts"]


def finished_batch(webhooks: Webhooks, **fields: Any) -> str:
    """Return the id of a batch whose jobs have ended."""
    db = webhooks.db.of_tenant(TENANT)
    batch = create_and_commit(db, NewBatch(**fields), policy=webhooks.policy).batch
    with db.transaction() as tx:
        request_cancel(tx, batch.id)
    finish_batches(webhooks.db.of_platform())
    return batch.id


def test_a_batch_is_told_once_to_its_own_url_and_to_endpoints(webhooks: Webhooks) -> None:
    webhooks.endpoint(events=("batch_finished",))
    requests = [JobRequest(prompt="rain"), JobRequest(prompt="wind", webhook_url="https://one.example.com/")]
    batch_id = finished_batch(
        webhooks, requests=requests, name="b", metadata={"k": "v"}, webhook_url="https://own.example.com/"
    )
    webhooks.deliver()
    webhooks.deliver()
    got = {one.url: one.document for one in webhooks.receiver.accepted}
    assert len(webhooks.receiver.accepted) == 3
    assert got["https://one.example.com/"]["data"]["batch"] == batch_id, "the job's own"
    assert got[HOOK] == got["https://own.example.com/"]
    document = got[HOOK]
    assert document["type"] == "batch.finished"
    data = document["data"]
    assert (data["id"], data["name"], data["state"], data["total"]) == (batch_id, "b", "finished", 2)
    assert (data["counts"]["canceled"], data["metadata"]) == (2, {"k": "v"})
    assert data["links"]["jobs"] == f"https://sounds.example.com/v1/jobs?batch={batch_id}"
    assert data["finished_at"] == "2026-01-01T12:00:00.000Z"


def test_the_url_of_a_batch_is_checked(webhooks: Webhooks) -> None:
    with pytest.raises(RequestInvalidError, match="webhook_url"):
        finished_batch(webhooks, requests=[JobRequest(prompt="rain")], webhook_url="http://127.0.0.1/")


def test_what_a_deleted_job_would_tell_is_dropped(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    gone, other = webhooks.ended_job(webhook_url="https://own.example.com/"), webhooks.ended_job()
    webhooks.fan_out()
    with webhooks.db.of_tenant(TENANT).transaction() as tx:
        delete_job(tx, gone)
    webhooks.sender.send_due()
    assert [one.document["data"]["id"] for one in webhooks.receiver.accepted] == [other]
    by_job = {row.job_id: row for row in webhooks.deliveries()}
    assert (by_job[gone].state.value, by_job[gone].last_error) == ("dropped", f"job {gone} was deleted")
    with webhooks.db.of_platform().reading() as tx:
        assert tx.session.get(JobWebhook, gone) is None


def test_a_retry_of_a_job_calls_its_url_as_well(webhooks: Webhooks) -> None:
    first = webhooks.ended_job(webhook_url=HOOK)
    with webhooks.db.of_tenant(TENANT).transaction() as tx:
        second = retry(tx, first, policy=webhooks.policy).job.id
    with webhooks.db.of_tenant(TENANT).transaction() as tx:
        cancel(tx, second)
    webhooks.deliver()
    assert [one.document["data"]["id"] for one in webhooks.receiver.accepted] == [first, second]


def test_a_job_url_that_answers_410_is_left_alone_until_a_later_job_names_it(webhooks: Webhooks) -> None:
    old = webhooks.submit(webhook_url=HOOK, webhook_events=["started", "succeeded"])
    claim = webhooks.start(old)
    webhooks.receiver.answers[HOOK] = 410
    webhooks.deliver()
    webhooks.receiver.is_up()
    with webhooks.db.of_platform().transaction() as tx:
        attempts.complete(tx, claim, [], warnings=[], timings={}, artifact_ttl_s=3600)
    webhooks.deliver()
    assert webhooks.receiver.accepted == []
    assert webhooks.states() == ["failed", "dropped"], "it is in the log"
    webhooks.clock.advance(1)
    webhooks.ended_job(webhook_url=HOOK)
    webhooks.deliver()
    assert webhooks.states() == ["failed", "dropped", "delivered"]


def test_an_endpoint_receives_only_its_tenants_events(webhooks: Webhooks) -> None:
    mine = webhooks.endpoint()
    webhooks.endpoint("https://theirs.example.com/", tenant="theirs")
    job_id = webhooks.ended_job()
    foreign = webhooks.ended_job(tenant="theirs")
    webhooks.deliver()
    got = {one.url: one.document["data"]["id"] for one in webhooks.receiver.accepted}
    assert got == {HOOK: job_id, "https://theirs.example.com/": foreign}
    with webhooks.db.of_tenant("theirs").transaction() as tx:
        assert len(endpoints.list_endpoints(tx).endpoints) == 1
        assert [one.row.job_id for one in history.list_deliveries(tx, history.DeliveryFilter()).deliveries] == [foreign]
        for step in (
            lambda: endpoints.get_endpoint(tx, mine.id),
            lambda: endpoints.change_endpoint(tx, mine.id, enabled=False),
            lambda: endpoints.delete_endpoint(tx, mine.id),
            lambda: endpoints.rotate_endpoint_secret(tx, mine.id, overlap_s=0),
            lambda: history.send_test(tx, mine.id),
            lambda: history.replay_failed(tx, since=webhooks.clock.time, endpoint_id=mine.id),
        ):
            with pytest.raises(EndpointNotFoundError):
                step()
        own = next(row.id for row in webhooks.deliveries() if row.job_id == job_id)
        for read in (lambda: history.get_delivery(tx, own), lambda: history.replay(tx, own)):
            with pytest.raises(DeliveryNotFoundError):
                read()
        first = history.replay_failed(tx, since=webhooks.clock.time - timedelta(days=1))
    assert first == (0, False)


def test_a_replay_has_the_same_id_and_begins_anew(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    webhooks.receiver.answers[HOOK] = 500
    webhooks.ended_job()
    webhooks.pass_time(2 * DAY_S)
    webhooks.receiver.is_up()
    with webhooks.db.of_tenant(TENANT).transaction() as tx:
        assert history.replay_failed(tx, since=webhooks.clock.time - timedelta(days=3)) == (1, False)
    webhooks.deliver()
    assert webhooks.states() == ["delivered"]
    assert len({one.message_id for one in webhooks.receiver.received}) == 1


def test_the_log_is_pruned_and_what_is_pending_stays(webhooks: Webhooks) -> None:
    webhooks.ended_job(webhook_url=HOOK)
    webhooks.deliver()
    pending = webhooks.endpoint("https://down.example.com/")
    webhooks.receiver.is_down("https://down.example.com/")
    webhooks.ended_job()
    webhooks.deliver()
    webhooks.clock.advance(30 * DAY_S + 1)
    platform = webhooks.db.of_platform()
    assert retention.prune_deliveries(platform, older_than_s=30 * DAY_S) == 1
    assert [row.endpoint_id for row in webhooks.deliveries()] == [pending.id]
    with platform.reading() as tx:
        assert tx.session.query(WebhookDelivery).count() == 1
    assert retention.prune_deliveries(platform, older_than_s=30 * DAY_S) == 0


def test_a_body_that_cannot_be_made_ends_nothing_else(webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch) -> None:
    webhooks.endpoint()
    first, second = webhooks.ended_job(), webhooks.ended_job()
    webhooks.fan_out()
    from jobs.webhooks import bodies

    monkeypatch.setattr(bodies, "RENDERERS", {})
    webhooks.sender.send_due()
    assert webhooks.receiver.received == []
    monkeypatch.undo()
    webhooks.pass_time(60)
    assert [one.document["data"]["id"] for one in webhooks.receiver.accepted] == [first, second]
    assert webhooks.job(first).state is State.CANCELED
