"""Webhooks of predictions and of fal's requests: bodies and signatures as their official clients read them."""

from __future__ import annotations

from typing import Any

import pytest
from replicate.prediction import Prediction
from replicate.webhook import InvalidSignatureError, WebhookSigningSecret
from replicate.webhook import Webhooks as ReplicateWebhooks

from jobs.compat.replicate_events import subscribed_events
from jobs.errors import InputDamagedError
from jobs.lifecycle import ArtifactKind, WebhookBody
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.deletion import delete_job
from jobs.service.submission import submit
from jobs.webhooks.tenant_secret import tenant_secret
from tests.contract.webhooks.conftest import HOOK, TENANT, Webhooks

SOUND = NewArtifact(
    name="audio.flac", kind=ArtifactKind.AUDIO, format="flac", content_type="audio/flac", storage_key="jobs/a",
    size_bytes=10, sha256="0" * 64, duration_s=8.0, take=0, seed=7,
)  # fmt: skip


def submitted(webhooks: Webhooks, body: WebhookBody, events: list[str]) -> str:
    fields = {"prompt": "rain", "num_steps": 4, "webhook_url": HOOK, "webhook_events": events}
    with webhooks.db.of_tenant(TENANT).transaction() as tx:
        return submit(tx, JobRequest.model_validate(fields), policy=webhooks.policy, webhook_body=body).job.id


def succeed(webhooks: Webhooks, job_id: str) -> None:
    claim = webhooks.start(job_id)
    with webhooks.db.of_platform().transaction() as tx:
        attempts.complete(tx, claim, [SOUND], warnings=[], timings={}, artifact_ttl_s=3600)


def bodies(webhooks: Webhooks) -> list[dict[str, Any]]:
    webhooks.deliver()
    webhooks.pass_time(1)
    return [request.document for request in webhooks.receiver.accepted]


def test_a_predictions_webhook_tells_each_state_as_of_its_event(webhooks: Webhooks) -> None:
    events = subscribed_events(HOOK, ["start", "completed"], None)["webhook_events"]
    job_id = submitted(webhooks, WebhookBody.REPLICATE, events)
    succeed(webhooks, job_id)  # before anything is sent

    started, ended = (Prediction(**body) for body in bodies(webhooks))
    assert (started.id, started.status, started.output, started.completed_at) == (job_id, "processing", None, None)
    assert (ended.status, ended.error) == ("succeeded", None)
    assert str(ended.output).startswith(f"https://sounds.example.com/v1/jobs/{job_id}/artifacts/audio.flac?")
    assert ended.progress is not None
    assert ended.progress.current == 4


def test_replicates_client_verifies_the_signature_with_the_secret_of_the_tenant(webhooks: Webhooks) -> None:
    job_id = submitted(webhooks, WebhookBody.REPLICATE, ["canceled", "succeeded"])
    succeed(webhooks, job_id)
    webhooks.deliver()
    (request,) = webhooks.receiver.accepted
    with webhooks.db.of_tenant(TENANT).transaction() as tx:
        secret = WebhookSigningSecret(key=tenant_secret(tx).secret)

    ReplicateWebhooks.validate(headers=dict(request.headers), body=request.body, secret=secret)
    with pytest.raises(InvalidSignatureError):
        ReplicateWebhooks.validate(headers=dict(request.headers), body=request.body + " ", secret=secret)


def test_fals_webhook_has_the_result_or_the_error(webhooks: Webhooks) -> None:
    ended = ["succeeded", "failed", "canceled"]
    job_id = submitted(webhooks, WebhookBody.FAL, ended)
    succeed(webhooks, job_id)
    other = submitted(webhooks, WebhookBody.FAL, ended)
    claim = webhooks.start(other)
    with webhooks.db.of_platform().transaction() as tx:
        attempts.fail(tx, claim, InputDamagedError("It is no video.").failure("decode"))

    done, failed = bodies(webhooks)
    assert (done["request_id"], done["status"]) == (job_id, "OK")
    assert done["payload"]["audio"]["file_name"] == "audio.flac"
    assert (failed["request_id"], failed["status"], failed["error"]) == (other, "ERROR", "It is no video.")


def test_nothing_is_told_of_a_deleted_job(webhooks: Webhooks) -> None:
    for kind in (WebhookBody.REPLICATE, WebhookBody.FAL):
        job_id = submitted(webhooks, kind, ["succeeded"])
        succeed(webhooks, job_id)
        webhooks.fan_out()
        with webhooks.db.of_tenant(TENANT).transaction() as tx:
            delete_job(tx, job_id)
    assert bodies(webhooks) == []
    assert set(webhooks.states()) == {"dropped"}
