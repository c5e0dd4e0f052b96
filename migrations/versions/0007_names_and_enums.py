"""Glossary names of tables and columns, and CHECK constraints of every enum column

Revision: 0007
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0003"
branch_labels = None
depends_on = None

# (table, old column, new column)
COLUMNS = [
    ("triggers", "output", "deliver_to"),
    ("trigger_events", "seen_at", "received_at"),
    ("trigger_events", "identity", "object_version"),
    ("job_attempts", "swept_at", "cleaned_up_at"),
    ("variant_queues", "picks", "dispatch_count"),
]
# (table, old name, new name, columns, condition); the columns by their new names
INDEXES = [
    ("trigger_events", "ix_trigger_events_seen_at", "ix_trigger_events_received_at", ["received_at"], None),
    (
        "job_attempts",
        "ix_job_attempts_unswept",
        "ix_job_attempts_to_clean_up",
        ["finished_at"],
        "outcome <> 'succeeded' AND {column} IS NULL",
    ),
]
# (table, constraint, condition): no foreign key refers to these tables, so SQLite may copy them.
CHECKS = [
    ("workers", "state_known", "state IN ('draining', 'lost', 'ready', 'starting', 'stopped')"),
    (
        "job_attempts",
        "outcome_known",
        "outcome IS NULL OR outcome IN ('canceled', 'failed', 'lost', 'requeued', 'succeeded')",
    ),
    (
        "job_events",
        "kind_known",
        "kind IN ('cancel_requested', 'canceled', 'failed', 'queued', 'running', 'stage', 'succeeded')",
    ),
    ("artifacts", "kind_known", "kind IN ('audio', 'video')"),
]


def upgrade() -> None:
    for table, old, *_ in INDEXES:
        op.drop_index(old, table_name=table)
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new) if not _is_sqlite() else _rename_on_sqlite(table, old, new)
    for table, _, new, columns, where in INDEXES:
        _create_index(new, table, columns, where, "cleaned_up_at")
    _copy_table("tenant_turns", _virtual_times("tenant_virtual_times"))
    _copy_table("tenant_shares", _quotas("tenant_quotas"))
    for table, name, condition in CHECKS:
        with op.batch_alter_table(table) as batch:
            batch.create_check_constraint(op.f(f"ck_{table}_{name}"), condition)
    _rename_request_field("output", "deliver_to")


def downgrade() -> None:
    _rename_request_field("deliver_to", "output")
    for table, name, _ in reversed(CHECKS):
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(op.f(f"ck_{table}_{name}"), type_="check")
    _copy_table("tenant_quotas", _quotas("tenant_shares"))
    _copy_table("tenant_virtual_times", _virtual_times("tenant_turns"))
    for table, _, new, *_rest in INDEXES:
        op.drop_index(new, table_name=table)
    for table, old, new in reversed(COLUMNS):
        op.alter_column(table, new, new_column_name=old) if not _is_sqlite() else _rename_on_sqlite(table, new, old)
    for table, old, _, columns, where in INDEXES:
        names = ["seen_at" if column == "received_at" else column for column in columns]
        _create_index(old, table, names, where, "swept_at")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _rename_on_sqlite(table: str, old: str, new: str) -> None:
    # Alembic would copy the table and delete the rows that refer to it; SQLite can rename in place.
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def _create_index(name: str, table: str, columns: list[str], where: str | None, column: str) -> None:
    condition = sa.text(where.format(column=column)) if where is not None else None
    op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)


def _virtual_times(name: str) -> sa.Table:
    return op.create_table(
        name,
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("virtual_time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("variant", "tenant", name=op.f(f"pk_{name}")),
    )


def _quotas(name: str) -> sa.Table:
    return op.create_table(
        name,
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.CheckConstraint("weight > 0", name=op.f(f"ck_{name}_weight_positive")),
        sa.CheckConstraint(
            "max_running IS NULL OR max_running >= 0", name=op.f(f"ck_{name}_max_running_in_range")
        ),
        sa.PrimaryKeyConstraint("tenant", name=op.f(f"pk_{name}")),
    )  # fmt: skip


def _copy_table(old: str, new: sa.Table) -> None:
    columns = ", ".join(column.name for column in new.columns)
    op.execute(f"INSERT INTO {new.name} ({columns}) SELECT {columns} FROM {old}")  # noqa: S608 - names of this file
    op.drop_table(old)


def _rename_request_field(old: str, new: str) -> None:
    """Rename a field in the stored requests of jobs that have it."""
    if _is_sqlite():
        op.execute(
            f"UPDATE jobs SET request = json_remove(json_set(request, '$.{new}', json_extract(request, '$.{old}')), "  # noqa: S608
            f"'$.{old}') WHERE json_extract(request, '$.{old}') IS NOT NULL"
        )
    else:
        op.execute(
            f"UPDATE jobs SET request = (request - '{old}') || jsonb_build_object('{new}', request -> '{old}') "  # noqa: S608
            f"WHERE jsonb_exists(request, '{old}')"
        )
