"""Creates the jobs of a batch: all of them, in one transaction with inserts of many rows, or none."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from jobs.db.batch_tables import Batch
from jobs.db.bulk_insert import PreparedRows
from jobs.db.database import Database, Transaction
from jobs.db.tables import Job, JobEvent, Upload
from jobs.errors import FieldProblem, QueueFullError, RequestInvalidError
from jobs.ids import new_id
from jobs.lifecycle import EventKind
from jobs.request import UPLOAD_ID, JobRequest
from jobs.service.event_log import sequence_at_commit
from jobs.service.presets import PresetLookup
from jobs.service.scheduling.queue_counters import Lane, adjust_count, queued_of_tenant
from jobs.service.submission import (
    Idempotency,
    SubmitPolicy,
    check_request,
    commit_once,
    earlier_job,
    job_values,
    remember_key,
)
from jobs.service.tenant_limits import check_stored_results
from jobs.service.transitions import event_rows
from jobs.webhooks.job_url import remember_webhooks, url_problem

log = logging.getLogger(__name__)

MAX_PROBLEMS = 100
_READ_AT_ONCE = 500


@dataclass(frozen=True)
class ItemProblem:
    """A field of one request of a batch, and what is wrong with it.

    Attributes:
        index: place of the request, from 0.
    """

    index: int
    problem: FieldProblem


class BatchInvalidError(RequestInvalidError):
    """Raised when requests of a batch are not valid; names the first of them and their fields.

    Attributes:
        items: the problems, in the order of the requests.
    """

    def __init__(self, items: Sequence[ItemProblem]) -> None:
        super().__init__(
            [FieldProblem(f"requests.{item.index}.{item.problem.field}", item.problem.message) for item in items]
        )
        self.items = list(items)


@dataclass(frozen=True)
class NewBatch:
    """A batch to create."""

    requests: Sequence[JobRequest]
    name: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    webhook_url: str | None = None


@dataclass(frozen=True)
class CreatedBatch:
    """A batch; `replayed`: the same idempotency key had created it before."""

    batch: Batch
    variants: frozenset[str]
    replayed: bool


def create_and_commit(
    db: Database, new: NewBatch, *, policy: SubmitPolicy, idempotency: Idempotency | None = None
) -> CreatedBatch:
    """Queue all jobs of a batch, in one transaction.

    Everything that can be is done before it: with SQLite, other writers wait while it lasts.

    Raises:
        BatchInvalidError: requests name something that this server does not have or allow; nothing is created.
        IdempotencyMismatchError: the key was used before with another body.
        QueueFullError: the tenant may not queue so many jobs.
        DiskReserveError: a disk of the platform has no more than its reserve.
    """
    prepared = db.run_reading(lambda tx: _prepare(tx, new, policy, idempotency))
    if isinstance(prepared, CreatedBatch):
        return prepared
    return commit_once(
        db, lambda tx: _create(tx, new, prepared, policy, idempotency), repeatable=idempotency is not None
    )


@dataclass(frozen=True)
class _Prepared:
    """The columns of a batch's jobs, in the order of the requests, and the keys of their uploads by id."""

    batch_id: str
    rows: list[dict[str, Any]]
    inserts: PreparedRows
    events: PreparedRows
    upload_keys: dict[str, str]


def _prepare(
    tx: Transaction, new: NewBatch, policy: SubmitPolicy, idempotency: Idempotency | None
) -> _Prepared | CreatedBatch:
    earlier = _earlier(tx, idempotency)
    if earlier is not None:
        return earlier
    policy = policy.of_tenant(tx)
    _check_backlog(tx, len(new.requests), policy)
    if (problem := url_problem("webhook_url", new.webhook_url, policy.webhooks)) is not None:
        raise RequestInvalidError([problem])
    return _prepared(tx, new.requests, new_id("bat"), policy)


def _earlier(tx: Transaction, idempotency: Idempotency | None) -> CreatedBatch | None:
    job = earlier_job(tx, idempotency) if idempotency is not None else None
    if job is None:
        return None
    assert job.batch_id is not None, job.id
    return CreatedBatch(tx.session.get_one(Batch, job.batch_id), frozenset(), replayed=True)


