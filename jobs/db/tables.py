"""The tables. CHECK constraints in the database enforce what must always hold.

Columns named `*_at` are UTC times; names of numbers end in their unit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    and_,
    literal,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from jobs.db.base import SERIAL, Base, SharedNumbers, TenantOwned, one_of, partial_index
from jobs.db.batch_tables import Batch, Preset
from jobs.db.types import enum_column
from jobs.lifecycle import (
    TERMINAL_STATES,
    ArtifactKind,
    AttemptOutcome,
    EventKind,
    Stage,
    State,
    TriggerOutcome,
    WorkerState,
)

__all__ = ["Batch", "Preset"]  # imported here, so that whoever uses the tables knows all of them

_ENDED = one_of("state", TERMINAL_STATES)


class Job(TenantOwned, Base):
    """One job: its request and its state. `attempt` is the fencing token: every write of a worker names it."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(one_of("state", State), name="state_known"),
        CheckConstraint(f"stage IS NULL OR {one_of('stage', Stage)}", name="stage_known"),
        CheckConstraint(f"({_ENDED}) = (finished_at IS NOT NULL)", name="finished_when_ended"),
        CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name="lease_while_running"),
        CheckConstraint("(state = 'running') = (stage IS NOT NULL)", name="stage_while_running"),
        CheckConstraint("(state = 'failed') = (error_code IS NOT NULL)", name="error_when_failed"),
        CheckConstraint("state <> 'queued' OR worker_id IS NULL", name="no_worker_while_queued"),
        CheckConstraint("published_at IS NULL OR state = 'queued'", name="published_while_queued"),
        CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name="attempt_in_range"),
        CheckConstraint("progress >= 0 AND progress <= 1", name="progress_in_range"),
        CheckConstraint(
            "retry_at IS NULL OR (state = 'queued' AND published_at IS NULL)", name="retry_while_queued"
        ),
        # One partial index for each query that runs periodically, so that it holds only the rows of that query.
        # The dispatcher's lanes (variant, priority, tenant), each ordered by age.
        partial_index(
            "ix_jobs_waiting", "variant", "priority", "tenant", "created_at", "id",
            where="state = 'queued' AND published_at IS NULL AND retry_at IS NULL",
        ),
        partial_index("ix_jobs_oldest", "variant", "created_at", where="state = 'queued'"),
        partial_index("ix_jobs_published", "variant", "published_at", where="published_at IS NOT NULL"),
        partial_index("ix_jobs_retry", "retry_at", where="retry_at IS NOT NULL"),
        partial_index(
            "ix_jobs_queue_expiry", "queue_expires_at", where="state = 'queued' AND queue_expires_at IS NOT NULL"
        ),
        partial_index("ix_jobs_lease", "lease_expires_at", where="state = 'running'"),
        partial_index("ix_jobs_finished", "variant", "finished_at", where="finished_at IS NOT NULL"),
        partial_index("ix_jobs_input", "input_key", where="finished_at IS NULL AND input_key IS NOT NULL"),
        partial_index("ix_jobs_error_code", "tenant", "error_code", "id", where="error_code IS NOT NULL"),
        partial_index("ix_jobs_retry_of", "retry_of", where="retry_of IS NOT NULL"),
        # Lists: rows of deleted jobs, which stay, would have to be passed over otherwise.
        partial_index("ix_jobs_tenant_page", "tenant", "id", where="deleted_at IS NULL"),
        partial_index("ix_jobs_tenant_state", "tenant", "state", "id", where="deleted_at IS NULL"),
        partial_index("ix_jobs_batch_page", "batch_id", "id", where="batch_id IS NOT NULL"),
        partial_index("ix_jobs_batch_state", "batch_id", "state", where="batch_id IS NOT NULL"),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    state: Mapped[State] = mapped_column(enum_column(State))
    variant: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int]
    request: Mapped[dict[str, Any]]
    input_key: Mapped[str | None] = mapped_column(Text)
    """Location of the input: a key of the platform's store, or `s3://bucket/key`."""
    input_pin: Mapped[dict[str, Any] | None]
    """The version of the input (`etag`, `version_id`); NULL: the one that exists when it is fetched."""
    retry_of: Mapped[str | None] = mapped_column(String(40))
    batch_id: Mapped[str | None] = mapped_column(String(40))
    """The batch that it was created with; NULL: none."""
    batch_index: Mapped[int | None]
    """Its place among the requests of the batch, from 0."""

    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    worker_id: Mapped[str | None] = mapped_column(String(80))
    lease_expires_at: Mapped[datetime | None]
    stage: Mapped[Stage | None] = mapped_column(enum_column(Stage))
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    step: Mapped[int | None]
    eta_s: Mapped[float | None] = mapped_column(Float)
    """Estimated seconds to the end of the running attempt, as of its last progress report."""
    cancel_requested_at: Mapped[datetime | None]

    error_code: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[dict[str, Any] | None]
    warnings: Mapped[list[Any]]
    timings: Mapped[dict[str, Any]]

    created_at: Mapped[datetime]
    available_at: Mapped[datetime]
    """Earliest time of dispatch; later than `created_at` when a retry backs off."""
    retry_at: Mapped[datetime | None]
    """Not in its lane before this time, because a retry backs off; NULL: in its lane. The dispatcher clears it."""
    queue_expires_at: Mapped[datetime | None]
    """When waiting in the queue fails the job; NULL: never."""
    run_deadline_at: Mapped[datetime | None]
    """When the current attempt exceeds its run timeout."""
    published_at: Mapped[datetime | None]
    """When a message for the queued job was published to the broker; NULL: it has no message."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """When its content was deleted at its owner's request; the row stays, so that the id says so."""
    version: Mapped[int] = mapped_column(default=1)
    """Incremented by every write."""


