"""Migrates a database to a revision; `mmaudio migrate`, `mmaudio up` and the tests call it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from jobs.db.database import Database

_UNLIMITED_ROLE = "SELECT rolname::text FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)"


def alembic_config(database_url: str) -> Config:
    """Return Alembic's configuration for one database, without an .ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    # ConfigParser interpolates %, which a password may contain.
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate up to `revision`; create the folder of a SQLite file if it is missing."""
    _make_folder(database_url)
    command.upgrade(alembic_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Migrate down to `revision` (`base` for an empty database)."""
    command.downgrade(alembic_config(database_url), revision)


def unlimited_role(database_url: str) -> str | None:
    """Return the name of the platform's role if PostgreSQL's row-level security does not hold for it; None: it does."""
    database = Database(database_url)
    try:
        if database.is_sqlite:
            return None
        with database.engine.connect() as connection:
            return connection.execute(text(_UNLIMITED_ROLE)).scalar_one_or_none()
    finally:
        database.close()


def _make_folder(database_url: str) -> None:
    database = Database(database_url)
    if database.is_sqlite and database.url.database:
        Path(database.url.database).parent.mkdir(parents=True, exist_ok=True)
    database.close()
