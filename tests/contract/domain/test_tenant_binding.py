"""A transaction that is bound to a tenant sees and writes its rows only, whatever the statement looks like."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Insert, delete, event, exists, func, insert, literal, select, text, union_all, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from jobs.db.database import Database, Transaction
from jobs.db.tables import IdempotencyKey, Job, JobEvent, TenantQuota, Trigger, Upload, Worker
from jobs.db.tenant_scope import ForeignRowError, TenantUnboundError
from jobs.db.upsert import insert_or_ignore, upsert
from jobs.lifecycle import EventKind, State
from jobs.service.queries import get_job
from jobs.service.scheduling.queue_stats import queue_position
from jobs.service.uploads import announce_upload
from tests.conftest import FakeClock
from tests.contract.domain.conftest import Steps

Both = tuple[Job, Job]


@pytest.fixture
def both(steps: Steps) -> Both:
    """A queued job of tenant `a` and one of tenant `b`."""
    return steps.submit(tenant="a"), steps.submit(tenant="b")


def rows(tx: Transaction, statement: Any) -> list[Any]:
    return list(tx.session.scalars(statement))


OTHER = aliased(Job)
READS: dict[str, Callable[[], Any]] = {
    "entities": lambda: select(Job.id).select_from(Job),
    "a column": lambda: select(Job.id),
    "a condition on the tenant": lambda: select(Job.id).where(Job.tenant.in_(["a", "b"])),
    "either": lambda: select(Job.id).where((Job.tenant == "b") | (Job.tenant == "a")),
    "an alias": lambda: select(OTHER.id),
    "a join": lambda: select(Job.id).join(JobEvent, JobEvent.job_id == Job.id),
    "a join of the other side": lambda: select(JobEvent.job_id).join(Job, JobEvent.job_id == Job.id),
    "an outer join": lambda: select(Job.id).outerjoin(JobEvent, JobEvent.job_id == Job.id),
    "two tables": lambda: select(Job.id).where(JobEvent.job_id == Job.id),
    "a sub-select": lambda: select(select(Job.id).limit(9).subquery().c.id),
    "a common table expression": lambda: select(select(Job.id).cte().c.id),
    "a union": lambda: union_all(select(Job.id), select(JobEvent.job_id)),
    "what exists": lambda: select(JobEvent.job_id).where(exists().where(Job.id == JobEvent.job_id)),
    "a lock": lambda: select(Job.id).with_for_update(key_share=True),
    "a lock of one table": lambda: select(Job.id).with_for_update(of=Job, skip_locked=True),
    "a group": lambda: select(func.max(Job.id)).group_by(Job.tenant),
}


@pytest.mark.parametrize("name", READS)
def test_a_tenant_reads_its_rows_and_the_platform_all(db: Database, both: Both, name: str) -> None:
    a, b = both
    for tenant, wanted in (("a", {a.id}), ("b", {b.id}), ("c", set())):
        with db.of_tenant(tenant).reading() as tx:
            assert set(rows(tx, READS[name]())) == wanted
    with db.reading() as tx:
        assert set(rows(tx, READS[name]())) == {a.id, b.id}


def test_counts_and_sub_selects_without_a_from_count_the_tenants_rows(db: Database, both: Both) -> None:
    del both
    statements = (
        select(func.count()).select_from(Job),
        select(func.count()).where(Job.state == State.QUEUED),
        select(func.count(Job.id)),
        select(select(func.count()).where(Job.state == State.QUEUED).scalar_subquery()),
        select(func.count()).select_from(select(Job.id).limit(9).subquery()),
        select(func.count()).select_from(select(literal(1)).where(Job.state == State.QUEUED).subquery()),
    )
    for statement in statements:
        with db.of_tenant("a").reading() as tx:
            assert tx.session.scalar(statement) == 1, str(statement)
        with db.reading() as tx:
            assert tx.session.scalar(statement) == 2, str(statement)
    with db.of_tenant("c").reading() as tx:
        assert tx.session.scalar(select(exists().where(Job.state == State.QUEUED))) is False


def test_what_is_negated_does_not_reach_the_rows_of_others(db: Database, both: Both) -> None:
    a, b = both
    with db.of_tenant("a").reading() as tx:
        without = select(Job.id).where(~exists().where(JobEvent.job_id == Job.id))
        assert rows(tx, without) == []
        assert rows(tx, select(Job.id).where(Job.id != a.id)) == []
        assert rows(tx, select(Job.id).where(Job.id.not_in(select(JobEvent.job_id)))) == []
        assert rows(tx, select(Job.id).where(Job.id == b.id)) == []


def test_a_row_of_another_tenant_is_not_got(db: Database, both: Both) -> None:
    a, b = both
    with db.of_tenant("a").transaction() as tx:
        assert tx.session.get(Job, b.id) is None
        assert tx.session.get(Job, b.id, with_for_update=True) is None
        found = tx.session.get(Job, a.id)
        assert found is not None
        tx.session.refresh(found)
        tx.session.refresh(found, with_for_update={"key_share": True})
        tx.session.expire(found)
        assert found.tenant == "a"
        assert tx.session.get_one(Job, a.id) is found


def test_a_row_that_the_platform_has_read_is_not_got_for_another_tenant(db: Database, both: Both) -> None:
    a, b = both
    with db.transaction() as tx:
        held = tx.session.get_one(Job, b.id)
        with tx.as_tenant("a") as own:
            assert own.session.get(Job, b.id) is None
            assert own.session.get(Job, b.id, populate_existing=True) is None
            assert own.session.get_one(Job, a.id).tenant == "a"
            assert rows(own, select(Job.id)) == [a.id]
        assert tx.session.get(Job, b.id) is held


@pytest.mark.parametrize("matches", [True, "evaluate", "fetch", False])
def test_an_update_and_a_delete_reach_the_tenants_rows_only(db: Database, both: Both, matches: Any) -> None:
    a, b = both
    options = {"synchronize_session": "auto" if matches is True else matches}
    with db.of_tenant("a").transaction() as tx:
        changed = update(Job).where(Job.state == State.QUEUED).values(step=7).returning(Job.id)
        if matches == "evaluate":
            tx.session.execute(update(Job).where(Job.state == State.QUEUED).values(step=7), execution_options=options)
        else:
            assert set(tx.session.scalars(changed, execution_options=options)) == {a.id}
        tx.session.execute(delete(JobEvent).where(JobEvent.job_id.in_([a.id, b.id])), execution_options=options)
    with db.reading() as tx:
        assert dict(tx.session.execute(select(Job.tenant, Job.step)).all()) == {"a": 7, "b": None}
        assert rows(tx, select(JobEvent.job_id)) == [b.id]


def test_an_update_of_a_row_by_its_id_finds_nothing_of_another_tenant(db: Database, both: Both) -> None:
    _, b = both
    with db.of_tenant("a").transaction() as tx:
        done = tx.session.execute(update(Job).where(Job.id == b.id).values(step=7).returning(Job.id)).first()
        assert done is None


RAW = {
    "raw SQL": lambda: text("SELECT id FROM jobs"),
    "raw SQL with columns": lambda: text("SELECT id FROM jobs").columns(Job.id),
    "a join in raw SQL": lambda: text("SELECT e.id FROM job_events AS e JOIN jobs ON jobs.id = e.job_id"),
    "raw SQL with one of two limited": lambda: text(
        "SELECT jobs.id FROM jobs, job_events WHERE jobs.tenant = 'a' AND job_events.job_id = jobs.id"
    ),
    "raw deletion": lambda: text("DELETE FROM jobs"),
    "a table": lambda: select(Job.__table__),
    "a column of a table": lambda: select(Job.__table__.c.id),
    "an update of a table": lambda: update(Job.__table__).values(step=7),  # type: ignore[arg-type]
    "a deletion from a table": lambda: delete(Job.__table__),  # type: ignore[arg-type]
    "another table's rows in an update": lambda: (
        update(JobEvent).where(JobEvent.job_id == Job.id).values(attempt=Job.attempt),
        {"synchronize_session": False},
    ),
}


@pytest.mark.parametrize("name", RAW)
def test_a_statement_that_cannot_be_limited_is_refused(db: Database, both: Both, name: str) -> None:
    del both
    made: Any = RAW[name]()
    statement, options = made if isinstance(made, tuple) else (made, {})
    with (
        pytest.raises(TenantUnboundError, match="without a condition on the tenant"),
        db.of_tenant("a").transaction() as tx,
    ):
        tx.session.execute(statement, execution_options=options)
    with db.reading() as tx:
        assert sorted(rows(tx, select(Job.tenant))) == ["a", "b"]


def test_raw_sql_that_names_the_tenant_and_driver_sql_are_looked_at_as_well(db: Database, both: Both) -> None:
    a, _ = both
    with db.of_tenant("a").reading() as tx:
        limited = text("SELECT jobs.id FROM jobs WHERE jobs.tenant = :tenant")
        assert list(tx.session.scalars(limited, {"tenant": tx.tenant})) == [a.id]
        with pytest.raises(TenantUnboundError):
            tx.session.connection().exec_driver_sql("SELECT id FROM jobs")


@pytest.mark.parametrize("table", ["jobs", "workers", "tenant_quotas", "leaderships", "audit_events"])
def test_a_transaction_that_is_bound_to_nothing_reaches_no_table(db: Database, migrated_url: str, table: str) -> None:
    del db
    unbound = Database(migrated_url)
    with unbound.reading() as tx:
        assert tx.session.scalar(select(literal(1))) == 1
    with pytest.raises(TenantUnboundError, match=table), unbound.reading() as tx:
        tx.session.execute(text(f"SELECT count(*) FROM {table}"))
    unbound.close()


def test_a_transaction_that_is_bound_to_nothing_neither_reads_nor_writes(migrated_url: str) -> None:
    unbound = Database(migrated_url)
    attempts: tuple[Callable[[Transaction], Any], ...] = (
        lambda tx: tx.session.get(Job, "j"),
        lambda tx: tx.session.scalars(select(Job)),
        lambda tx: tx.session.scalar(select(func.count()).select_from(Upload)),
        lambda tx: tx.session.execute(update(Job).values(step=1)),
        lambda tx: tx.session.execute(delete(Trigger)),
        lambda tx: tx.session.add(_upload("u", "a")),
        lambda tx: tx.session.execute(insert(Upload).values(_fields("u", "a"))),
        lambda tx: insert_or_ignore(tx.session, Upload, _fields("u", "a")),
        lambda tx: tx.session.connection().exec_driver_sql("DELETE FROM jobs"),
        lambda tx: tx.tenant,
        lambda tx: tx.require_platform(),
        lambda tx: tx.as_tenant("a").__enter__(),
        lambda tx: tx.over_all_tenants().__enter__(),
    )
    for attempt in attempts:
        with pytest.raises(TenantUnboundError), unbound.transaction() as tx:
            attempt(tx)
    unbound.close()


@pytest.mark.parametrize("entity", [Worker])
def test_a_table_of_the_platform_is_closed_to_tenants(db: Database, entity: Any) -> None:
    with pytest.raises(TenantUnboundError, match="platform's alone"), db.of_tenant("a").reading() as tx:
        tx.session.scalars(select(entity))
    with db.of_tenant("a").reading() as tx:  # numbers only
        assert rows(tx, select(TenantQuota)) == []


def _fields(upload_id: str, tenant: str | None, **more: Any) -> dict[str, Any]:
    now = FakeClock().time
    fields = {
        "id": upload_id, "tenant": tenant, "filename": "f", "content_type": "video/mp4", "size_bytes": 1,
        "storage_key": "k", "created_at": now, "expires_at": now + timedelta(hours=1), **more,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if name != "tenant" or value is not None}


def _upload(upload_id: str, tenant: str | None) -> Upload:
    return Upload(**_fields(upload_id, tenant))


def test_a_new_row_gets_the_tenant_of_its_transaction(db: Database) -> None:
    with db.of_tenant("a").transaction() as tx:
        tx.session.add(_upload("u1", None))
        tx.session.add(_upload("u2", "a"))
        assert insert_or_ignore(tx.session, Upload, _fields("u3", None))
        tx.session.execute(insert(Upload).values(_fields("u4", "a")))
        tx.session.execute(insert(Upload), [_fields("u5", "a"), _fields("u6", "a")])
    with db.reading() as tx:
        assert rows(tx, select(Upload.tenant).order_by(Upload.id)) == ["a"] * 6


FOREIGN: dict[str, Callable[[Transaction, Job], Any]] = {
    "an object": lambda tx, job: tx.session.add(_upload("u", "b")),
    "a statement": lambda tx, job: tx.session.execute(insert(Upload).values(_fields("u", "b"))),
    "a statement without a tenant": lambda tx, job: tx.session.execute(insert(Upload).values(_fields("u", None))),
    "a statement for a table": lambda tx, job: tx.session.execute(_into_table().values(_fields("u", "b"))),
    "one of several rows": lambda tx, job: tx.session.execute(
        insert(Upload), [_fields("u", "a"), _fields("v", "b")]
    ),
    "one of several values": lambda tx, job: tx.session.execute(
        insert(Upload).values([_fields("u", "a"), _fields("v", "b")])
    ),
    "a row that a query makes": lambda tx, job: tx.session.execute(
        insert(IdempotencyKey).from_select(
            ["tenant", "scope", "key", "body_sha256", "job_id", "created_at"],
            select(literal("b"), literal("s"), literal("k"), literal("h"), Job.id, Job.created_at),
        )
    ),
    "unless it exists": lambda tx, job: insert_or_ignore(tx.session, Upload, _fields("u", "b")),
    "a changed tenant": lambda tx, job: setattr(tx.session.get_one(Job, job.id), "tenant", "b"),
    "a changed tenant by statement": lambda tx, job: tx.session.merge(Job(id=job.id, tenant="b")),
    "a merged row": lambda tx, job: tx.session.merge(_upload("u", "b")),
}  # fmt: skip


def _into_table() -> Insert:
    return insert(Upload.__table__)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_row_of_another_tenant_is_not_written(db: Database, both: Both, name: str) -> None:
    a, _ = both
    with pytest.raises(ForeignRowError), db.of_tenant("a").transaction() as tx:
        FOREIGN[name](tx, a)
    with db.reading() as tx:
        assert rows(tx, select(Upload.id)) == []
        assert sorted(rows(tx, select(Job.tenant))) == ["a", "b"]


def test_a_row_that_the_platform_has_read_is_not_changed_for_another_tenant(db: Database, both: Both) -> None:
    _, b = both
    for change in (lambda job: setattr(job, "step", 7), lambda job: None):
        with pytest.raises(ForeignRowError), db.transaction() as tx:
            held = tx.session.get_one(Job, b.id)
            with tx.as_tenant("a"):
                change(held)
                tx.session.delete(held) if held.step is None else tx.session.flush()


def test_an_upsert_leaves_a_row_of_another_tenant_as_it_is(db: Database) -> None:
    with db.of_tenant("b").transaction() as tx:
        tx.session.add(_upload("u", "b"))
    row = _fields("u", None, filename="changed")
    for tenant in ("a", "b"):
        with db.of_tenant(tenant).transaction() as tx:
            upsert(tx.session, Upload, [row], key=["id"], update=lambda new: {"filename": new.filename})
        with db.reading() as tx:
            wanted = [("b", "f" if tenant == "a" else "changed")]
            assert [tuple(row) for row in tx.session.execute(select(Upload.tenant, Upload.filename))] == wanted


def test_a_taken_id_tells_nothing_but_that_it_is_taken(db: Database) -> None:
    with db.of_tenant("b").transaction() as tx:
        tx.session.add(_upload("u", "b"))
    with pytest.raises(IntegrityError), db.of_tenant("a").transaction() as tx:
        tx.session.add(_upload("u", "a"))


def test_the_platform_acts_for_a_tenant_and_is_the_platform_again(db: Database, both: Both) -> None:
    a, b = both
    with db.transaction() as tx:
        with tx.as_tenant("b") as own:
            assert (own.tenant, own.now, own.session) == ("b", tx.now, tx.session)
            made = announce_upload(own, filename="f", content_type="v", size_bytes=1, sha256=None, ttl_s=60)
            assert rows(own, select(Job.id)) == [b.id]
            with own.as_tenant("b") as same:
                assert same.tenant == "b"
            with pytest.raises(TenantUnboundError), own.as_tenant("a"):
                pass
        assert made.tenant == "b"
        with pytest.raises(TenantUnboundError):
            assert tx.tenant
        assert sorted(rows(tx, select(Job.id))) == sorted([a.id, b.id])
        with pytest.raises(ValueError, match="by hand"), tx.as_tenant("a"):
            raise ValueError("by hand")
        assert sorted(rows(tx, select(Job.id))) == sorted([a.id, b.id])


def test_rows_of_the_platform_are_written_before_it_acts_for_a_tenant(db: Database, both: Both) -> None:
    _, b = both
    with db.transaction() as tx:
        tx.session.add(
            JobEvent(tenant="b", job_id=b.id, kind=EventKind.STAGE, attempt=0, data={}, created_at=tx.now)
        )  # fmt: skip
        with tx.as_tenant("a") as own:
            own.session.flush()
    with db.reading() as tx:
        assert len(rows(tx, select(JobEvent).where(JobEvent.job_id == b.id))) == 2


def test_a_failed_statement_in_the_name_of_a_tenant_keeps_its_error(db: Database) -> None:
    with db.of_tenant("b").transaction() as tx:
        tx.session.add(_upload("u", "b"))
    with pytest.raises(IntegrityError), db.transaction() as tx, tx.as_tenant("a") as own:
        own.session.add(_upload("u", "a"))
        own.session.flush()


def test_a_queue_position_counts_the_jobs_of_all_tenants(db: Database, steps: Steps, clock: FakeClock) -> None:
    steps.submit(tenant="a")
    clock.advance(1)
    mine = steps.submit(tenant="b")
    with db.of_tenant("b").reading() as tx:
        assert queue_position(tx, get_job(tx, mine.id)) == 2
        assert rows(tx, select(Job.tenant)) == ["b"]


@pytest.mark.parametrize("name", ["", "*", "x" * 65])
def test_a_name_that_no_tenant_can_have_is_refused(db: Database, name: str) -> None:
    with pytest.raises(ValueError, match="a tenant has 1 to 64 characters"):
        db.of_tenant(name)


def test_the_statements_of_all_tenants_are_compiled_once(db: Database, both: Both) -> None:
    del both
    hits: list[str] = []

    def note(_c: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        if context.compiled is not None:
            hits.append(context.cache_hit.name)

    def read(tenant: str) -> None:
        with db.of_tenant(tenant).reading() as tx:
            tx.session.get(Job, "j")
            rows(tx, select(Job.id).where(Job.state == State.QUEUED))
            tx.session.execute(update(Job).where(Job.id == "j").values(step=1))
            tx.session.rollback()

    read("a")
    event.listen(db.engine, "before_cursor_execute", note)
    read("b")
    event.remove(db.engine, "before_cursor_execute", note)
    assert set(hits) == {"CACHE_HIT"}
    assert len(hits) >= 3
