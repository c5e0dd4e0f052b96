"""Row-level security for what is counted and set for each tenant

Revision: 0018
Revises: 0017
"""

from __future__ import annotations

from migrations.row_security import protect, unprotect

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

OWNED = ("queued_counts", "ended_counts", "tenant_settings", "tenant_quotas")


def upgrade() -> None:
    for table in OWNED:
        protect(table)


def downgrade() -> None:
    for table in OWNED:
        unprotect(table)
