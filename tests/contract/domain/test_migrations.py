"""Migrations and models agree, and every revision goes up and down, on both databases."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from jobs.db.database import Database
from jobs.db.tables import Job
from migrations.upgrade import downgrade, upgrade


def test_migrated_tables_are_the_models(database_url: str) -> None:
    upgrade(database_url)
    database = Database(database_url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Job.metadata) == []
    database.close()


def test_check_constraints_of_the_models_are_in_the_database(database_url: str) -> None:
    upgrade(database_url)
    database = Database(database_url)
    inspector = inspect(database.engine)
    for table in Job.metadata.sorted_tables:
        wanted = {str(c.name) for c in table.constraints if str(c.name).startswith("ck_")}
        found = {str(c["name"]) for c in inspector.get_check_constraints(table.name)}
        assert wanted <= found, table.name
    database.close()


def test_down_to_base_leaves_nothing_and_up_again_works(database_url: str) -> None:
    upgrade(database_url)
    downgrade(database_url, "base")
    database = Database(database_url)
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    upgrade(database_url)
    assert "jobs" in inspect(database.engine).get_table_names()
    database.close()


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    upgrade(database_url)
