"""Indexes for bulk retry: jobs by error code, and the retries of a job

Revision: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_jobs_error_code", ["tenant", "error_code", "id"], sa.text("error_code IS NOT NULL")),
    ("ix_jobs_retry_of", ["retry_of"], sa.text("retry_of IS NOT NULL")),
)


def upgrade() -> None:
    for name, columns, where in INDEXES:
        op.create_index(name, "jobs", columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    for name, _, _ in INDEXES:
        op.drop_index(name, table_name="jobs")
