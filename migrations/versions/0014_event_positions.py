"""Positions of events: one order of all events in which a reader with a cursor misses none

Revision: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_events", sa.Column("position", sa.BigInteger(), nullable=True))
    op.create_table(
        "event_log",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id", name="pk_event_log"),
    )
    # No other transaction writes events meanwhile, so here their ids are in the order of their commits.
    op.execute("UPDATE job_events SET position = id")
    op.execute("INSERT INTO event_log (id, last_position) SELECT 1, coalesce(max(id), 0) FROM job_events")
    op.create_index("ix_job_events_position", "job_events", ["position"], unique=True)
    op.create_index("ix_job_events_tenant_position", "job_events", ["tenant", "position"])
    unsequenced = sa.text("position IS NULL")
    op.create_index(
        "ix_job_events_unsequenced", "job_events", ["id"], postgresql_where=unsequenced, sqlite_where=unsequenced
    )


def downgrade() -> None:
    for name in ("ix_job_events_unsequenced", "ix_job_events_tenant_position", "ix_job_events_position"):
        op.drop_index(name, table_name="job_events")
    op.drop_column("job_events", "position")
    op.drop_table("event_log")
