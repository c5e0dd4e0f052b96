"""Turns a request into a queued job: limits, defaults, the input, the idempotency key."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy.exc import IntegrityError

from jobs.api_keys.scope import DEFAULT_TENANT
from jobs.db.database import Database, Transaction
from jobs.db.key_tables import TenantSettings
from jobs.db.tables import IdempotencyKey, Job, Upload
from jobs.disk_space import NO_RESERVE, DiskReserve
from jobs.errors import FieldProblem, IdempotencyMismatchError, QueueFullError, RequestInvalidError
from jobs.ids import new_id
from jobs.lifecycle import EventKind, InputKind, State, WebhookBody
from jobs.outbound.addresses import Network
from jobs.outbound.policy import OutboundPolicy, networks_of
from jobs.outbound.urls import shown_url
from jobs.request import JobRequest, is_web_url
from jobs.service.input_location import check_delivery, input_key_of
from jobs.service.presets import PresetLookup
from jobs.service.scheduling.queue_counters import Lane, adjust_count, queued_of_tenant
from jobs.service.tenant_limits import check_stored_results
from jobs.service.transitions import append_event
from jobs.settings import Settings
from jobs.storage.protocol import ObjectPin
from jobs.tenants.own_storage import NO_BUCKET, OwnStorage
from jobs.variants import VARIANTS
from jobs.webhooks.job_url import remember_webhooks, resolved_webhook, url_problem

log = logging.getLogger(__name__)

Result = TypeVar("Result")

ANY_PUBLIC_URL = OutboundPolicy(schemes=frozenset({"http", "https"}))
MAX_DRAWN_SEED = 2**32


def draw_seed() -> int:
    """Return a random seed."""
    return secrets.randbelow(MAX_DRAWN_SEED)


@dataclass(frozen=True)
class SubmitPolicy:
    """The part of the settings that a request is checked against."""

    variants: tuple[str, ...]
    """Variants that requests may name; the first is the default."""
    max_attempts: int = 3
    max_queued_per_tenant: int = 100_000
    default_run_timeout_s: int = 3600
    input_buckets: frozenset[str] = frozenset()
    output_buckets: frozenset[str] = frozenset()
    input_hosts: tuple[str, ...] = ()
    """Patterns of the hosts that inputs may be fetched from; see `OutboundPolicy.hosts`."""
    own_storage: OwnStorage = NO_BUCKET
    """Where the platform keeps its files, which are no input and no place for results of a tenant."""
    allowed_networks: tuple[Network, ...] = ()
    """Networks that inputs may be fetched from although they are not public."""
    max_stored_result_bytes: int = 0
    """Bytes of stored results at which a tenant may submit no more; 0: no limit."""
    tenant: str | None = None
    """Whose rules these are; None: the defaults."""
    default_tenant_only: bool = False
    """The buckets and hosts are for the tenant `default` alone, as those of the settings are."""
    webhooks: OutboundPolicy = ANY_PUBLIC_URL
    """Which URLs may be called."""
    disk: DiskReserve = NO_RESERVE
    """The disks that hold what a job leaves."""
    draw_seed: Callable[[], int] = field(default=draw_seed)

    @classmethod
    def from_settings(cls, settings: Settings, variants: tuple[str, ...]) -> SubmitPolicy:
        return cls(
            variants=variants,
            max_attempts=settings.max_attempts,
            max_queued_per_tenant=settings.max_queued_per_tenant,
            default_run_timeout_s=settings.default_run_timeout_s,
            default_tenant_only=True,
            input_buckets=frozenset(settings.input_buckets),
            output_buckets=frozenset(settings.output_buckets),
            input_hosts=tuple(settings.input_hosts),
            own_storage=OwnStorage.from_url(settings.storage_url),
            allowed_networks=networks_of(settings),
            max_stored_result_bytes=settings.max_stored_result_bytes_per_tenant,
            webhooks=OutboundPolicy.for_webhooks(settings),
            disk=DiskReserve.of_platform(settings),
        )

    def of_tenant(self, tx: Transaction) -> SubmitPolicy:
        """Return the policy with what an operator has set for the tenant of the transaction."""
        tenant = tx.tenant
        if self.tenant == tenant:
            return self
        row = tx.session.get(TenantSettings, tenant)
        has_defaults = tenant == DEFAULT_TENANT or not self.default_tenant_only
        own: dict[str, Any] = {
            "input_buckets": self.input_buckets if has_defaults else frozenset(),
            "output_buckets": self.output_buckets if has_defaults else frozenset(),
            "input_hosts": self.input_hosts if has_defaults else (),
        }
        if row is not None:
            own |= {name: type(own[name])(value) for name in own if (value := getattr(row, name)) is not None}
            if row.max_queued is not None:
                own["max_queued_per_tenant"] = row.max_queued
            if row.max_stored_result_bytes is not None:
                own["max_stored_result_bytes"] = row.max_stored_result_bytes
        return replace(self, tenant=tenant, **own)


@dataclass(frozen=True)
class Idempotency:
    """An `Idempotency-Key` with its scope (method and path) and the hash of the request's body."""

    scope: str
    key: str
    body_sha256: str

    @classmethod
    def of(cls, scope: str, key: str, request: JobRequest) -> Idempotency:
        """Hash the parsed request, so that the order of its fields does not matter."""
        text = json.dumps(request.model_dump(mode="json", exclude_unset=True), sort_keys=True)
        return cls(scope, key, hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True)
