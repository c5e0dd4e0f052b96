"""PostgreSQL's own check of the tenant, for a role that is no superuser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import errors
from sqlalchemy import event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from jobs.db.base import Base, TenantOwned
from jobs.db.database import Database
from jobs.db.tables import Job, Upload
from jobs.request import JobRequest
from jobs.service.submission import SubmitPolicy, submit_and_commit
from migrations.cli import migrate
from migrations.upgrade import unlimited_role
from tests.conftest import FakeClock
from tests.databases import migrated_postgres

POLICY = SubmitPolicy(variants=("tiny_16k",))
BIND = "SELECT set_config('mmaudio.tenant', %s, true)"


@pytest.fixture
def url(postgres_uri: str) -> Iterator[str]:
    with migrated_postgres(postgres_uri) as url:
        yield url


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    """A database with a job of each of two tenants."""
    database = Database(url)
    for tenant in ("a", "b"):
        submit_and_commit(database.of_tenant(tenant), JobRequest(prompt="rain"), policy=POLICY)
    yield database
    database.close()


@pytest.fixture
def raw(url: str, db: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection without anything of ours."""
    del db
    with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string()) as connection:
        yield connection


def tenants(connection: psycopg.Connection[Any], table: str = "jobs") -> list[str]:
    return sorted(row[0] for row in connection.execute(f"SELECT tenant FROM {table}"))


def test_a_connection_sees_the_rows_that_it_names(raw: psycopg.Connection[Any]) -> None:
    for bound, wanted in (("a", ["a"]), ("b", ["b"]), ("c", []), ("*", ["a", "b"]), ("", [])):
        with raw.transaction():
            raw.execute(BIND, [bound])
            assert (tenants(raw), tenants(raw, "job_events")) == (wanted, wanted), bound
    assert tenants(raw) == [], "the setting ends with the transaction"


def test_a_new_connection_sees_nothing(raw: psycopg.Connection[Any]) -> None:
    assert tenants(raw) == []
    assert raw.execute("SELECT count(*) FROM job_events").fetchone() == (0,)
    assert raw.execute("DELETE FROM jobs").rowcount == 0


def test_a_row_of_another_tenant_is_neither_written_nor_changed(raw: psycopg.Connection[Any]) -> None:
    copied = (
        "INSERT INTO idempotency_keys (tenant, scope, key, body_sha256, job_id, created_at) "
        "SELECT 'b', 's', 'k', 'h', id, created_at FROM jobs"
    )
    for statement in (copied, "UPDATE jobs SET tenant = 'b'"):
        with pytest.raises(errors.InsufficientPrivilege), raw.transaction():
            raw.execute(BIND, ["a"])
            raw.execute(statement)
    with raw.transaction():
        raw.execute(BIND, ["a"])
        assert raw.execute("UPDATE jobs SET step = 1 WHERE tenant = 'b'").rowcount == 0
        assert raw.execute("DELETE FROM job_events").rowcount == 1


def test_every_tenant_owned_table_is_protected_also_from_its_owner(raw: psycopg.Connection[Any]) -> None:
    superuser = raw.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user").fetchone()
    assert superuser == (False,)
    protected = raw.execute(
        "SELECT relname FROM pg_class "
        "WHERE relrowsecurity AND relforcerowsecurity AND relowner = to_regrole(current_user)"
    )
    owned = {mapper.local_table.name for mapper in Base.registry.mappers if issubclass(mapper.class_, TenantOwned)}
    assert {row[0] for row in protected} == owned


def test_statements_that_pass_by_the_session_are_still_limited(db: Database) -> None:
    with db.of_tenant("a").reading() as tx:
        driver = tx.session.connection().connection.driver_connection
        assert driver is not None
        assert driver.execute("SELECT tenant FROM jobs").fetchall() == [("a",)]
    with db.of_tenant("a").transaction() as tx, pytest.raises(ProgrammingError, match="row-level security"):
        tx.session.execute(
            text("INSERT INTO idempotency_keys (tenant, scope, key, body_sha256, job_id, created_at) "
                 "SELECT 'b', 's', 'k', 'h', jobs.id, now() FROM jobs WHERE jobs.tenant = 'a'"),
            execution_options={"tenant_checked": True},
        )  # fmt: skip


def test_who_acts_for_a_tenant_is_limited_by_the_server_too(db: Database) -> None:
    def seen() -> list[Any]:
        driver = tx.session.connection().connection.driver_connection
        assert driver is not None
        return sorted(driver.execute("SELECT tenant FROM jobs").fetchall())

    with db.of_platform().transaction() as tx:
        assert seen() == [("a",), ("b",)]
        with tx.as_tenant("b"):
            assert seen() == [("b",)]
        assert seen() == [("a",), ("b",)]
        with pytest.raises(ValueError, match="by hand"), tx.as_tenant("a"):
            raise ValueError("by hand")
        assert seen() == [("a",), ("b",)]
    with db.of_tenant("a").reading() as tx:
        with tx.over_all_tenants():
            assert seen() == [("a",), ("b",)]
        assert seen() == [("a",)]


def test_a_connection_that_another_transaction_used_is_bound_anew(url: str) -> None:
    db = Database(url, pool_size=1)
    for tenant in ("a", "b"):
        submit_and_commit(db.of_tenant(tenant), JobRequest(prompt="rain"), policy=POLICY)
    for _ in range(2):
        for tenant in ("a", "b"):
            with db.of_tenant(tenant).reading() as tx:
                assert list(tx.session.scalars(select(Job.tenant))) == [tenant]
        with db.engine.connect() as connection:  # of nobody's
            assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 0
    db.close()


@pytest.mark.parametrize("injected", [True, False])
def test_a_transaction_begins_with_one_statement(url: str, clock: FakeClock, injected: bool) -> None:
    db = Database(url, clock=clock) if injected else Database(url)
    statements: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda _c, _cur, statement, *_: statements.append(statement))
    with db.of_tenant("a").reading() as tx:
        assert (tx.now == clock.time) is injected
        assert abs((tx.now - Database(url)._clock.now(tx.session)).total_seconds()) < 60 or injected
    assert statements[0].startswith("SELECT clock_timestamp(), set_config(")
    statements.clear()
    with db.of_tenant("a").transaction() as tx:
        tx.session.get(Upload, "u")
    assert len(statements) == 2, statements
    db.close()


def test_migrating_says_that_a_superuser_is_not_limited(
    url: str, postgres_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    superuser = make_url(url).set(username="postgres").render_as_string(hide_password=False)
    assert (unlimited_role(url), unlimited_role(superuser)) == (None, "postgres")
    assert unlimited_role(f"sqlite:///{tmp_path / 'mmaudio.db'}") is None
    del postgres_uri
    monkeypatch.setenv("MMAUDIO_DATA_DIR", str(tmp_path))
    for one, warned in ((url, False), (superuser, True)):
        monkeypatch.setenv("MMAUDIO_DATABASE_URL", one)
        done = CliRunner().invoke(migrate)
        assert done.exit_code == 0, done.output
        assert ("BYPASSRLS" in done.stderr) is warned
