"""Entry point of Alembic: connects, locks so that two hosts never migrate at once, runs the revisions."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from jobs.db.database import Database
from jobs.db.tables import Job
from migrations.row_security import SETTING

# An arbitrary constant that identifies this project's migrations among PostgreSQL's advisory locks.
ADVISORY_LOCK = 0x6D6D6175


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url")
    assert url is not None, "alembic_config sets the URL"
    database = Database(url)
    # SQLite takes the write lock first, which serialises two migrations as the advisory lock does on PostgreSQL.
    engine = database.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Job.metadata,
            render_as_batch=database.is_sqlite,  # SQLite changes a table by copying it
            compare_type=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            if not database.is_sqlite:
                # Without a limit, a migration that waits for a long query would block every query after it.
                connection.execute(text("SET LOCAL lock_timeout = '10s'"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
                # Revisions read and change the rows of all tenants; to the end of the one transaction of them all.
                connection.execute(text(f"SELECT set_config('{SETTING}', '*', true)"))
            context.run_migrations()
    database.close()


run()
