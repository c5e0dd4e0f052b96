"""The migration that gives child rows their tenant takes it from the parent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import MetaData, inspect, select, text

from jobs.db.database import Database
from migrations.upgrade import downgrade, upgrade

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHILDREN = ("job_events", "job_attempts", "artifacts", "inbox_files", "trigger_events")


def _rows(tenant: str) -> list[tuple[str, dict[str, Any]]]:
    job, trigger = f"job_{tenant}", f"trg_{tenant}"
    return [
        ("jobs", {
            "id": job, "tenant": tenant, "state": "queued", "variant": "tiny_16k", "priority": 1, "request": {},
            "attempt": 0, "max_attempts": 3, "progress": 0.0, "warnings": [], "timings": {}, "created_at": NOW,
            "available_at": NOW, "version": 1,
        }),
        ("triggers", {
            "id": trigger, "tenant": tenant, "bucket": "b", "prefix": "", "suffixes": [], "source_field": "video",
            "request": {}, "enabled": True, "created_at": NOW,
        }),
        ("job_events", {"job_id": job, "kind": "queued", "attempt": 0, "data": {}, "created_at": NOW}),
        ("job_attempts", {"job_id": job, "attempt": 1, "worker_id": "w", "started_at": NOW}),
        ("artifacts", {
            "job_id": job, "name": "a", "kind": "audio", "format": "flac", "content_type": "audio/flac",
            "storage_key": "k", "size_bytes": 1, "sha256": "0", "duration_s": 8.0, "sample_index": 0, "seed": 7,
        }),
        ("inbox_files", {"id": tenant, "inbox_id": "i", "path": b"p", "job_id": job, "outbox": {}}),
        ("trigger_events", {
            "id": f"tev_{tenant}", "trigger_id": trigger, "bucket": "b", "object_key": "k", "object_version": "v",
            "outcome": "skipped", "event": {}, "tries": 0, "received_at": NOW,
        }),
    ]  # fmt: skip


def test_child_rows_get_the_tenant_of_their_parent_and_lose_it_on_the_way_down(database_url: str) -> None:
    upgrade(database_url, "0011")
    db = Database(database_url)
    tables = MetaData()
    tables.reflect(db.engine)
    with db.engine.begin() as connection:
        for tenant in ("a", "b"):
            for table, row in _rows(tenant):
                connection.execute(tables.tables[table].insert().values(row))
    upgrade(database_url, "0012")
    with db.of_platform().reading() as tx:
        for table in CHILDREN:
            parent = "trigger_id" if table == "trigger_events" else "job_id"
            found = tx.session.execute(text(f"SELECT tenant, {parent} FROM {table} ORDER BY tenant")).all()
            kind = "trg" if table == "trigger_events" else "job"
            assert [tuple(row) for row in found] == [("a", f"{kind}_a"), ("b", f"{kind}_b")], table
    downgrade(database_url, "0011")
    with db.engine.connect() as connection:
        for table in CHILDREN:
            assert "tenant" not in {column["name"] for column in inspect(connection).get_columns(table)}
            assert len(connection.execute(select(text("1")).select_from(text(table))).all()) == 2, table
    db.close()