class Submitted:
    """A queued job; `replayed`: the same idempotency key had created it before."""

    job: Job
    replayed: bool


def submit(
    tx: Transaction,
    request: JobRequest,
    *,
    policy: SubmitPolicy,
    idempotency: Idempotency | None = None,
    retry_of: str | None = None,
    input_pin: ObjectPin | None = None,
    preset: str | None = None,
    webhook_body: WebhookBody = WebhookBody.JOB,
) -> Submitted:
    """Queue a job of the transaction's tenant; logs one line once the transaction is committed.

    Args:
        input_pin: the version of an input that is an object in a bucket.
        preset: the version of the preset whose fields the request has already.
        webhook_body: what the URL receives that the request names.

    Raises:
        RequestInvalidError: a field names something that this server does not have or allow.
        IdempotencyMismatchError: the key was used before with another body.
        QueueFullError: the tenant has too many queued jobs.
        ResultStorageFullError: the results that are stored for the tenant have reached its limit.
        DiskReserveError: a disk of the platform has no more than its reserve.
    """
    if idempotency is not None and (earlier := earlier_job(tx, idempotency)) is not None:
        return Submitted(earlier, replayed=True)
    policy = policy.of_tenant(tx)
    policy.disk.check()
    check_backlog(tx, policy)
    check_stored_results(tx, policy.max_stored_result_bytes)
    if preset is None:
        request, preset = PresetLookup(tx).apply(request)
    resolved, input_key = check_request(tx, request, policy=policy, preset=preset)
    job = Job(
        **job_values(tx, new_id("job"), request, resolved, input_key, policy),
        input_pin=asdict(input_pin) if input_pin is not None else None,
        retry_of=retry_of,
    )
    tx.session.add(job)
    tx.session.flush()  # the rows below refer to it
    append_event(tx, job.id, EventKind.QUEUED, 0, {"retry_of": retry_of} if retry_of else {}, tenant=job.tenant)
    remember_webhooks(tx, [(job.id, resolved)], body_kind=webhook_body)
    adjust_count(tx, Lane(job.variant, job.priority, job.tenant), job.id, 1)
    tx.after_commit.append(lambda: _log_submitted(job, request))
    if idempotency is not None:
        remember_key(tx, idempotency, job.id)
    return Submitted(job, replayed=False)


def job_values(
    tx: Transaction,
    job_id: str,
    request: JobRequest,
    resolved: dict[str, Any],
    input_key: str | None,
    policy: SubmitPolicy,
) -> dict[str, Any]:
    """Return the columns of a new job."""
    return {
        "id": job_id,
        "tenant": tx.tenant,
        "state": State.QUEUED,
        "variant": resolved["variant"],
        "priority": request.priority.rank,
        "request": resolved,
        "input_key": input_key,
        "attempt": 0,
        "max_attempts": policy.max_attempts,
        "progress": 0.0,
        "warnings": [],
        "timings": {},
        "created_at": tx.now,
        "available_at": tx.now,
        "queue_expires_at": tx.now + timedelta(seconds=request.queue_ttl_s) if request.queue_ttl_s else None,
    }


def remember_key(tx: Transaction, idempotency: Idempotency, job_id: str) -> None:
    """Record that an idempotency key created a job, or a batch whose first job it is."""
    tx.session.add(
        IdempotencyKey(
            tenant=tx.tenant,
            scope=idempotency.scope,
            key=idempotency.key,
            body_sha256=idempotency.body_sha256,
            job_id=job_id,
            created_at=tx.now,
        )
    )
    tx.session.flush()


