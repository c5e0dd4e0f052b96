"""Files of the inbox folder, the jobs they became, and where the results were put

Revision: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

JSON_DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
UNSETTLED = sa.text("settled_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "inbox_files",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("inbox_id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("outbox", JSON_DOCUMENT, nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox_files")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_inbox_files_job_id_jobs"), ondelete="CASCADE"
        ),
    )  # fmt: skip
    op.create_index("ix_inbox_files_job_id", "inbox_files", ["job_id"])
    op.create_index(
        "ix_inbox_files_unsettled",
        "inbox_files",
        ["inbox_id", "job_id"],
        postgresql_where=UNSETTLED,
        sqlite_where=UNSETTLED,
    )


def downgrade() -> None:
    op.drop_table("inbox_files")
