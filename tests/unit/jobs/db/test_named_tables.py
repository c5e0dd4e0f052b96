"""What the check of a session's SQL recognises in a statement."""

from __future__ import annotations

import pytest

from jobs.db.bound_session import NamedTables, tables_in

UNLIMITED = {
    "SELECT id FROM jobs": "jobs",
    "select id from jobs where id = 1": "jobs",
    'SELECT id FROM "jobs"': "jobs",
    "DELETE FROM jobs WHERE jobs.id = ?": "jobs",
    "UPDATE jobs SET step=? WHERE jobs.id = ?": "jobs",
    "INSERT INTO uploads (id) VALUES (?)": "uploads",
    "SELECT 1 FROM jobs AS j WHERE jobs.tenant = ?": "jobs",
    "SELECT 1 FROM jobs, uploads WHERE jobs.tenant = ?": "uploads",
    "SELECT 1 FROM jobs JOIN jobs AS last ON true WHERE last.tenant = ?": "jobs",
    "SELECT (SELECT count(*) FROM jobs) FROM jobs WHERE jobs.tenant = ?": "jobs",
    "SELECT id FROM jobs WHERE tenant = ?": "jobs",
}
LIMITED = [
    "SELECT jobs.id FROM jobs WHERE jobs.tenant = ?",
    "SELECT j.id FROM jobs AS j WHERE j.tenant = %(tenant_1)s::VARCHAR",
    'SELECT id FROM "jobs" WHERE "jobs".tenant = ?',
    "SELECT 1 FROM jobs JOIN jobs AS last ON jobs.tenant = ? AND last.tenant = ?",
    "SELECT jobs.id FROM jobs WHERE jobs.tenant = ? FOR UPDATE OF jobs SKIP LOCKED",
]


@pytest.mark.parametrize("statement", UNLIMITED)
def test_a_table_without_a_condition_is_named(statement: str) -> None:
    assert tables_in(statement).unlimited == UNLIMITED[statement]


@pytest.mark.parametrize("statement", LIMITED)
def test_a_condition_on_each_table_is_enough(statement: str) -> None:
    found = tables_in(statement)
    assert (found.named, found.of_platform, found.unlimited) == ("jobs", "", "")


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1", "SELECT jobs_1.id FROM other AS jobs_1", "SELECT 'jobs'", "SELECT count(x) AS jobs FROM y", "COMMIT"],
)
def test_names_of_something_else_are_no_tables(statement: str) -> None:
    assert tables_in(statement) == NamedTables()


def test_a_table_of_the_platform_is_told_from_shared_numbers() -> None:
    found = tables_in("SELECT 1 FROM workers, event_log, jobs WHERE jobs.tenant = ?")
    assert (found.named, found.of_platform, found.unlimited) == ("workers, event_log, jobs", "workers", "")
