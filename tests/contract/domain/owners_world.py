"""A database with rows of one tenant in most tables, and arguments of domain functions that name them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from jobs.api_keys.scope import KeyScope
from jobs.api_keys.service import create_key
from jobs.db.base import Base, TenantOwned
from jobs.db.database import Database, Transaction
from jobs.db.tables import Artifact, Job, JobEvent
from jobs.db.webhook_tables import WebhookDelivery, WebhookEndpoint
from jobs.errors import Failure
from jobs.lifecycle import ArtifactKind, EventKind, Stage, State, WebhookBody, WebhookEvent, WorkerState
from jobs.links import ResultLinks
from jobs.request import JobRequest
from jobs.service import attempts, cancellation, submission, uploads
from jobs.service.attempts import Claim, NewArtifact
from jobs.service.audit import begin_audited
from jobs.service.batch_creation import NewBatch, create_and_commit
from jobs.service.event_log import sequence_events
from jobs.service.presets import put_preset
from jobs.service.queries import JobFilter
from jobs.service.running_attempts import Progress
from jobs.service.scheduling.queue_counters import Lane
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.submission import Idempotency, SubmitPolicy
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.bucket_reader import BucketObject
from jobs.storage.signing import LinkSigner
from jobs.triggers.decision import Action, Decision
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.rule import NewTrigger
from jobs.triggers.service import create_trigger
from jobs.webhooks.endpoints import BY_CALLER, create_endpoint
from jobs.webhooks.history import DeliveryFilter, send_test
from jobs.webhooks.outbox import Message
from jobs.webhooks.sending import SendingRules, TryOutcome, begin_try, claim_endpoint

POLICY = SubmitPolicy(variants=("tiny_16k",), draw_seed=lambda: 7)
OWNER, OTHER = "owner", "other"
RAIN = JobRequest(prompt="rain")


@dataclass(frozen=True)
class World:
    """A database with rows of `OWNER`.

    Attributes:
        values: by name of a parameter, or by the function's name and it.
        secrets: ids of the owner's rows.
        before: all rows of the owner.
    """

    db: Database
    values: dict[str, Any]
    secrets: tuple[str, ...]
    before: list[str]


def owners_rows(tx: Transaction) -> list[str]:
    """Return all rows of the owner, as the platform sees them."""
    found = []
    for mapper in Base.registry.mappers:
        if issubclass(mapper.class_, TenantOwned):
            table = mapper.local_table
            rows = tx.session.execute(select(table).where(table.c.tenant == OWNER))
            found += sorted(f"{table} {tuple(row)}" for row in rows)
    return found


def world_in(url: str, folder: Path) -> Iterator[World]:
    """Fill a migrated database."""
    db = Database(url)
    values = {**_values_of_jobs(db, folder), **_values_of_triggers(db), **_values_of_webhooks(db)}
    secrets = tuple({one for one in values.values() if isinstance(one, str) and one[4:].isalnum() and len(one) > 30})
    assert len(secrets) > 5
    with db.of_platform().reading() as tx:
        before = owners_rows(tx)
    yield World(db, values, secrets, before)
    db.close()


def _values_of_jobs(db: Database, folder: Path) -> dict[str, Any]:
    platform, own = db.of_platform(), db.of_tenant(OWNER)
    with platform.transaction() as tx:
        register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu", slots=4, variants=["tiny_16k"])
        key = create_key(
            tx, tenant=OWNER, name="k", scopes=[KeyScope.JOBS_READ], expires_at=None, actor="local"
        ).row.id  # fmt: skip

    def submitted() -> str:
        with own.transaction() as tx:
            return submission.submit(tx, RAIN, policy=POLICY).job.id

    def claimed() -> Claim:
        job_id = submitted()
        with platform.transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id="w1", lease_s=3600)
        assert claim is not None
        return claim

    queued, done, running, canceling = submitted(), claimed(), claimed(), claimed()
    key_used = Idempotency("POST /v1/jobs", "k", "hash")
    new = NewArtifact("audio.flac", ArtifactKind.AUDIO, "flac", "audio/flac", "k", 5, "0" * 64, 8.0, 0, 7)
    with platform.transaction() as tx:
        attempts.complete(tx, done, [new], warnings=[], timings={}, artifact_ttl_s=3600)
    created = create_and_commit(own, NewBatch([RAIN, RAIN], webhook_url=None), policy=POLICY)
    with own.transaction() as tx:
        upload = uploads.announce_upload(
            tx, filename="f.mp4", content_type="video/mp4", size_bytes=1, sha256=None, ttl_s=3600
        )
        uploads.mark_upload_checked(tx, upload.id)
        cancellation.cancel(tx, canceling.job_id)
        put_preset(tx, "preset", {"prompt": "rain"}, None)
        submission.submit(tx, RAIN, policy=POLICY, idempotency=key_used)
    sequence_events(platform)
    with platform.transaction() as tx:
        audit_id = begin_audited(tx, actor="a", action="a", subject="s", detail={})
        now = tx.now
        job, ended = tx.session.get_one(Job, running.job_id), tx.session.get_one(Job, done.job_id)
        artifact = tx.session.get_one(Artifact, (done.job_id, "audio.flac"))
        event = tx.session.scalars(
            select(JobEvent).where(JobEvent.job_id == done.job_id, JobEvent.kind == EventKind.SUCCEEDED)
        ).one()
    links = ResultLinks("http://localhost", LinkSigner(b"s" * 32), timedelta(hours=1), now, OTHER)
    return {
        "job_id": running.job_id, "job": job, "job_ids": [done.job_id, running.job_id], "name": "audio.flac",
        "artifact": artifact, "claim": running, "worker_id": "w1", "lease_s": 60, "resolved": {"duration_s": 4.0},
        "artifacts": [], "warnings": [], "timings": {}, "artifact_ttl_s": 60, "failure": Failure("c", "m"),
        "event_id": audit_id, "outcome": "fixed", "policy": POLICY, "wanted": JobFilter(), "cursor": None, "limit": 10,
        "leased": [(running.job_id, 1)], "reports": [Progress(running.job_id, 1, Stage.SAMPLE, 0.5)],
        "lane": Lane("tiny_16k", 1, OWNER), "change": 1, "variant": "tiny_16k", "up_to_priority": 2, "tenant": OWNER,
        "variants": ("tiny_16k",), "request": RAIN, "current": State.RUNNING, "following": State.CANCELED,
        "attempt": 1, "kind": EventKind.STAGE, "settings": Settings(data_dir=folder), "state": WorkerState.READY,
        "upload_id": upload.id, "upload_ids": [upload.id], "file_id": upload.id, "values": {"error_code": None},
        "transitions.append_event.data": {}, "webhooks.endpoints.disable.reason": BY_CALLER,
        "previous_round_at": None, "batch_id": created.batch.id, "batch": created.batch, "reference": "preset",
        "idempotency": key_used, "scopes": [KeyScope.JOBS_READ], "key_id": key, "key_ids": [key], "event": event,
        "jobs": [(OWNER, running.job_id, 1)], "links": links, "after": 0,
        "changes": {"max_queued": 5},
        "actor": "local", "input_key": None, "problems": [], "uploads": None, "grace_s": 60, "expires_at": None,
        "cancellation.retry.changes": None, "cancellation.submit_again.changes": None,
        "artifacts.get_artifact.job_id": done.job_id, "artifacts.mark_artifact_missing.job_id": done.job_id,
        "artifacts.unmark_artifact_missing.job_id": done.job_id, "artifacts.downloadable_artifacts.job": ended,
        "artifacts.previews_of_job.job_id": done.job_id,
        "attempts.claim.job_id": queued, "attempts.decline.job_id": queued,
        "attempts.acknowledge_cancel.claim": canceling, "transitions.change_state.event": {},
        "cancellation.retry.job_id": done.job_id, "cancellation.submit_again.job": ended,
        "deletion.delete_job.job_id": done.job_id, "ended_counters.adjust_ended.state": State.FAILED,
        "presets.find_preset.name": "preset", "presets.list_versions.name": "preset", "presets.put_preset.name": "new",
        "presets.delete_preset.name": "preset", "presets.put_preset.request": {"prompt": "wind"},
        "presets.list_presets.after": "", "submission.job_values.resolved": {"variant": "tiny_16k"},
        "submission.job_values.job_id": "job_new", "submission.remember_key.idempotency": Idempotency("s", "new", "h"),
        "scheduling.selection.select_next_jobs.policy": DispatchPolicy(), "size_bytes": 1, "part_bytes": None,
        "webhooks.job_url.remember_webhooks.jobs": [
            (running.job_id, {"webhook_url": "https://example.com", "webhook_events": []})
        ],
    }  # fmt: skip


def _values_of_triggers(db: Database) -> dict[str, Any]:
    with db.of_tenant(OWNER).transaction() as tx:
        trigger, now = create_trigger(tx, NewTrigger(bucket="bucket")), tx.now
    found = BucketObject("v.mp4", "etag", None, 5, now, made_by_job=None)
    decision = Decision(Action.SKIP, ObjectCreated("test", "bucket", ("v.mp4",)), "v.mp4", "version", found=found)
    return {
        "trigger_id": trigger.id, "trigger_ids": [trigger.id], "trigger": trigger, "decision": decision,
        "received_at": now, "rule": NewTrigger(bucket="mine"), "since": now - timedelta(hours=1), "at_most": 10,
    }  # fmt: skip


def _values_of_webhooks(db: Database) -> dict[str, Any]:
    platform = db.of_platform()
    rules = SendingRules(timedelta(seconds=10), timedelta(days=3), lambda: 0.5)
    with db.of_tenant(OWNER).transaction() as tx:
        endpoint = create_endpoint(tx, "https://example.com/hook", events=[WebhookEvent.SUCCEEDED], description=None)
        logged = send_test(tx, endpoint.id)
    with platform.transaction() as tx:
        claim = claim_endpoint(tx, rules)
        assert claim is not None
        begun = begin_try(tx, claim, rules)
        assert begun is not None
        delivery = tx.session.scalars(select(WebhookDelivery).where(WebhookDelivery.id == logged.row.id)).one()
        endpoint = tx.session.get_one(WebhookEndpoint, endpoint.id)
        job_id = tx.session.scalars(select(Job.id).where(Job.state == State.SUCCEEDED)).first()
        batch_id = tx.session.scalars(select(Job.batch_id).where(Job.batch_id.is_not(None))).first()
        message = Message(WebhookEvent.SUCCEEDED, WebhookBody.JOB, "key", tx.now, job_id=job_id)
    told = {"id": "msg_x", "tenant": OWNER, "event": message.event, "detail": {}, "occurred_at": message.occurred_at}
    of_job = WebhookDelivery(**told, body_kind=WebhookBody.JOB, job_id=job_id)
    of_batch = WebhookDelivery(**told, body_kind=WebhookBody.BATCH, batch_id=batch_id, job_id=job_id)
    row = {
        "id": "msg_new", "tenant": OWNER, "endpoint_id": endpoint.id, "event": message.event, "event_key": "new",
        "position": None, "body_kind": WebhookBody.JOB, "job_id": job_id, "batch_id": None, "detail": {},
        "occurred_at": message.occurred_at, "state": delivery.state, "tries": 0, "probes": 0, "overtaken": False,
        "next_try_at": message.occurred_at,
        "created_at": message.occurred_at,
    }  # fmt: skip
    return {
        "endpoint_id": endpoint.id, "endpoint": endpoint, "endpoint_ids": [endpoint.id], "delivery": of_job,
        "delivery_id": delivery.id, "rules": rules, "url": "https://example.com/other", "message": message,
        "events": [WebhookEvent.FAILED], "overlap_s": 60, "rows": [row],
        "webhooks.bodies.batch_body.delivery": of_batch, "webhooks.batch_document.batch_document.delivery": of_batch,
        "webhooks.history.tries_of.delivery": delivery, "webhooks.history.list_deliveries.wanted": DeliveryFilter(),
        "webhooks.sending.begin_try.claim": claim, "webhooks.sending.finish_try.claim": claim,
        "webhooks.sending.release.claim": claim, "webhooks.sending.finish_try.begun": begun,
        "webhooks.sending.finish_try.outcome": TryOutcome(0.1, 200),
    }  # fmt: skip
