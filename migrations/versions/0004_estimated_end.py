"""Estimated end of a running job

Revision: 0004
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("eta_s", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "eta_s")