# Conditions of the partial indexes. Their values are literals in the statement: neither database uses a partial index
# for a bound parameter.
QUEUED = Job.state == literal(State.QUEUED, Job.__table__.c.state.type, literal_execute=True)
RUNNING = Job.state == literal(State.RUNNING, Job.__table__.c.state.type, literal_execute=True)
IN_LANE = and_(QUEUED, Job.published_at.is_(None), Job.retry_at.is_(None))


class JobEvent(TenantOwned, Base):
    """One change of a job, written in the transaction of the change; within a job ordered by `id`."""

    __tablename__ = "job_events"
    __table_args__ = (
        CheckConstraint(one_of("kind", EventKind), name="kind_known"),
        Index("ix_job_events_job", "job_id", "id"),
        Index("ix_job_events_position", "position", unique=True),
        Index("ix_job_events_tenant_position", "tenant", "position"),
        partial_index("ix_job_events_unsequenced", "id", where="position IS NULL"),
    )

    id: Mapped[int] = mapped_column(SERIAL, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    kind: Mapped[EventKind] = mapped_column(enum_column(EventKind, length=32))
    attempt: Mapped[int]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    position: Mapped[int | None] = mapped_column(BigInteger)
    """Its place in the order of all events, the public id; NULL until `jobs.service.event_log` has set it."""


class EventLog(SharedNumbers, Base):
    """The last position that an event got, in one row; positions of deleted events are not given again."""

    __tablename__ = "event_log"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_position: Mapped[int] = mapped_column(BigInteger)


class JobAttempt(TenantOwned, Base):
    """One attempt at a job: its worker, its times and its outcome."""

    __tablename__ = "job_attempts"
    __table_args__ = (
        CheckConstraint(f"outcome IS NULL OR {one_of('outcome', AttemptOutcome)}", name="outcome_known"),
        partial_index(
            "ix_job_attempts_to_clean_up", "finished_at", where="outcome <> 'succeeded' AND cleaned_up_at IS NULL"
        ),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str] = mapped_column(String(80))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[AttemptOutcome | None] = mapped_column(enum_column(AttemptOutcome))
    """NULL while it runs."""
    error: Mapped[dict[str, Any] | None]
    cleaned_up_at: Mapped[datetime | None]
    """When the objects of an unsuccessful attempt were removed; NULL: not yet, or it succeeded."""


class Artifact(TenantOwned, Base):
    """A file that a job made. Its row is inserted in the transaction that ends the job as `succeeded`."""

    __tablename__ = "artifacts"
    __table_args__ = (
        CheckConstraint(one_of("kind", ArtifactKind), name="kind_known"),
        partial_index("ix_artifacts_expires_at", "expires_at", where="deleted_at IS NULL"),
        Index("ix_artifacts_tenant", "tenant"),
        partial_index("ix_artifacts_stored", "tenant", "size_bytes", where="deleted_at IS NULL"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    kind: Mapped[ArtifactKind] = mapped_column(enum_column(ArtifactKind))
    format: Mapped[str] = mapped_column(String(16))
    content_type: Mapped[str] = mapped_column(String(80))
    storage_key: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    duration_s: Mapped[float]
    take: Mapped[int]
    """Which of the request's takes it belongs to, from 0."""
    seed: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    delivered_to: Mapped[str | None] = mapped_column(Text)
    """`s3://bucket/key` of the copy in the caller's own bucket; the platform never expires or deletes it."""
    detail: Mapped[dict[str, Any] | None]
    """Of a preview: `peaks` of the waveform, and the size and scales of the `picture`."""


class Upload(TenantOwned, Base):
    """An input file. `checked_at` is set when the stored object was found to match the announcement.

    A resumable one has `part_bytes`, and while its parts are sent directly to a bucket, the `write_id` of that write.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint("size_bytes > 0", name="not_empty"),
        partial_index("ix_uploads_expires_at", "expires_at", where="deleted_at IS NULL"),
        partial_index(
            "ix_uploads_to_delete", "delete_requested_at",
            where="delete_requested_at IS NOT NULL AND checked_at IS NOT NULL AND deleted_at IS NULL",
        ),
        partial_index("ix_uploads_held", "tenant", "size_bytes", where="deleted_at IS NULL"),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    filename: Mapped[str] = mapped_column(String(255))
    content_type: Mapped[str] = mapped_column(String(120))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    storage_key: Mapped[str] = mapped_column(Text)
    part_bytes: Mapped[int | None] = mapped_column(BigInteger)
    write_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    checked_at: Mapped[datetime | None]
    delete_requested_at: Mapped[datetime | None]
    """When its owner deleted it; it has expired then, and `checked_at` is removed with its object."""
    deleted_at: Mapped[datetime | None]
    """When its object was deleted, or found missing."""


class Worker(Base):
    """One worker process: its device, its variants and its last heartbeat."""

    __tablename__ = "workers"
    __table_args__ = (CheckConstraint(one_of("state", WorkerState), name="state_known"),)

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    hostname: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    device: Mapped[str] = mapped_column(String(64))
    state: Mapped[WorkerState] = mapped_column(enum_column(WorkerState))
    slots: Mapped[int]
    variants: Mapped[list[Any]]
    """Variants whose jobs it runs."""
    variants_loaded: Mapped[list[Any]]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    gpu: Mapped[dict[str, Any] | None]
    """`memory_used_bytes`, `memory_total_bytes`, `utilization` (0..1) and `temperature_c`; NULL: no GPU."""
    unavailable: Mapped[dict[str, Any] | None]
    """Why it takes no jobs: `code`, `message` and `since`; NULL: it takes them."""
    clock_skew_s: Mapped[float | None] = mapped_column(Float)
    """Seconds that its clock is ahead of the database's."""
    sandbox_lacks: Mapped[list[Any] | None]
    """Names of the sandbox's protections that this kernel does not support."""
    drain_requested_at: Mapped[datetime | None]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    stopped_at: Mapped[datetime | None]


class IdempotencyKey(TenantOwned, Base):
    """A used `Idempotency-Key` with the job that it created and the hash of its body."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    scope: Mapped[str] = mapped_column(String(255), primary_key=True)
    """Method and path."""
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]


class Trigger(TenantOwned, Base):
    """A rule that turns bucket events into jobs."""

    __tablename__ = "triggers"
    __table_args__ = (
        Index("ix_triggers_bucket", "bucket"),
        Index("ix_triggers_tenant_page", "tenant", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(120))
    bucket: Mapped[str] = mapped_column(String(255))
    prefix: Mapped[str] = mapped_column(Text)
    suffixes: Mapped[list[Any]]
    source_field: Mapped[str] = mapped_column(String(16))
    """Which field of the request the object becomes: `video` or `image`."""
    request: Mapped[dict[str, Any]]
    deliver_to: Mapped[str | None] = mapped_column(Text)
    enabled: Mapped[bool] = mapped_column(Boolean)
    """False: events are ignored. The rate breaker sets `paused_at` instead, and events are held."""
    paused_at: Mapped[datetime | None]
    pause_reason: Mapped[str | None] = mapped_column(Text)
    resumed_at: Mapped[datetime | None]
    """The rate breaker counts jobs from this time on."""
    created_at: Mapped[datetime]


class TriggerEvent(TenantOwned, Base):
    """The outcome of one object version at one trigger. The unique index makes redelivered events harmless."""

    __tablename__ = "trigger_events"
    __table_args__ = (
        Index("uq_trigger_events_object", "trigger_id", "bucket", "object_key", "object_version", unique=True),
        Index("ix_trigger_events_rate", "trigger_id", "received_at"),
        Index("ix_trigger_events_received_at", "received_at"),
        Index("ix_trigger_events_job_id", "job_id"),
        Index(
            "ix_trigger_events_held",
            "retry_at",
            postgresql_where=text("outcome = 'held'"),
            sqlite_where=text("outcome = 'held'"),
        ),
        CheckConstraint(one_of("outcome", TriggerOutcome), name="outcome_known"),
        CheckConstraint("(outcome = 'held') = (retry_at IS NOT NULL)", name="retry_while_held"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    trigger_id: Mapped[str] = mapped_column(ForeignKey("triggers.id", ondelete="CASCADE"))
    bucket: Mapped[str] = mapped_column(String(255))
    object_key: Mapped[str] = mapped_column(Text)
    object_version: Mapped[str] = mapped_column(String(255))
    """The version of the object: see `jobs.triggers.object_version`."""
    outcome: Mapped[TriggerOutcome] = mapped_column(enum_column(TriggerOutcome))
    reason: Mapped[str | None] = mapped_column(Text)
    event: Mapped[dict[str, Any]]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    tries: Mapped[int]
    retry_at: Mapped[datetime | None]
    received_at: Mapped[datetime]


class InboxFile(TenantOwned, Base):
    """A file of a watched folder and the job that it became."""

    __tablename__ = "inbox_files"
    __table_args__ = (
        Index("ix_inbox_files_job_id", "job_id"),
        partial_index("ix_inbox_files_unsettled", "inbox_id", "job_id", where="settled_at IS NULL"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """A hash of path, inode, size and times: the same file has the same id after a crash."""
    inbox_id: Mapped[str] = mapped_column(String(32))
    """Which folder: several machines may watch one each and share the database."""
    path: Mapped[bytes] = mapped_column(LargeBinary)
    """Path relative to the folder, in the bytes of the file system."""
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    outbox: Mapped[dict[str, Any]]
    """By the name of an artifact: `path` in the outbox (percent-encoded), `placed` whether it is there."""
    settled_at: Mapped[datetime | None]
    """When the end of the job was dealt with: results placed, an unreadable file refused."""


class QueuedCount(TenantOwned, Base):
    """The number of queued jobs of a lane, updated in the transactions that change it, so that no query counts rows.

    A lane is (variant, priority, tenant). Its count is spread over shards (by job id), because with a single row each
    submit of a tenant would wait for the commit of the previous one.
    """

    __tablename__ = "queued_counts"
    __table_args__ = (Index("ix_queued_counts_tenant", "tenant"),)

    variant: Mapped[str] = mapped_column(String(64), primary_key=True)
    priority: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    queued: Mapped[int]


class EndedCount(TenantOwned, Base):
    """The number of a tenant's jobs that ended in a state and are not deleted; in shards, as `QueuedCount`."""

    __tablename__ = "ended_counts"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[State] = mapped_column(enum_column(State), primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ended: Mapped[int]


class VariantQueue(Base):
    """The dispatcher's state of a variant, and whether an operator has paused it."""

    __tablename__ = "variant_queues"

    variant: Mapped[str] = mapped_column(String(64), primary_key=True)
    paused_at: Mapped[datetime | None]
    virtual_time: Mapped[float] = mapped_column(Float, default=0.0)
    """Virtual time of fair queueing; a new tenant starts here (jobs.service.scheduling.fairness)."""
    dispatch_count: Mapped[int] = mapped_column(BigInteger, default=0)


class TenantVirtualTime(Base):
    """A tenant's virtual time within a variant. No row: the variant's virtual time."""

    __tablename__ = "tenant_virtual_times"

    variant: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    virtual_time: Mapped[float] = mapped_column(Float)


class TenantQuota(TenantOwned, Base):
    """An operator's limits for a tenant. No row: weight 1 and the limit from the settings."""

    __tablename__ = "tenant_quotas"
    __table_args__ = (
        CheckConstraint("weight > 0", name="weight_positive"),
        CheckConstraint("max_running IS NULL OR max_running >= 0", name="max_running_in_range"),
    )

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    weight: Mapped[float] = mapped_column(Float)
    max_running: Mapped[int | None]
    """How many of its jobs may run at once; NULL: the limit from the settings."""


class Leadership(Base):
    """The process that currently leads a role, by the database's clock."""

    __tablename__ = "leaderships"

    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str] = mapped_column(String(80))
    elected_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class PlatformIdentity(Base):
    """The id of this database, in one row; the marker object of its store names the same (`jobs.storage.identity`)."""

    __tablename__ = "platform_identity"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    platform_id: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime]
    bound_at: Mapped[datetime | None]
    """When a store's marker was first seen to name this database; NULL: no store has one yet."""


class AuditEvent(Base):
    """One repair of `mmaudio doctor`, written before it and completed after it; ordered by `id`, never deleted."""

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_subject", "subject"),)

    id: Mapped[int] = mapped_column(SERIAL, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(Text)
    """What was changed: an id, an id and a name, or a key of the store."""
    detail: Mapped[dict[str, Any]]
    """`kind` and `reason` of the inconsistency; `outcome`: `started`, `fixed`, `unneeded` or `failed`."""


# All tables share one metadata, which migrations and their tests read from here.
import jobs.db.key_tables  # noqa: E402
import jobs.db.webhook_tables  # noqa: E402, F401
