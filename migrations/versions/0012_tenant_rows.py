"""The tenant in every row that belongs to one, and row-level security on PostgreSQL

Revision: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.row_security import protect, unprotect

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

PARENTS = {
    "job_events": ("jobs", "job_id"),
    "job_attempts": ("jobs", "job_id"),
    "artifacts": ("jobs", "job_id"),
    "inbox_files": ("jobs", "job_id"),
    "trigger_events": ("triggers", "trigger_id"),
}
"""Tables that get the column: the parent that has it, and the column that refers to the parent."""
OWNED = ("jobs", "uploads", "idempotency_keys", "triggers", *PARENTS)


def upgrade() -> None:
    for table, (parent, column) in PARENTS.items():
        op.add_column(table, sa.Column("tenant", sa.String(64), nullable=True))
        op.execute(
            f"UPDATE {table} SET tenant = (SELECT {parent}.tenant FROM {parent} WHERE {parent}.id = {table}.{column})"  # noqa: S608
        )
        with op.batch_alter_table(table) as batch:
            batch.alter_column("tenant", existing_type=sa.String(64), nullable=False)
    op.create_index("ix_artifacts_tenant", "artifacts", ["tenant"])
    for table in OWNED:
        protect(table)


def downgrade() -> None:
    for table in OWNED:
        unprotect(table)
    op.drop_index("ix_artifacts_tenant", table_name="artifacts")
    for table in PARENTS:
        with op.batch_alter_table(table) as batch:
            batch.drop_column("tenant")
