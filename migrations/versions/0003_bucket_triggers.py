"""Triggers, their events, and the pinned version of a job's input

Revision: 0003
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON_DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
HELD = sa.text("outcome = 'held'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("input_pin", JSON_DOCUMENT, nullable=True))

    op.create_table(
        "triggers",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=True),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("suffixes", JSON_DOCUMENT, nullable=False),
        sa.Column("source_field", sa.String(length=16), nullable=False),
        sa.Column("request", JSON_DOCUMENT, nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_triggers")),
    )
    op.create_index("ix_triggers_bucket", "triggers", ["bucket"], unique=False)
    op.create_index("ix_triggers_tenant_page", "triggers", ["tenant", "id"], unique=False)

    op.create_table(
        "trigger_events",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("trigger_id", sa.String(length=40), nullable=False),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("identity", sa.String(length=255), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("event", JSON_DOCUMENT, nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("outcome IN ('submitted', 'skipped', 'held')", name=op.f("ck_trigger_events_outcome_known")),
        sa.CheckConstraint(
            "(outcome = 'held') = (retry_at IS NOT NULL)", name=op.f("ck_trigger_events_retry_while_held")
        ),
        sa.ForeignKeyConstraint(
            ["trigger_id"], ["triggers.id"], name=op.f("fk_trigger_events_trigger_id_triggers"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_trigger_events_job_id_jobs"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger_events")),
    )
    op.create_index(
        "uq_trigger_events_object",
        "trigger_events",
        ["trigger_id", "bucket", "object_key", "identity"],
        unique=True,
    )
    op.create_index("ix_trigger_events_rate", "trigger_events", ["trigger_id", "seen_at"], unique=False)
    op.create_index("ix_trigger_events_job_id", "trigger_events", ["job_id"], unique=False)
    op.create_index("ix_trigger_events_seen_at", "trigger_events", ["seen_at"], unique=False)
    op.create_index(
        "ix_trigger_events_held",
        "trigger_events",
        ["retry_at"],
        unique=False,
        postgresql_where=HELD,
        sqlite_where=HELD,
    )


def downgrade() -> None:
    op.drop_table("trigger_events")
    op.drop_table("triggers")
    # Without Alembic's batch mode: on SQLite, copying the table would cascade into the tables that refer to it.
    op.drop_column("jobs", "input_pin")
