"""Workers: why one takes no jobs, how far its clock is off, what its sandbox lacks

Revision: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON_DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("workers") as table:
        table.add_column(sa.Column("unavailable", JSON_DOCUMENT, nullable=True))
        table.add_column(sa.Column("clock_skew_s", sa.Float(), nullable=True))
        table.add_column(sa.Column("sandbox_lacks", JSON_DOCUMENT, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("workers") as table:
        for name in ("sandbox_lacks", "clock_skew_s", "unavailable"):
            table.drop_column(name)
