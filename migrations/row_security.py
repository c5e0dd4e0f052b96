"""Row-level security of tenant-owned tables on PostgreSQL: the server's own check, beside the session's.

A transaction says whose rows it sees by the setting `mmaudio.tenant` (`jobs.db.bound_session`): a tenant, or `*` for
the platform; without it, it sees none. Superusers and roles with BYPASSRLS are not limited by PostgreSQL.
"""

from __future__ import annotations

from alembic import op

SETTING = "mmaudio.tenant"
POLICY = "tenant"
# The sub-select is read once a statement; a plain call would be made for every row.
_BOUND = f"(SELECT current_setting('{SETTING}', true))"
_CONDITION = f"{_BOUND} = '*' OR tenant = {_BOUND}"


def protect(table: str) -> None:
    """Limit a table with a column `tenant` to the rows of the bound tenant, also for its owner. SQLite: nothing."""
    if op.get_bind().dialect.name == "sqlite":
        return
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY {POLICY} ON {table} USING ({_CONDITION}) WITH CHECK ({_CONDITION})")


def unprotect(table: str) -> None:
    """Undo `protect`."""
    if op.get_bind().dialect.name == "sqlite":
        return
    op.execute(f"DROP POLICY {POLICY} ON {table}")
    op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
