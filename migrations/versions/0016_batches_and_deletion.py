"""Batches, presets, deletion by the owner, counts of ended jobs, takes and previews

Revision: 0016
Revises: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobs.db.types import JsonDocument, UtcDateTime
from migrations.row_security import protect, unprotect

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

EVENT_KINDS = "'cancel_requested', 'canceled', 'failed', 'queued', 'running', 'stage', 'succeeded'"
# (index, columns, condition before, condition now)
LISTS = (
    ("ix_jobs_tenant_page", ["tenant", "id"], None, "deleted_at IS NULL"),
    ("ix_jobs_tenant_state", ["tenant", "state", "id"], None, "deleted_at IS NULL"),
)
BATCH_INDEXES = (
    ("ix_jobs_batch_page", ["batch_id", "id"], "batch_id IS NOT NULL"),
    ("ix_jobs_batch_state", ["batch_id", "state"], "batch_id IS NOT NULL"),
)
TO_DELETE = "delete_requested_at IS NOT NULL AND checked_at IS NOT NULL AND deleted_at IS NULL"
OWNED = ("batches", "presets")


def upgrade() -> None:
    # One column at a time and no copy of the table: rows of other tables refer to jobs.
    for column in (
        sa.Column("batch_id", sa.String(40), nullable=True),
        sa.Column("batch_index", sa.Integer(), nullable=True),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
    ):
        op.add_column("jobs", column)
    for name, columns, _, where in LISTS:
        op.drop_index(name, table_name="jobs")
        _create_index(name, "jobs", columns, where)
    for name, columns, where in BATCH_INDEXES:
        _create_index(name, "jobs", columns, where)
    op.add_column("uploads", sa.Column("delete_requested_at", UtcDateTime(), nullable=True))
    _create_index("ix_uploads_to_delete", "uploads", ["delete_requested_at"], TO_DELETE)
    _rename("artifacts", "sample_index", "take")
    op.add_column("artifacts", sa.Column("detail", JsonDocument, nullable=True))
    _replace_check("artifacts", "kind_known", "kind IN ('audio', 'preview', 'video')")
    _replace_check("job_events", "kind_known", f"kind IN ('batch_finished', {EVENT_KINDS})")
    _create_tables()
    for table in OWNED:
        protect(table)
    op.execute(
        "INSERT INTO ended_counts (tenant, state, shard, ended) SELECT tenant, state, 0, count(*) FROM jobs "
        "WHERE finished_at IS NOT NULL GROUP BY tenant, state"
    )


def downgrade() -> None:
    for table in OWNED:
        unprotect(table)
    for table in ("ended_counts", "presets", "batches"):
        op.drop_table(table)
    op.execute("DELETE FROM job_events WHERE kind = 'batch_finished'")
    _replace_check("job_events", "kind_known", f"kind IN ({EVENT_KINDS})")
    op.execute("DELETE FROM artifacts WHERE kind = 'preview'")
    _replace_check("artifacts", "kind_known", "kind IN ('audio', 'video')")
    op.drop_column("artifacts", "detail")
    _rename("artifacts", "take", "sample_index")
    op.drop_index("ix_uploads_to_delete", table_name="uploads")
    op.drop_column("uploads", "delete_requested_at")
    for name, _, _ in BATCH_INDEXES:
        op.drop_index(name, table_name="jobs")
    for name, columns, where, _ in LISTS:
        op.drop_index(name, table_name="jobs")
        _create_index(name, "jobs", columns, where)
    for column in ("deleted_at", "batch_index", "batch_id"):
        op.drop_column("jobs", column)


def _create_tables() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(120), nullable=True),
        sa.Column("labels", JsonDocument, nullable=False),
        sa.Column("webhook_url", sa.Text(), nullable=True),
        sa.Column("job_count", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("cancel_requested_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("final_counts", JsonDocument, nullable=True),
        sa.CheckConstraint("job_count > 0", name=op.f("ck_batches_not_empty")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    _create_index("ix_batches_tenant_page", "batches", ["tenant", "id"], None)
    _create_index("ix_batches_unfinished", "batches", ["id"], "finished_at IS NULL")
    op.create_table(
        "presets",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("request", JsonDocument, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("version > 0", name=op.f("ck_presets_version_positive")),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name=op.f("pk_presets")),
    )
    op.create_table(
        "ended_counts",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("ended", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "state", "shard", name=op.f("pk_ended_counts")),
    )


def _create_index(name: str, table: str, columns: list[str], where: str | None) -> None:
    condition = sa.text(where) if where is not None else None
    op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)


def _rename(table: str, old: str, new: str) -> None:
    # In place on SQLite too: Alembic would copy the table.
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def _replace_check(table: str, name: str, condition: str) -> None:
    # No foreign key refers to these tables, so SQLite may copy them.
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(op.f(f"ck_{table}_{name}"), type_="check")
        batch.create_check_constraint(op.f(f"ck_{table}_{name}"), condition)
