"""Cost of the queue's calls with a million queued jobs: `python -m benchmarks.backlog [--rows N]`.

Two databases on one PostgreSQL server, with the same calls on both in turn: one holds 1,000 queued jobs (the baseline),
the other a million, of 20 tenants, three priorities and two variants. The broker is a list in memory, so that SQL and
our own code are measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import select, text

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.lifecycle import State, WorkerState
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.job_pages import list_jobs
from jobs.service.maintenance import MaintenancePolicy, rescue
from jobs.service.queries import JobFilter, get_job
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.scheduling.queue_stats import queue_position, queue_stats
from jobs.service.submission import SubmitPolicy, submit_and_commit
from jobs.service.workers import record_heartbeat, register_worker
from local_services.postgres import postgres_database, postgres_server
from migrations.upgrade import upgrade

BASELINE_ROWS = 1_000
MAX_RATIO = 1.5
SLOTS = 8
ROUNDS = 40
WARM_UP = 5
VARIANT = "tiny_16k"

FILL = """
INSERT INTO jobs (id, tenant, state, variant, priority, request, attempt, max_attempts, progress, warnings, timings,
                  created_at, available_at, version)
SELECT 'job_' || lpad(to_hex(n), 12, '0') || substr(md5(n::text), 1, 20), 'tenant_' || n % 20, 'queued',
       CASE WHEN n % 10 = 0 THEN 'small_16k' ELSE 'tiny_16k' END, n / 20 % 3,
       '{"prompt": "rain", "variant": "tiny_16k", "seed": 7, "run_timeout_s": 3600}', 0, 3, 0, '[]', '{}',
       now() - (:rows - n) * interval '1 millisecond', now() - (:rows - n) * interval '1 millisecond', 1
FROM generate_series(1, :rows) AS n
"""
COUNT = """
INSERT INTO queued_counts (variant, priority, tenant, shard, queued)
SELECT variant, priority, tenant, 0, count(*) FROM jobs WHERE state = 'queued' GROUP BY variant, priority, tenant
"""


@dataclass
class FakeBroker:
    messages: list[str] = field(default_factory=list)

    def publish(self, job_ids: list[str], *, variant: str) -> None:  # noqa: ARG002 - the broker's signature
        self.messages += job_ids

    def enqueued_job_ids(self, variant: str) -> set[str]:  # noqa: ARG002
        return set(self.messages)


class Queue:
    """One database with queued jobs, and the measured calls."""

    def __init__(self, db: Database) -> None:
        self.db, self.own_db, self.queue = db, db.of_tenant("tenant_1"), FakeBroker()
        self.policy = SubmitPolicy(variants=(VARIANT, "small_16k"), max_queued_per_tenant=10**9)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        with db.reading() as tx:
            ids = list(tx.session.scalars(select(Job.id).order_by(Job.id)))
        self.sampled_ids = ids[len(ids) // 2 :: max(1, len(ids) // (2 * (ROUNDS + WARM_UP)))]

    def round(self, number: int) -> None:
        """Make each call once; one window of jobs is dispatched, claimed and completed, so every round is alike."""
        job_id = self.sampled_ids[number % len(self.sampled_ids)]
        with self.db.transaction() as tx:
            record_heartbeat(tx, "w1", state=WorkerState.READY, variants_loaded=[VARIANT], memory_bytes=None)
        with self._timed("submit"):
            submit_and_commit(self.own_db, JobRequest(prompt="rain"), policy=self.policy)
        with self._timed(f"dispatch of a window ({SLOTS} jobs)"):
            dispatch(self.db, self.queue)
        assert len(self.queue.messages) == SLOTS, self.queue.messages
        claims = []
        for message in self.queue.messages:
            with self._timed("claim"), self.db.transaction() as tx:
                claims.append(attempts.claim(tx, message, worker_id="w1", lease_s=60))
        with self._timed("dispatch while all slots are busy"):
            dispatch(self.db, self.queue)
        with self._timed("get"), self.db.reading() as tx:
            get_job(tx, job_id)
        with self._timed("queue position"), self.db.reading() as tx:
            queue_position(tx, tx.session.get_one(Job, job_id))
        with self._timed("list page of 50"), self.own_db.reading() as tx:
            list_jobs(tx, wanted=JobFilter(), cursor=None, limit=50)
        with self._timed("list page of 50, failed ones"), self.own_db.reading() as tx:
            list_jobs(tx, wanted=JobFilter(state=State.FAILED), cursor=None, limit=50)
        with self._timed("queue statistics"), self.db.reading() as tx:
            queue_stats(tx, (VARIANT,))
        with self._timed("maintenance: rescue"):
            rescue(self.db, MaintenancePolicy(lost_after_s=3600))
        for claim in claims:
            assert claim is not None, "a dispatched job could not be claimed"
            with self.db.transaction() as tx:
                attempts.complete(tx, claim, [], warnings=[], timings={}, artifact_ttl_s=60)
        self.queue.messages.clear()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments, _ = parser.parse_known_args()
    with postgres_server() as server, _queue(server, BASELINE_ROWS) as small, _queue(server, arguments.rows) as large:
        for number in range(WARM_UP + arguments.rounds):
            if number == WARM_UP:
                small.seconds.clear()
                large.seconds.clear()
            for queue in (small, large) if number % 2 else (large, small):
                queue.round(number)
        print(f"{'call, p50 in ms':<36}{f'{BASELINE_ROWS:,} rows':>14}{f'{arguments.rows:,} rows':>18}{'ratio':>8}")
        for name, seconds in small.seconds.items():
            base, found = (_p50(values) for values in (seconds, large.seconds[name]))
            note = "" if found <= MAX_RATIO * base else f"  more than {MAX_RATIO}"
            print(f"{name:<36}{base:>14.2f}{found:>18.2f}{found / base:>8.2f}{note}")


@contextmanager
def _queue(server: str, rows: int) -> Iterator[Queue]:
    with postgres_database(server) as url:
        upgrade(url)
        db = Database(url).of_platform()
        with db.transaction() as tx:
            tx.session.execute(text(FILL), {"rows": rows})
            tx.session.execute(text(COUNT))
            register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=SLOTS, variants=[VARIANT])
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield Queue(db)
        db.close()


def _p50(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


if __name__ == "__main__":
    main()
