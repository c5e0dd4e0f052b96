"""Fair queue: lanes, counts, quotas, leader election, and an index for each query of maintenance

Revision: 0002
Revises: 0004
"""

from __future__ import annotations

from datetime import timedelta
from zlib import crc32

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
RETRY_WHILE_QUEUED = "retry_at IS NULL OR (state = 'queued' AND published_at IS NULL)"
PARTIAL_INDEXES = [
    (
        "ix_jobs_waiting",
        "jobs",
        ["variant", "priority", "tenant", "created_at", "id"],
        "state = 'queued' AND published_at IS NULL AND retry_at IS NULL",
    ),
    ("ix_jobs_oldest", "jobs", ["variant", "created_at"], "state = 'queued'"),
    ("ix_jobs_published", "jobs", ["variant", "published_at"], "published_at IS NOT NULL"),
    ("ix_jobs_retry", "jobs", ["retry_at"], "retry_at IS NOT NULL"),
    ("ix_jobs_queue_expiry", "jobs", ["queue_expires_at"], "state = 'queued' AND queue_expires_at IS NOT NULL"),
    ("ix_jobs_input", "jobs", ["input_key"], "finished_at IS NULL AND input_key IS NOT NULL"),
    ("ix_jobs_finished", "jobs", ["variant", "finished_at"], "finished_at IS NOT NULL"),
    ("ix_job_attempts_unswept", "job_attempts", ["finished_at"], "outcome <> 'succeeded' AND swept_at IS NULL"),
    ("ix_artifacts_expires_at", "artifacts", ["expires_at"], "deleted_at IS NULL"),
    ("ix_uploads_expires_at", "uploads", ["expires_at"], "deleted_at IS NULL"),
]
# As in jobs.service.scheduling.queue_counters when this revision was written; a revision does not follow later changes.
SHARDS = 8


def upgrade() -> None:
    _add_columns()
    op.drop_index("ix_jobs_backlog", table_name="jobs")
    op.drop_index("ix_jobs_finished", table_name="jobs")
    op.drop_index("ix_artifacts_expires_at", table_name="artifacts")
    op.drop_index("ix_uploads_expires_at", table_name="uploads")
    for name, table, columns, where in PARTIAL_INDEXES:
        op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
    op.create_index("ix_jobs_tenant_state", "jobs", ["tenant", "state", "id"])
    _create_tables()
    _backfill()


def _add_columns() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # SQLite accepts a constraint only with its column. Alembic's batch mode copies the table, which would delete
        # the rows that refer to the old one.
        op.execute(
            "ALTER TABLE jobs ADD COLUMN retry_at DATETIME "
            f"CONSTRAINT ck_jobs_retry_while_queued CHECK ({RETRY_WHILE_QUEUED})"
        )
    else:
        op.add_column("jobs", sa.Column("retry_at", TIME, nullable=True))
        op.create_check_constraint(op.f("ck_jobs_retry_while_queued"), "jobs", RETRY_WHILE_QUEUED)
    op.add_column("jobs", sa.Column("queue_expires_at", TIME, nullable=True))
    op.add_column("jobs", sa.Column("run_deadline_at", TIME, nullable=True))
    op.add_column("job_attempts", sa.Column("swept_at", TIME, nullable=True))


def _create_tables() -> None:
    op.create_table(
        "queued_counts",
        sa.Column("variant", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("variant", "priority", "tenant", "shard", name=op.f("pk_queued_counts")),
    )
    op.create_index("ix_queued_counts_tenant", "queued_counts", ["tenant"])
    op.create_table(
        "variant_queues",
        sa.Column("variant", sa.String(length=64), nullable=False),
        sa.Column("paused_at", TIME, nullable=True),
        sa.Column("virtual_time", sa.Float(), nullable=False),
        sa.Column("picks", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("variant", name=op.f("pk_variant_queues")),
    )
    op.create_table(
        "tenant_turns",
        sa.Column("variant", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("virtual_time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("variant", "tenant", name=op.f("pk_tenant_turns")),
    )
    op.create_table(
        "tenant_shares",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.CheckConstraint("weight > 0", name=op.f("ck_tenant_shares_weight_positive")),
        sa.CheckConstraint(
            "max_running IS NULL OR max_running >= 0", name=op.f("ck_tenant_shares_max_running_in_range")
        ),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_tenant_shares")),
    )
    op.create_table(
        "leaderships",
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("holder", sa.String(length=80), nullable=False),
        sa.Column("elected_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_leaderships")),
    )


def _backfill() -> None:
    """Set the new columns and counters of the jobs that are already queued."""
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    jobs = sa.table(
        "jobs",
        *(sa.column(name, sa.String()) for name in ("id", "variant", "tenant", "state")),
        sa.column("priority", sa.Integer()),
        sa.column("request", document),
        *(sa.column(name, TIME) for name in ("created_at", "available_at", "retry_at", "published_at")),
        sa.column("queue_expires_at", TIME),
    )
    counts: dict[tuple[str, int, str, int], int] = {}
    expiries = []
    for job in op.get_bind().execute(sa.select(jobs).where(jobs.c.state == "queued")):
        lane = (job.variant, job.priority, job.tenant, crc32(job.id.encode()) % SHARDS)
        counts[lane] = counts.get(lane, 0) + 1
        if ttl_s := job.request.get("queue_ttl_s"):
            expiries.append({"job": job.id, "until": job.created_at + timedelta(seconds=ttl_s)})
    # A job that backs off has a later `available_at` and is not in the broker.
    op.execute(
        jobs.update()
        .where(jobs.c.state == "queued", jobs.c.published_at.is_(None), jobs.c.available_at > jobs.c.created_at)
        .values(retry_at=jobs.c.available_at)
    )
    if expiries:
        statement = jobs.update().where(jobs.c.id == sa.bindparam("job"))
        op.get_bind().execute(statement.values(queue_expires_at=sa.bindparam("until")), expiries)
    if counts:
        table = sa.table(
            "queued_counts", *(sa.column(name) for name in ("variant", "priority", "tenant", "shard", "queued"))
        )
        rows = [dict(zip(table.c.keys(), (*lane, number), strict=True)) for lane, number in sorted(counts.items())]
        op.bulk_insert(table, rows)


def downgrade() -> None:
    for table in ("leaderships", "tenant_shares", "tenant_turns", "variant_queues", "queued_counts"):
        op.drop_table(table)
    op.drop_index("ix_jobs_tenant_state", table_name="jobs")
    for name, table, _columns, _where in PARTIAL_INDEXES:
        op.drop_index(name, table_name=table)
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(op.f("ck_jobs_retry_while_queued"), "jobs")
    for column in ("retry_at", "queue_expires_at", "run_deadline_at"):
        op.drop_column("jobs", column)
    op.drop_column("job_attempts", "swept_at")
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"])
    op.create_index("ix_artifacts_expires_at", "artifacts", ["expires_at"])
    op.create_index("ix_jobs_finished", "jobs", ["variant", "finished_at"])
    op.create_index(
        "ix_jobs_backlog",
        "jobs",
        ["variant", "priority", "created_at", "id"],
        postgresql_where=sa.text("state = 'queued'"),
        sqlite_where=sa.text("state = 'queued'"),
    )
