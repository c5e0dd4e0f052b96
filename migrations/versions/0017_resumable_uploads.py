"""Uploads in parts: their size, and the write of the bucket that they belong to

Revision: 0017
Revises: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("part_bytes", sa.BigInteger(), nullable=True))
    op.add_column("uploads", sa.Column("write_id", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("uploads") as table:
        table.drop_column("write_id")
        table.drop_column("part_bytes")