def _create(
    tx: Transaction, new: NewBatch, prepared: _Prepared, policy: SubmitPolicy, idempotency: Idempotency | None
) -> CreatedBatch:
    earlier = _earlier(tx, idempotency)
    if earlier is not None:
        return earlier
    policy = policy.of_tenant(tx)
    policy.disk.check()
    _check_backlog(tx, len(new.requests), policy)
    uploads = _locked_uploads(tx, prepared.upload_keys)
    usable = {
        upload.id: upload.storage_key
        for upload in uploads.values()
        if upload.checked_at is not None and upload.deleted_at is None and upload.expires_at > tx.now
    }
    if usable != prepared.upload_keys:  # one was deleted meanwhile; this names it
        prepared = _prepared(tx, new.requests, prepared.batch_id, policy)
    rows = prepared.rows
    batch = Batch(
        id=prepared.batch_id,
        tenant=tx.tenant,
        name=new.name,
        labels=new.metadata,
        webhook_url=new.webhook_url,
        job_count=len(rows),
        created_at=tx.now,
    )
    tx.session.add(batch)
    tx.session.flush()
    # The key comes early: who sends the same again meanwhile waits for it, and does nothing in vain.
    prepared.inserts.insert(tx.session, 0, 1)
    if idempotency is not None:
        remember_key(tx, idempotency, rows[0]["id"])
    prepared.inserts.insert(tx.session, 1)
    prepared.events.insert(tx.session)
    sequence_at_commit(tx)
    remember_webhooks(tx, ((row["id"], row["request"]) for row in rows))
    for row in rows:
        adjust_count(tx, Lane(row["variant"], row["priority"], tx.tenant), row["id"], 1)
    tx.after_commit.append(lambda: log.info("batch %s created: tenant=%s jobs=%d", batch.id, batch.tenant, len(rows)))
    return CreatedBatch(batch, frozenset(row["variant"] for row in rows), replayed=False)


def _check_backlog(tx: Transaction, count: int, policy: SubmitPolicy) -> None:
    check_stored_results(tx, policy.max_stored_result_bytes)
    limit = policy.max_queued_per_tenant
    if not limit:
        return
    if count > limit:
        raise RequestInvalidError.of("requests", f"got {count} requests; at most {limit} jobs may be queued")
    queued = queued_of_tenant(tx, tx.tenant)
    if queued + count > limit:
        raise QueueFullError(
            f"{queued} jobs are queued, and the batch has {count}; at most {limit} are allowed; try again later.", limit
        )


def _prepared(tx: Transaction, requests: Sequence[JobRequest], batch_id: str, policy: SubmitPolicy) -> _Prepared:
    """Check the requests and return what is to be inserted.

    Raises:
        BatchInvalidError: some are not valid.
    """
    presets, problems = PresetLookup(tx), list[ItemProblem]()
    merged: list[tuple[int, JobRequest, str | None]] = []
    for index, request in enumerate(requests):
        try:
            merged.append((index, *presets.apply(request)))
        except RequestInvalidError as exc:
            problems += [ItemProblem(index, problem) for problem in exc.problems]
        if len(problems) >= MAX_PROBLEMS:
            raise BatchInvalidError(problems[:MAX_PROBLEMS])
    sources = {request.source for _, request, _ in merged if request.source and UPLOAD_ID.fullmatch(request.source)}
    uploads = _locked_uploads(tx, sources)
    ids = sorted(new_id("job") for _ in requests)  # ids of the same millisecond need not be in order
    rows: list[dict[str, Any]] = []
    for index, request, preset in merged:
        try:
            resolved, input_key = check_request(tx, request, policy=policy, preset=preset, uploads=uploads)
        except RequestInvalidError as exc:
            problems += [ItemProblem(index, problem) for problem in exc.problems]
            if len(problems) >= MAX_PROBLEMS:
                break
            continue
        values = job_values(tx, ids[index], request, resolved, input_key, policy)
        rows.append({**values, "batch_id": batch_id, "batch_index": index, "version": 1})
    if problems:
        raise BatchInvalidError(sorted(problems, key=lambda item: item.index)[:MAX_PROBLEMS])
    events = event_rows([(tx.tenant, row["id"], 0) for row in rows], EventKind.QUEUED, tx.now)
    return _Prepared(
        batch_id,
        rows,
        PreparedRows.of(tx.session, Job, rows),
        PreparedRows.of(tx.session, JobEvent, events),
        {upload.id: upload.storage_key for upload in uploads.values()},
    )


def _locked_uploads(tx: Transaction, upload_ids: Collection[str]) -> dict[str, Upload]:
    """Return uploads by id, locked as `submit` locks them, in the order of their ids."""
    ids, found = sorted(upload_ids), dict[str, Upload]()
    for first in range(0, len(ids), _READ_AT_ONCE):
        page = select(Upload).where(Upload.id.in_(ids[first : first + _READ_AT_ONCE])).order_by(Upload.id)
        locked = page.with_for_update(read=True).execution_options(populate_existing=True)
        found |= {upload.id: upload for upload in tx.session.scalars(locked)}
    return found
