"""API keys, what operators set for a tenant, and indexes of what a tenant holds

Revision: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

JSON_DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
LIMITS: dict[str, sa.types.TypeEngine[int]] = {
    "requests_per_minute": sa.Integer(),
    "key_requests_per_minute": sa.Integer(),
    "max_queued": sa.Integer(),
    "max_stored_upload_bytes": sa.BigInteger(),
    "max_stored_result_bytes": sa.BigInteger(),
    "max_triggers": sa.Integer(),
    "max_waiting": sa.Integer(),
}
LISTS = ("input_buckets", "output_buckets", "input_hosts")
# What a tenant holds is summed from an index of its live rows.
SUMMED = {"ix_uploads_held": "uploads", "ix_artifacts_stored": "artifacts"}
LIVE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", JSON_DOCUMENT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("replaced_by", sa.String(40), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index("uq_api_keys_sha256", "api_keys", ["sha256"], unique=True)
    op.create_index("ix_api_keys_tenant_page", "api_keys", ["tenant", "id"])
    op.create_table(
        "tenant_settings",
        sa.Column("tenant", sa.String(64), nullable=False),
        *(sa.Column(name, JSON_DOCUMENT, nullable=True) for name in LISTS),
        *(sa.Column(name, kind, nullable=True) for name, kind in LIMITS.items()),
        sa.Column("updated_at", TIME, nullable=False),
        *(
            sa.CheckConstraint(f"{name} IS NULL OR {name} >= 0", name=op.f(f"ck_tenant_settings_{name}_in_range"))
            for name in LIMITS
        ),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_tenant_settings")),
    )
    for name, table in SUMMED.items():
        op.create_index(name, table, ["tenant", "size_bytes"], postgresql_where=LIVE, sqlite_where=LIVE)


def downgrade() -> None:
    for name, table in SUMMED.items():
        op.drop_index(name, table_name=table)
    op.drop_table("tenant_settings")
    op.drop_table("api_keys")