def check_request(
    tx: Transaction,
    request: JobRequest,
    *,
    policy: SubmitPolicy,
    preset: str | None = None,
    uploads: Mapping[str, Upload] | None = None,
) -> tuple[dict[str, Any], str | None]:
    """Return the request of the transaction's tenant with its defaults filled in, and the location of its input.

    Args:
        preset: the version of the preset whose fields the request has.
        uploads: those that may be its input, already read and locked; None: not read yet.

    Raises:
        RequestInvalidError: as `submit`.
    """
    tx.require_own(tx.tenant)
    policy = policy.of_tenant(tx)
    resolved, problems = resolve_defaults(request, policy)
    if preset is not None:
        resolved["preset"] = preset
    input_key = input_key_of(tx, request, policy, problems, uploads)
    if input_key is not None and is_web_url(input_key):
        resolved[request.source_field] = shown_url(input_key)
    check_delivery(request, policy, problems)
    if (problem := url_problem("webhook_url", request.webhook_url, policy.webhooks)) is not None:
        problems.append(problem)
    if problems:
        raise RequestInvalidError(problems)
    return resolved, input_key


def _log_submitted(job: Job, request: JobRequest) -> None:
    log.info(
        "job %s submitted: tenant=%s variant=%s priority=%s input=%s",
        job.id, job.tenant, job.variant, request.priority, _input_kind(request),
    )  # fmt: skip


def _input_kind(request: JobRequest) -> InputKind:
    if request.video is not None:
        return InputKind.VIDEO
    return InputKind.TEXT if request.image is None else InputKind.IMAGE


def earlier_job(tx: Transaction, idempotency: Idempotency) -> Job | None:
    """Return the job that an idempotency key created before; None: none.

    Raises:
        IdempotencyMismatchError: with another body.
    """
    row = tx.session.get(IdempotencyKey, (tx.tenant, idempotency.scope, idempotency.key))
    if row is None:
        return None
    if row.body_sha256 != idempotency.body_sha256:
        raise IdempotencyMismatchError(
            f"Idempotency key {idempotency.key!r} was used before with another body; use a new key for a new request."
        )
    return tx.session.get_one(Job, row.job_id)


def check_backlog(tx: Transaction, policy: SubmitPolicy, *, more: int = 0) -> None:
    """Check that the tenant may queue one more job, besides `more` that are not counted yet.

    Raises:
        QueueFullError: it has too many queued jobs.
    """
    policy = policy.of_tenant(tx)
    if not policy.max_queued_per_tenant:
        return
    queued = queued_of_tenant(tx, tx.tenant) + more
    if queued >= policy.max_queued_per_tenant:
        raise QueueFullError(
            f"{queued} jobs are queued, at most {policy.max_queued_per_tenant} are allowed; try again later.",
            policy.max_queued_per_tenant,
        )


def resolve_defaults(request: JobRequest, policy: SubmitPolicy) -> tuple[dict[str, Any], list[FieldProblem]]:
    """Return the request with its defaults filled in, so that it reproduces the job, and what is not allowed."""
    problems: list[FieldProblem] = []
    name = request.variant or (policy.variants[0] if policy.variants else "")
    if name not in policy.variants or name not in VARIANTS:
        offered = ", ".join(policy.variants) or "none"
        problems.append(FieldProblem("variant", f"got {name!r}; this server offers: {offered}"))
        return {}, problems
    facts = VARIANTS[name]
    duration = request.duration_s
    if duration is not None and not facts.min_duration_s <= duration <= facts.max_duration_s:
        problems.append(
            FieldProblem(
                "duration_s",
                f"got {duration:g} s; {name} makes {facts.min_duration_s:g} to {facts.max_duration_s:g} s",
            )
        )
    if duration is None and request.video is None:
        duration = facts.default_duration_s  # the default with a video is its length, which the worker reads
    resolved = request.model_dump(mode="json", exclude_none=True)
    resolved |= {
        "variant": name,
        "seed": request.seed if request.seed is not None else policy.draw_seed(),
        "mux": request.wants_mux,
        "run_timeout_s": request.run_timeout_s or policy.default_run_timeout_s,
        **resolved_webhook(request),
    }
    if duration is not None:
        resolved["duration_s"] = duration
    return resolved, problems


def submit_and_commit(
    db: Database,
    request: JobRequest,
    *,
    policy: SubmitPolicy,
    idempotency: Idempotency | None = None,
    webhook_body: WebhookBody = WebhookBody.JOB,
) -> Submitted:
    """Submit in a transaction of its own; raises what `submit` raises."""
    return commit_once(
        db,
        lambda tx: submit(tx, request, policy=policy, idempotency=idempotency, webhook_body=webhook_body),
        repeatable=idempotency is not None,
    )


def commit_once(db: Database, step: Callable[[Transaction], Result], *, repeatable: bool) -> Result:
    """Run a step that may have an idempotency key in a transaction of its own.

    Two requests with one new key may race: the second insert violates the key, and the next try finds the first job.

    Args:
        repeatable: the step has a key, so a commit with unknown result may be tried again.
    """
    try:
        return db.run(step, repeatable=repeatable)
    except IntegrityError:
        return db.run(step, repeatable=repeatable)
