"""No statement that runs per job or periodically scans a whole table, by its query plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from jobs.api_keys.authentication import _BY_DIGEST
from jobs.db.database import Database
from jobs.lifecycle import State
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.batch_creation import NewBatch, create_and_commit
from jobs.service.batches import cancel_jobs, get_batch, request_cancel, summary_of
from jobs.service.bulk_retry import retry_matching
from jobs.service.cancellation import cancel
from jobs.service.deletion import delete_job
from jobs.service.ended_counters import jobs_by_state
from jobs.service.job_pages import list_jobs
from jobs.service.maintenance import rescue
from jobs.service.queries import JobFilter, get_job, running_jobs
from jobs.service.retention import prune
from jobs.service.running_attempts import renew_leases
from jobs.service.scheduling.dispatch import dispatch, republish_lost
from jobs.service.scheduling.queue_stats import queue_position, queue_stats
from jobs.service.submission import SubmitPolicy, submit_and_commit
from jobs.service.tenant_limits import stored_result_bytes, stored_upload_bytes, trigger_count
from jobs.service.workers import register_worker
from jobs.storage.local import LocalStore
from tests.conftest import FakeClock
from tests.contract.domain.conftest import FakeQueue
from tests.databases import migrated_sqlite

BIG_TABLES = ("jobs", "job_events", "job_attempts", "artifacts", "uploads")


@pytest.fixture
def db(tmp_path: Path, clock: FakeClock) -> Iterator[Database]:
    url = migrated_sqlite(tmp_path / "mmaudio.db")
    database = Database(url, clock=clock).of_platform()
    yield database
    database.close()


def plans_of(db: Database, statements: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    with db.engine.connect() as connection:
        for statement, parameters in statements:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                yield statement, str(row[3])


def test_every_statement_of_a_jobs_life_and_of_the_sweep_goes_by_an_index(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    statements: dict[str, Any] = {}

    def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")) and not many:
            statements.setdefault(statement, parameters)

    event.listen(db.engine, "before_cursor_execute", remember)
    policy, queue = SubmitPolicy(variants=("tiny_16k",)), FakeQueue()
    with db.transaction() as tx:
        register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu", slots=2, variants=["tiny_16k"])
    request = JobRequest(prompt="rain", queue_ttl_s=5)
    jobs = [submit_and_commit(db.of_tenant("a"), request, policy=policy).job for _ in range(6)]
    batch_id = create_and_commit(db.of_tenant("a"), NewBatch([request, request]), policy=policy).batch.id
    dispatch(db, queue)
    clock.advance(3)
    republish_lost(db, queue)
    with db.transaction() as tx:
        claims = [attempts.claim(tx, job_id, worker_id="w1", lease_s=12) for job_id in queue.published]
        assert claims[0] is not None
        renew_leases(tx, [(claims[0].job_id, 1)], worker_id="w1", lease_s=12)
    with db.transaction() as tx:
        attempts.complete(tx, claims[0], [], warnings=[], timings={}, artifact_ttl_s=60)
        cancel(tx, jobs[5].id)
    with db.of_tenant("a").transaction() as tx:
        delete_job(tx, jobs[5].id)
        request_cancel(tx, batch_id)
    cancel_jobs(db.of_tenant("a"), batch_id)
    with db.of_tenant("a").reading() as tx:
        queue_position(tx, get_job(tx, jobs[4].id))
        for wanted in (
            JobFilter(),
            JobFilter(state=State.FAILED),
            JobFilter(created_after=clock.time),
            JobFilter(error_code="storage_unavailable"),
            JobFilter(states=(State.FAILED, State.QUEUED)),
            JobFilter(batch_id=batch_id),
            JobFilter(batch_id=batch_id, states=(State.QUEUED,)),
            JobFilter(ids=tuple(job.id for job in jobs)),
            JobFilter(text="rain", metadata=(("a", "b"),)),
            JobFilter(text="job_0"),
        ):
            list_jobs(tx, wanted=wanted, cursor=None, limit=10)
        summary_of(tx, get_batch(tx, batch_id))
        jobs_by_state(tx)
    with db.reading() as tx:
        queue_stats(tx, ("tiny_16k",))
        running_jobs(tx)
    for wanted in (JobFilter(State.CANCELED), JobFilter(State.FAILED, error_code="storage_unavailable")):
        retry_matching(db.of_tenant("a"), wanted=wanted, policy=policy, cursor=None, limit=10)
    clock.advance(20)
    rescue(db)
    clock.advance(7200)
    prune(db, LocalStore(tmp_path / "objects"), lambda output, job_id, attempt: 0)
    event.remove(db.engine, "before_cursor_execute", remember)

    assert len(statements) > 30
    whole = [
        (line, statement)
        for statement, line in plans_of(db, list(statements.items()))
        for table in BIG_TABLES
        if line.startswith(f"SCAN {table}") and "INDEX" not in line
    ]
    assert whole == []


def test_jobs_of_a_rare_error_code_and_retries_of_a_job_have_their_own_index(db: Database) -> None:
    statements = [
        (
            "SELECT id FROM jobs WHERE tenant = ? AND state = ? AND error_code = ? AND id > ? ORDER BY id LIMIT 10",
            ("a", "failed", "storage_unavailable", ""),
        ),
        ("SELECT retry_of FROM jobs WHERE retry_of IN (?, ?)", ("job_1", "job_2")),
    ]
    plans = [line for _, line in plans_of(db, statements)]
    assert [index in plan for plan, index in zip(plans, ("ix_jobs_error_code", "ix_jobs_retry_of"), strict=True)] == [
        True,
        True,
    ], plans


def test_what_a_tenant_holds_is_summed_from_an_index_of_its_live_rows_alone(db: Database) -> None:
    statements: dict[str, Any] = {}

    def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        statements[statement] = parameters

    event.listen(db.engine, "before_cursor_execute", remember)
    with db.of_tenant("a").reading() as tx:
        stored_upload_bytes(tx)
        stored_result_bytes(tx)
        trigger_count(tx)
    event.remove(db.engine, "before_cursor_execute", remember)
    plans = " ".join(line for _, line in plans_of(db, list(statements.items())))
    for index in ("ix_uploads_held", "ix_artifacts_stored", "ix_triggers_tenant_page"):
        assert f" INDEX {index} (tenant=?)" in plans, plans


def test_a_key_is_found_by_an_index(db: Database) -> None:
    statements = [(str(_BY_DIGEST.compile(db.engine)), ("0" * 64,))]
    assert "uq_api_keys_sha256 (sha256=?)" in " ".join(line for _, line in plans_of(db, statements))
