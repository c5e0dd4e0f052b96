"""A look at a job is one statement that binds its tenant itself; a snapshot of the queue gives the same positions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.circuit_breaker import CircuitBreaker
from jobs.api_keys.authentication import authenticate
from jobs.api_keys.key_text import new_key_text
from jobs.db.database import Database
from jobs.db.faults import is_unavailable
from jobs.db.tables import Job
from jobs.db.tenant_scope import TenantUnboundError
from jobs.db.time_limits import TimeLimits
from jobs.errors import JobNotFoundError
from jobs.lifecycle import State
from jobs.request import Priority
from jobs.service.job_look import look_at_job
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.scheduling.queue_positions import QueueSnapshot
from jobs.service.scheduling.queue_stats import queue_position
from jobs.service.submission import SubmitPolicy
from tests.contract.domain.conftest import FakeQueue, Steps


@pytest.fixture
def api_db(migrated_url: str) -> Iterator[Database]:
    """The database as the API has it: with limits, and the server's clock."""
    database = Database(migrated_url, limits=TimeLimits(5, CircuitBreaker()))
    yield database
    database.close()


@pytest.fixture
def api_steps(api_db: Database, policy: SubmitPolicy) -> Steps:
    return Steps(api_db.of_platform(), policy)


def test_a_look_says_what_decides_about_the_document(api_db: Database, api_steps: Steps) -> None:
    job = api_steps.submit()
    look = look_at_job(api_db, job.tenant, job.id)
    assert (look.state, look.version, look.files, look.variant) == (State.QUEUED, 1, None, job.variant)
    assert look.created_at == job.created_at
    assert abs((look.now - job.created_at).total_seconds()) < 600
    api_steps.submit()
    assert look_at_job(api_db, job.tenant, job.id).queue != look.queue
    api_steps.add_worker()
    api_steps.complete(api_steps.claimed(job.id))
    ended = look_at_job(api_db, job.tenant, job.id)
    assert (ended.state, ended.files, ended.queue) == (State.SUCCEEDED, 0, None)
    assert ended.version > look.version


def test_a_look_finds_no_job_of_another_tenant_and_leaves_no_tenant_behind(api_db: Database, api_steps: Steps) -> None:
    job = api_steps.submit("a")
    for _ in range(10):  # psycopg prepares the statement meanwhile
        assert look_at_job(api_db, "a", job.id).id == job.id
        with pytest.raises(JobNotFoundError):
            look_at_job(api_db, "b", job.id)
    if not api_db.is_sqlite:
        with Session(api_db.engine) as session:
            assert not session.scalar(text("SELECT current_setting('mmaudio.tenant', true)"))


def test_a_look_needs_a_tenant(api_db: Database, api_steps: Steps) -> None:
    job = api_steps.submit()
    from jobs.service.job_look import _LOOK

    with pytest.raises(TenantUnboundError):
        api_db.read_row(_LOOK, job_id=job.id)


def test_a_look_is_one_statement(api_db: Database, api_steps: Steps) -> None:
    job = api_steps.submit()
    look_at_job(api_db, job.tenant, job.id)
    statements: list[str] = []
    event.listen(api_db.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    look_at_job(api_db, job.tenant, job.id)
    # PostgreSQL's is sent past the engine, and is one by its nature.
    assert [statement for statement in statements if statement != "BEGIN"][1:] == [], statements


def test_a_look_on_a_connection_that_has_broken_is_taken_again(api_db: Database, api_steps: Steps) -> None:
    job = api_steps.submit()
    look_at_job(api_db, job.tenant, job.id)
    if not api_db.is_sqlite:
        other = Database(api_db.url.render_as_string(hide_password=False))
        with other.engine.connect() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                     "AND datname = current_database()")
            )  # fmt: skip
        other.close()
    assert look_at_job(api_db, job.tenant, job.id).id == job.id


def test_a_database_that_is_away_is_said_in_the_usual_way(api_db: Database, api_steps: Steps) -> None:
    if api_db.is_sqlite:
        return
    limits = TimeLimits(1, CircuitBreaker())
    away = Database("postgresql+psycopg://u:p@127.0.0.1:1/none", limits=limits, sleep=lambda _: None)
    with pytest.raises(OperationalError) as caught:
        look_at_job(away, "a", "job_1")
    assert is_unavailable(caught.value)
    with pytest.raises(OperationalError):
        authenticate(away, new_key_text())


def test_positions_from_a_snapshot_are_those_that_are_counted(steps: Steps, queue: FakeQueue) -> None:
    steps.add_worker(slots=3)
    jobs: list[Job] = []
    for number in range(12):
        for tenant in ("a", "b", "c"):
            if number % (1 + "abc".index(tenant)) == 0:
                jobs.append(steps.submit(tenant, priority=Priority.HIGH if number % 5 == 0 else Priority.NORMAL))
    dispatch(steps.db, queue)
    with steps.db.reading() as tx:
        rows = [tx.session.get_one(Job, job.id) for job in jobs]
        assert any(row.published_at for row in rows)
        snapshot = QueueSnapshot.read(tx, rows[0].variant)
        for row in rows:
            snapshot.read_lane(tx, row.variant, row)
            place = snapshot.counted(row)
            assert place is not None
            assert snapshot.position(row, lambda place=place: place) == queue_position(tx, row)  # type: ignore[misc]
