"""PostgreSQL with many rows, most of them of ended jobs: no statement of a job's life reads more rows than it needs.
The server counts them itself (EXPLAIN ANALYZE); no time is measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, select, text

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.lifecycle import State
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.batch_creation import NewBatch, create_and_commit
from jobs.service.batches import cancel_jobs, get_batch, request_cancel, summary_of
from jobs.service.ended_counters import jobs_by_state
from jobs.service.job_pages import list_jobs
from jobs.service.maintenance import rescue
from jobs.service.queries import JobFilter
from jobs.service.running_attempts import renew_leases
from jobs.service.scheduling.dispatch import dispatch, republish_lost
from jobs.service.scheduling.queue_stats import queue_position, queue_stats
from jobs.service.submission import SubmitPolicy, submit_and_commit
from jobs.service.workers import register_worker
from tests.contract.domain.conftest import FakeQueue
from tests.databases import migrated_postgres

ENDED, WAITING, TENANTS = 12_000, 6_000, 6
BIG_TABLES = {"jobs", "job_events", "job_attempts"}
# A list's page, a window, the places of one's own lane that are counted one by one: all are less.
MOST = 1_001
FILL = """
INSERT INTO jobs (id, tenant, state, variant, priority, request, attempt, max_attempts, progress, warnings, timings,
                  created_at, available_at, finished_at, version)
SELECT 'job_' || lpad(to_hex(n), 32, '0'), 'tenant_' || n % :tenants,
       CASE WHEN n > :ended THEN 'queued' ELSE 'succeeded' END, 'tiny_16k', n / :tenants % 3,
       '{"prompt": "rain", "run_timeout_s": 3600}', 0, 3, 0, '[]', '{}',
       now() - interval '1 day' + n * interval '1 second', now() - interval '1 day' + n * interval '1 second',
       CASE WHEN n > :ended THEN NULL ELSE now() - interval '1 hour' END, 1
FROM generate_series(1, :ended + :waiting) AS n
"""
COUNT = """
INSERT INTO queued_counts (variant, priority, tenant, shard, queued)
SELECT variant, priority, tenant, 0, count(*) FROM jobs WHERE state = 'queued' GROUP BY variant, priority, tenant
"""


@pytest.fixture
def db(postgres_uri: str) -> Iterator[Database]:
    with migrated_postgres(postgres_uri) as url:
        database = Database(url).of_platform()
        with database.transaction() as tx:
            tx.session.execute(text(FILL), {"ended": ENDED, "waiting": WAITING, "tenants": TENANTS})
            tx.session.execute(text(COUNT))
            register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu", slots=8, variants=["tiny_16k"])
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield database
        database.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def looked_at(plan: dict[str, Any]) -> dict[str, float]:
    """Return the most rows of a big table that one part of the plan looked at, by the part's name."""
    most: dict[str, float] = {}
    for node in nodes(plan):
        if node.get("Relation Name") in BIG_TABLES:
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            name = f"{node['Node Type']} on {node['Relation Name']} by {node.get('Index Name')}"
            rows = (node["Actual Rows"] + removed) * node["Actual Loops"]
            most[name] = max(most.get(name, 0), rows)
    return most


def test_what_is_looked_at_does_not_grow_with_the_rows(db: Database) -> None:
    found: dict[str, dict[str, float]] = {}

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        """Have the server tell how it did each statement, in the state that the statement found."""
        if statement in found or not statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            return
        with connection.connection.cursor() as own:
            own.execute("SAVEPOINT explained")
            own.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            row = own.fetchone()
            assert row is not None
            own.execute("ROLLBACK TO SAVEPOINT explained")
        found[statement] = looked_at(row[0][0]["Plan"])

    with db.reading() as tx:
        in_the_middle = tx.session.scalars(
            select(Job).where(Job.state == State.QUEUED).offset(WAITING // 2).limit(1)
        ).one()
    event.listen(db.engine, "before_cursor_execute", explain)
    queue, policy = FakeQueue(), SubmitPolicy(variants=("tiny_16k",))
    submit_and_commit(db.of_tenant("tenant_1"), JobRequest(prompt="rain"), policy=policy)
    assert dispatch(db, queue).published == 8
    assert dispatch(db, queue).published == 0
    claims = []
    for job_id in queue.published:
        with db.transaction() as tx:
            claims.append(attempts.claim(tx, job_id, worker_id="w1", lease_s=60))
    queue.messages.clear()
    dispatch(db, queue)
    republish_lost(db, queue)
    with db.transaction() as tx:
        renew_leases(tx, [(claim.job_id, 1) for claim in claims if claim], worker_id="w1", lease_s=60)
    with db.of_tenant("tenant_1").reading() as tx:
        queue_position(tx, in_the_middle)
        for wanted in (
            JobFilter(),
            JobFilter(state=State.FAILED),
            JobFilter(state=State.QUEUED),
            JobFilter(states=(State.FAILED, State.QUEUED)),
            JobFilter(batch_id="bat_0"),
            JobFilter(ids=(in_the_middle.id, "job_0")),
        ):
            list_jobs(tx, wanted=wanted, cursor=None, limit=50)
        jobs_by_state(tx)
    with db.reading() as tx:
        queue_stats(tx, ("tiny_16k",))
    batch = create_and_commit(db.of_tenant("tenant_1"), NewBatch([JobRequest(prompt="rain")] * 5), policy=policy).batch
    with db.of_tenant("tenant_1").reading() as tx:
        summary_of(tx, get_batch(tx, batch.id))
    with db.of_tenant("tenant_1").transaction() as tx:
        request_cancel(tx, batch.id)
    cancel_jobs(db.of_tenant("tenant_1"), batch.id)
    rescue(db)
    for claim in claims:
        assert claim is not None
        with db.transaction() as tx:
            attempts.complete(tx, claim, [], warnings=[], timings={}, artifact_ttl_s=60)
    event.remove(db.engine, "before_cursor_execute", explain)

    assert len(found) > 20
    assert {statement: parts for statement, parts in found.items() if any(rows > MOST for rows in parts.values())} == {}
