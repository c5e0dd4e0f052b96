"""Revision 0007 renames tables and columns that hold data: nothing is lost on the way up, and down again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import MetaData, inspect, select, text
from sqlalchemy.exc import IntegrityError

from jobs.db.database import Database
from jobs.db.tables import (
    Artifact,
    Job,
    JobAttempt,
    JobEvent,
    TenantQuota,
    TenantVirtualTime,
    Trigger,
    TriggerEvent,
    VariantQueue,
    Worker,
)
from jobs.lifecycle import ArtifactKind, AttemptOutcome, EventKind, TriggerOutcome, WorkerState
from migrations.upgrade import downgrade, upgrade

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
JOB = {
    "tenant": "a", "variant": "tiny_16k", "priority": 1, "attempt": 1, "max_attempts": 3, "progress": 0.0,
    "warnings": [], "timings": {}, "created_at": NOON, "available_at": NOON, "version": 1,
}  # fmt: skip
ENDED = {"finished_at": LATER, "worker_id": "w1"}
DELIVERED = {"prompt": 'rain "ü"', "seed": 2**62, "cfg_strength": 4.5, "output": "s3://theirs/out/"}
# The rows as the release before would have written them, in an order that foreign keys allow.
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("jobs", {**JOB, **ENDED, "id": "job_1", "state": "succeeded", "request": DELIVERED}),
    ("jobs", {**JOB, "id": "job_2", "state": "queued", "request": {"prompt": "output", "metadata": {"output": "x"}}}),
    ("jobs", {**JOB, **ENDED, "id": "job_3", "state": "failed", "error_code": "x", "request": {"prompt": "wind"}}),
    ("job_events", {"job_id": "job_1", "kind": "queued", "attempt": 0, "data": {}, "created_at": NOON}),
    ("job_events", {"job_id": "job_1", "kind": "stage", "attempt": 1, "data": {"stage": "mux"}, "created_at": LATER}),
    ("job_events", {"job_id": "job_3", "kind": "cancel_requested", "attempt": 1, "data": {}, "created_at": LATER}),
    (
        "job_attempts",
        {"job_id": "job_1", "attempt": 1, "worker_id": "w1", "started_at": NOON, "finished_at": LATER,
         "outcome": "succeeded"},
    ),
    (
        "job_attempts",
        {"job_id": "job_3", "attempt": 1, "worker_id": "w1", "started_at": NOON, "finished_at": LATER,
         "outcome": "lost", "error": {"code": "worker_lost"}, "swept_at": LATER},
    ),
    ("job_attempts", {"job_id": "job_3", "attempt": 2, "worker_id": "w1", "started_at": NOON}),
    (
        "artifacts",
        {"job_id": "job_1", "name": "audio.flac", "kind": "audio", "format": "flac", "content_type": "audio/flac",
         "storage_key": "jobs/job_1/1/audio.flac", "size_bytes": 5, "sha256": "0" * 64, "duration_s": 8.0,
         "sample_index": 0, "seed": 2**62},
    ),
    ("idempotency_keys", {"tenant": "a", "scope": "POST /v1/jobs", "key": "k", "body_sha256": "0", "job_id": "job_1",
                          "created_at": NOON}),
    (
        "workers",
        {"id": "w1", "hostname": "h", "pid": 1, "device": "cpu", "state": "lost", "slots": 4,
         "variants": ["tiny_16k"], "variants_loaded": [], "started_at": NOON, "heartbeat_at": LATER},
    ),
    (
        "triggers",
        {"id": "trg_1", "tenant": "a", "bucket": "inbox", "prefix": "in/", "suffixes": [".mp4"],
         "source_field": "video", "request": {"prompt": "rain"}, "output": "s3://theirs/out/", "enabled": True,
         "created_at": NOON},
    ),
    (
        "trigger_events",
        {"id": "tev_1", "trigger_id": "trg_1", "bucket": "inbox", "object_key": "in/a.mp4", "identity": "version 7",
         "outcome": "submitted", "event": {"keys": ["in/a.mp4"]}, "job_id": "job_1", "tries": 0, "seen_at": NOON},
    ),
    (
        "trigger_events",
        {"id": "tev_2", "trigger_id": "trg_1", "bucket": "inbox", "object_key": "in/b.mp4", "identity": "version 8",
         "outcome": "held", "event": {"keys": ["in/b.mp4"]}, "tries": 2, "retry_at": LATER, "seen_at": NOON},
    ),
    ("queued_counts", {"variant": "tiny_16k", "priority": 1, "tenant": "a", "shard": 0, "queued": 1}),
    ("variant_queues", {"variant": "tiny_16k", "virtual_time": 2.5, "picks": 42}),
    ("tenant_turns", {"variant": "tiny_16k", "tenant": "a", "virtual_time": 3.5}),
    ("tenant_shares", {"tenant": "a", "weight": 2.0, "max_running": 3}),
    ("tenant_shares", {"tenant": "b", "weight": 0.5}),
]  # fmt: skip


@pytest.fixture
def old(database_url: str) -> Iterator[Database]:
    """A database of revision 0003 with a row of everything."""
    upgrade(database_url, "0003")
    database = Database(database_url).of_platform()
    tables = _reflected(database)
    with database.engine.begin() as connection:
        for table, row in ROWS:
            connection.execute(tables[table].insert().values(row))
    yield database
    database.close()


def _reflected(database: Database) -> dict[str, Any]:
    metadata = MetaData()
    metadata.reflect(database.engine)
    return dict(metadata.tables)


def contents(database: Database) -> dict[str, list[str]]:
    with database.engine.connect() as connection:
        return {
            name: sorted(repr(tuple(row)) for row in connection.execute(select(table)))
            for name, table in _reflected(database).items()
            if name != "alembic_version"
        }


def _text(value: Any) -> str:
    """Return a description that is equal for equal parts of a schema; SQL expressions compare by their text."""
    if isinstance(value, dict):
        return str(sorted((key, _text(part)) for key, part in value.items()))
    return str(value)


def shape(database: Database) -> dict[str, Any]:
    """Return columns, indexes with their conditions, checks and foreign keys of each table, in no order."""
    inspector = inspect(database.engine)

    def described(items: list[Any]) -> list[str]:
        return sorted(_text(item) for item in items)

    return {
        table: [
            described(inspector.get_columns(table)),
            described(inspector.get_indexes(table)),
            described(inspector.get_check_constraints(table)),
            described(inspector.get_foreign_keys(table)),
        ]
        for table in inspector.get_table_names()
    }


def test_the_models_read_what_was_written_before(old: Database, database_url: str) -> None:
    upgrade(database_url)
    with old.reading() as tx:
        jobs = {job.id: job.request for job in tx.session.scalars(select(Job))}
        assert jobs == {
            "job_1": {"prompt": 'rain "ü"', "seed": 2**62, "cfg_strength": 4.5, "deliver_to": "s3://theirs/out/"},
            "job_2": {"prompt": "output", "metadata": {"output": "x"}},
            "job_3": {"prompt": "wind"},
        }
        events = list(tx.session.scalars(select(JobEvent).order_by(JobEvent.id)))
        assert [event.kind for event in events] == [EventKind.QUEUED, EventKind.STAGE, EventKind.CANCEL_REQUESTED]
        attempts = list(tx.session.scalars(select(JobAttempt).order_by(JobAttempt.job_id, JobAttempt.attempt)))
        assert [(one.outcome, one.cleaned_up_at) for one in attempts] == [
            (AttemptOutcome.SUCCEEDED, None),
            (AttemptOutcome.LOST, LATER),
            (None, None),
        ]
        assert [one.kind for one in tx.session.scalars(select(Artifact))] == [ArtifactKind.AUDIO]
        assert [one.state for one in tx.session.scalars(select(Worker))] == [WorkerState.LOST]
        assert [one.deliver_to for one in tx.session.scalars(select(Trigger))] == ["s3://theirs/out/"]
        recorded = list(tx.session.scalars(select(TriggerEvent).order_by(TriggerEvent.id)))
        assert [(one.outcome, one.object_version, one.received_at, one.job_id) for one in recorded] == [
            (TriggerOutcome.SUBMITTED, "version 7", NOON, "job_1"),
            (TriggerOutcome.HELD, "version 8", NOON, None),
        ]
        assert [one.dispatch_count for one in tx.session.scalars(select(VariantQueue))] == [42]
        times = [(one.variant, one.tenant, one.virtual_time) for one in tx.session.scalars(select(TenantVirtualTime))]
        assert times == [("tiny_16k", "a", 3.5)]
        quotas = tx.session.scalars(select(TenantQuota).order_by(TenantQuota.tenant))
        assert [(one.tenant, one.weight, one.max_running) for one in quotas] == [("a", 2.0, 3), ("b", 0.5, None)]


def test_down_again_everything_is_as_before(old: Database, database_url: str) -> None:
    rows, tables = contents(old), shape(old)
    upgrade(database_url, "0007")
    downgrade(database_url, "0003")
    assert contents(old) == rows
    assert shape(old) == tables


@pytest.mark.parametrize(
    ("table", "column"),
    [("workers", "state"), ("job_attempts", "outcome"), ("job_events", "kind"), ("artifacts", "kind"),
     ("trigger_events", "outcome")],
)  # fmt: skip
def test_an_unknown_value_of_an_enum_is_refused(old: Database, database_url: str, table: str, column: str) -> None:
    upgrade(database_url, "0007")
    with pytest.raises(IntegrityError), old.engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = 'asleep'"))


def test_partial_indexes_keep_their_conditions(old: Database, database_url: str) -> None:
    upgrade(database_url, "0007")
    inspector = inspect(old.engine)
    conditions = {
        index["name"]: str(option)
        for table in ("job_attempts", "artifacts", "trigger_events")
        for index in inspector.get_indexes(table)
        for name, option in index.get("dialect_options", {}).items()
        if name.endswith("_where")
    }
    assert set(conditions) == {"ix_job_attempts_to_clean_up", "ix_artifacts_expires_at", "ix_trigger_events_held"}
    assert "cleaned_up_at IS NULL" in conditions["ix_job_attempts_to_clean_up"]
    assert "deleted_at IS NULL" in conditions["ix_artifacts_expires_at"]
