"""Transactions during database faults: transient errors are retried, commits with unknown result are not doubled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from jobs.db.database import Database, Transaction
from jobs.db.faults import is_disk_full
from jobs.db.tables import Job
from jobs.db.tenant_scope import PLATFORM
from jobs.request import JobRequest
from jobs.service.attempts import claim
from jobs.service.submission import Idempotency, SubmitPolicy, submit, submit_and_commit
from tests.databases import migrated_postgres, migrated_sqlite

POLICY = SubmitPolicy(variants=("tiny_16k",), draw_seed=lambda: 7)
RAIN = JobRequest(prompt="rain")


def submit_rain(tx: Transaction) -> str:
    with tx.as_tenant("default") as own:
        return submit(own, RAIN, policy=POLICY).job.id


def count(db: Database) -> int:
    with db.reading() as tx:
        return tx.session.scalar(select(func.count()).select_from(Job)) or 0


def quick(db: Database) -> Database:
    """The same database, with pauses that are noted and not slept."""
    db._sleep = lambda seconds: None
    return db


class ForgetfulDatabase(Database):
    """Commits, and then loses the answer; as often as `forget` says."""

    forget = 0

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with super().transaction() as tx:
            yield tx
        if self.forget:
            self.forget -= 1
            raise OperationalError("COMMIT", {}, psycopg.OperationalError("server closed the connection unexpectedly"))


@pytest.fixture
def forgetful(migrated_url: str) -> Iterator[ForgetfulDatabase]:
    db = ForgetfulDatabase(migrated_url)
    db._scope = PLATFORM
    db._sleep = lambda seconds: None
    yield db
    db.close()


@pytest.mark.parametrize("code", ["40001", "40P01", "57P01", "57P03", "08006", "25006", "55P03"])
def test_a_transient_error_repeats_the_whole_transaction(db: Database, code: str) -> None:
    refusals = [code, code]

    def step(tx: Transaction) -> str:
        job_id = submit_rain(tx)
        if refusals:
            raise OperationalError("x", {}, psycopg.errors.lookup(refusals.pop())("made by the test"))
        return job_id

    quick(db).run(step, repeatable=False)
    assert count(db) == 1  # what the first two tries wrote was rolled back


def test_it_waits_longer_each_time_and_gives_up(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    db._sleep, db._rng = pauses.append, lambda: 0.5

    def step(tx: Transaction) -> None:
        raise OperationalError("x", {}, psycopg.errors.SerializationFailure("made by the test"))

    with pytest.raises(OperationalError):
        db.run(step, repeatable=True)
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert caplog.text.count("transient database error") == 1  # every caller meets an outage: a line a minute is enough


def test_steps_after_the_commit_run_once_and_only_after_it(db: Database) -> None:
    done: list[int] = []
    refusals = ["40001"]

    def step(tx: Transaction) -> None:
        tx.after_commit.append(lambda: done.append(count(db)))
        submit_rain(tx)
        if refusals:
            raise OperationalError("x", {}, psycopg.errors.lookup(refusals.pop())("made by the test"))

    quick(db).run(step, repeatable=False)
    assert done == [1]


def test_what_never_passes_is_raised_at_once(db: Database) -> None:
    tries = []

    def step(tx: Transaction) -> None:
        tries.append(1)
        job_id = submit_rain(tx)
        tx.session.execute(text("UPDATE jobs SET attempt = 99 WHERE id = :id"), {"id": job_id})

    with pytest.raises(IntegrityError):
        quick(db).run(step, repeatable=True)
    assert (len(tries), count(db)) == (1, 0)


def test_a_submit_without_a_key_is_never_doubled_by_a_lost_answer(forgetful: ForgetfulDatabase) -> None:
    forgetful.forget = 1
    with pytest.raises(DBAPIError):
        submit_and_commit(forgetful.of_tenant("default"), RAIN, policy=POLICY)
    assert count(forgetful) == 1


def test_a_submit_with_a_key_gets_its_answer_although_it_was_lost(forgetful: ForgetfulDatabase) -> None:
    forgetful.forget = 2
    key = Idempotency.of("POST /v1/jobs", "k", RAIN)
    submitted = submit_and_commit(forgetful.of_tenant("default"), RAIN, policy=POLICY, idempotency=key)
    assert submitted.replayed
    assert count(forgetful) == 1


@pytest.fixture
def postgres_db(postgres_uri: str) -> Iterator[Database]:
    with migrated_postgres(postgres_uri) as url:
        database = Database(url, sleep=lambda seconds: None).of_platform()
        yield database
        database.close()


def test_a_server_that_ends_the_session_costs_one_more_try(postgres_db: Database, postgres_uri: str) -> None:
    tries = []

    def step(tx: Transaction) -> str:
        tries.append(1)
        job_id = submit_rain(tx)
        if len(tries) == 1:
            pid = tx.session.scalar(text("SELECT pg_backend_pid()"))
            with psycopg.connect(postgres_uri, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        tx.session.execute(text("SELECT 1"))
        return job_id

    postgres_db.run(step, repeatable=False)
    assert (len(tries), count(postgres_db)) == (2, 1)


def test_a_connection_that_died_in_the_pool_is_not_noticed(postgres_db: Database, postgres_uri: str) -> None:
    with postgres_db.reading() as tx:
        pid = tx.session.scalar(text("SELECT pg_backend_pid()"))
    with psycopg.connect(postgres_uri, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with postgres_db.transaction() as tx:
        submit_rain(tx)
    assert count(postgres_db) == 1


def test_a_frozen_process_cannot_hold_its_row_locks_for_ever(postgres_db: Database) -> None:
    with postgres_db.reading() as tx:
        assert tx.session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "30s"
        assert tx.session.scalar(text("SHOW lock_timeout")) == "10s"


def test_a_full_sqlite_disk_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    url = migrated_sqlite(tmp_path / "mmaudio.db")
    db = Database(url).of_platform()
    with db.transaction() as tx:
        kept = submit_rain(tx)
    with db.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    big = JobRequest(prompt="x" * 20_000)
    with pytest.raises(OperationalError) as caught:
        db.of_tenant("t").run(lambda tx: [submit(tx, big, policy=POLICY) for _ in range(9)], repeatable=True)
    assert is_disk_full(caught.value)
    assert "xxx" not in str(caught.value), "prompts are not for logs"
    with db.reading() as tx:
        assert list(tx.session.scalars(select(Job.id))) == [kept]
    db.close()


def test_a_machine_with_a_wrong_clock_gets_its_leases_by_the_databases(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AnyTime(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class AnHourAhead(datetime, metaclass=AnyTime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> AnHourAhead:
            return super().now(tz) + timedelta(hours=1)

    monkeypatch.setattr("jobs.clock.datetime", AnHourAhead)
    with postgres_db.transaction() as tx:
        job_id = submit_rain(tx)
        claim(tx, job_id, worker_id="w", lease_s=12)
        left = tx.session.scalar(
            text("SELECT extract(epoch FROM lease_expires_at - clock_timestamp()) FROM jobs WHERE id = :id"),
            {"id": job_id},
        )
    assert left is not None
    assert 0 < left <= 12
