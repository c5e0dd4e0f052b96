"""Every domain function that takes a transaction: bound to nothing it raises, for another tenant there is nothing.

The functions are found, not listed: a new one is called with the ids of another tenant's rows, by the names of its
parameters. Nothing is committed.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import NoResultFound

import jobs.service
import jobs.triggers
from jobs.db.base import Base, TenantOwned
from jobs.db.database import Database, Transaction
from jobs.db.tables import Artifact, Job, Trigger, Worker
from jobs.db.tenant_scope import ForeignRowError, TenantUnboundError
from jobs.errors import (
    ArtifactNotFoundError,
    Failure,
    JobNotFoundError,
    TriggerNotFoundError,
    UploadNotFoundError,
)
from jobs.lifecycle import ArtifactKind, EventKind, Stage, State, WorkerState
from jobs.request import JobRequest
from jobs.service import attempts, cancellation, submission, uploads
from jobs.service.attempts import Claim, NewArtifact
from jobs.service.audit import begin_audited
from jobs.service.lease_judgement import LeaseJudgement
from jobs.service.queries import JobFilter
from jobs.service.running_attempts import Progress
from jobs.service.scheduling.queue_counters import Lane
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.submission import SubmitPolicy
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.bucket_reader import BucketObject
from jobs.triggers.decision import Action, Decision
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.recording import DecisionRecorder, RateBreaker
from jobs.triggers.rule import NewTrigger
from jobs.triggers.service import create_trigger
from tests.databases import migrated_postgres, migrated_sqlite

POLICY = SubmitPolicy(variants=("tiny_16k",), draw_seed=lambda: 7)
OWNER, OTHER = "owner", "other"

NO_STATEMENT = {
    "queries.other_conditions": "makes conditions, and runs nothing",
    "lease_judgement.LeaseJudgement.begin_round": "notes the time",
    "lease_judgement.LeaseJudgement.may_judge": "compares times",
}
"""Functions that read only the transaction's time or kind of database: they need no binding."""
PLATFORM_ONLY = {
    "queries": {"list_workers", "running_jobs"},
    "attempts": {
        "claim", "decline", "record_resolved_request", "complete", "acknowledge_cancel", "fail", "release", "give_back",
        "rescue_expired", "fail_overdue",
    },
    "running_attempts": {"renew_leases", "cancel_requests", "record_progress"},
    "audit": {"begin_audited", "end_audited", "audit_events"},
    "leader_election": {"lead", "last_lead_at", "resign"},
    "workers": {
        "register_worker", "record_heartbeat", "request_drain", "mark_worker_stopped", "capacities",
        "mark_lost_workers", "prune_workers", "variants_loaded_elsewhere", "oldest_enqueued_age_s",
    },
    "variant_availability": {"served_variants", "offered_variants", "current_policy"},
    "scheduling.queue_counters": {"queued_by_lane", "queued_by_variant", "prune_empty_lanes"},
    "scheduling.queue_stats": {"queue_stats"},
    "scheduling.quotas": {
        "pause", "resume", "is_paused", "paused_variants", "set_quota", "clear_quota", "tenant_quotas",
    },
    "scheduling.selection": {
        "acquire_dispatch_lock", "end_retry_backoffs", "select_next_jobs", "lane_heads", "tenant_virtual_times",
        "occupied_slots",
    },
}  # fmt: skip
"""What workers, maintenance and operators do for all tenants: a transaction of a tenant cannot."""
OWN_THINGS = {
    "submission.submit": "queues a job of the caller",
    "submission.check_request": "checks a request of the caller",
    "submission.check_backlog": "counts the caller's jobs",
    "uploads.announce_upload": "announces an upload of the caller",
    "triggers.service.create_trigger": "creates a trigger of the caller",
    "queries.list_jobs": "lists the caller's jobs",
    "triggers.service.list_triggers": "lists the caller's triggers",
}
"""Functions that are given no row: what they return is the caller's own."""


@dataclass(frozen=True)
class Function:
    name: str
    call: Callable[..., Any]
    of_class: str | None = None

    def arguments(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return values for the parameters after the transaction, by their names; defaults stay as they are."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for parameter in inspect.signature(self.call).parameters.values():
            key = f"{self.name}.{parameter.name}"
            if parameter.name in {"self", "tx"} or parameter.kind in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
                continue
            if key not in values and parameter.name not in values:
                if parameter.default is not parameter.empty:
                    continue
                raise AssertionError(f"give a value for {parameter.name!r} of {self.name} in `values`: {parameter}")
            value = values.get(key, values.get(parameter.name))
            if isinstance(value, Base):  # a row that no session has, fresh for each call
                value = type(value)(**{one.key: getattr(value, one.key) for one in value.__mapper__.columns})
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                positional.append(value)
        return positional, named


def _functions() -> Iterator[Function]:
    for package in (jobs.service, jobs.triggers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            short = found.name.removeprefix("jobs.").removeprefix("service.")
            for name, one in vars(module).items():
                if name.startswith("_") or getattr(one, "__module__", None) != module.__name__:
                    continue
                if inspect.isfunction(one) and _takes_transaction(one):
                    yield Function(f"{short}.{name}", one)
                if inspect.isclass(one):
                    for method_name, method in vars(one).items():
                        if (
                            not method_name.startswith("_")
                            and inspect.isfunction(method)
                            and _takes_transaction(method)
                        ):
                            yield Function(f"{short}.{name}.{method_name}", method, name)


def _takes_transaction(function: Callable[..., Any]) -> bool:
    return any(str(one.annotation) == "Transaction" for one in inspect.signature(function).parameters.values())


FUNCTIONS = {one.name: one for one in _functions()}
PLATFORM_ONLY_NAMES = {f"{module}.{name}" for module, names in PLATFORM_ONLY.items() for name in names}


@dataclass(frozen=True)
class World:
    """A database with rows of one tenant, and what names them."""

    db: Database
    values: dict[str, Any]
    secrets: tuple[str, ...]
    """Ids of the owner's rows."""
    before: list[str]
    """All rows of the owner."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    if request.param == "sqlite":
        yield from _world(migrated_sqlite(folder / "mmaudio.db"), folder)
    else:
        with migrated_postgres(request.getfixturevalue("postgres_uri")) as url:
            yield from _world(url, folder)


def _world(url: str, folder: Path) -> Iterator[World]:
    db = Database(url)
    platform, own = db.of_platform(), db.of_tenant(OWNER)
    with platform.transaction() as tx:
        register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu", slots=4, variants=["tiny_16k"])

    def submitted() -> str:
        with own.transaction() as tx:
            return submission.submit(tx, JobRequest(prompt="rain"), policy=POLICY).job.id

    def claimed() -> Claim:
        with platform.transaction() as tx:
            claim = attempts.claim(tx, submitted_ids.pop(), worker_id="w1", lease_s=60)
        assert claim is not None
        return claim

    submitted_ids = [submitted() for _ in range(3)]
    queued, done, running, canceling = submitted(), claimed(), claimed(), claimed()
    new = NewArtifact("audio.flac", ArtifactKind.AUDIO, "flac", "audio/flac", "k", 5, "0" * 64, 8.0, 0, 7)
    with platform.transaction() as tx:
        attempts.complete(tx, done, [new], warnings=[], timings={}, artifact_ttl_s=3600)
    with own.transaction() as tx:
        upload = uploads.announce_upload(
            tx, filename="f.mp4", content_type="video/mp4", size_bytes=1, sha256=None, ttl_s=3600
        )
        trigger = create_trigger(tx, NewTrigger(bucket="bucket"))
        cancellation.cancel(tx, canceling.job_id)
    with platform.transaction() as tx:
        audit_id = begin_audited(tx, actor="a", action="a", subject="s", detail={})
        now = tx.now
        job, ended = tx.session.get_one(Job, running.job_id), tx.session.get_one(Job, done.job_id)
        artifact = tx.session.get_one(Artifact, (done.job_id, "audio.flac"))
    found = BucketObject("v.mp4", "etag", None, 5, now, made_by_job=None)
    event = ObjectCreated("test", "bucket", ("v.mp4",))
    decision = Decision(Action.SKIP, event, "v.mp4", "version", found=found)
    progress = Progress(running.job_id, 1, Stage.SAMPLE, 0.5)
    values = {
        "job_id": running.job_id, "job": job, "job_ids": [done.job_id, running.job_id], "name": "audio.flac",
        "artifact": artifact, "claim": running, "worker_id": "w1", "lease_s": 60, "resolved": {"duration_s": 4.0},
        "artifacts": [], "warnings": [], "timings": {}, "artifact_ttl_s": 60, "failure": Failure("c", "m"),
        "actor": "a", "action": "a", "subject": "s", "detail": {}, "event_id": audit_id, "outcome": "fixed",
        "policy": POLICY, "role": "r", "holder": "h", "wanted": JobFilter(), "cursor": None, "limit": 10,
        "leased": [(running.job_id, 1)], "reports": [progress], "lane": Lane("tiny_16k", 1, OWNER), "change": 1,
        "variant": "tiny_16k", "up_to_priority": 2, "tenant": OWNER, "variants": ("tiny_16k",), "free_slots": 2,
        "request": JobRequest(prompt="rain"), "current": State.RUNNING, "following": State.CANCELED, "attempt": 1,
        "kind": EventKind.STAGE, "data": {}, "filename": "f", "content_type": "v", "size_bytes": 1, "sha256": None,
        "ttl_s": 60, "upload_id": upload.id, "settings": Settings(data_dir=folder), "hostname": "h", "pid": 1,
        "device": "cpu", "slots": 1, "state": WorkerState.READY, "variants_loaded": [], "memory_bytes": None,
        "heard_within_s": 60, "lost_after_s": 60, "kept_s": 60, "trigger_id": trigger.id, "trigger_ids": [trigger.id],
        "decision": decision, "trigger": trigger, "received_at": now, "rule": NewTrigger(bucket="mine"),
        "enabled": False, "since": now - timedelta(hours=1), "at_most": 10, "previous_round_at": None,
        "values": {"step": 1},
        "artifacts.get_artifact.job_id": done.job_id, "artifacts.mark_artifact_missing.job_id": done.job_id,
        "artifacts.unmark_artifact_missing.job_id": done.job_id, "attempts.claim.job_id": queued,
        "attempts.decline.job_id": queued, "cancellation.retry.job_id": done.job_id,
        "attempts.acknowledge_cancel.claim": canceling, "cancellation.submit_again.job": ended,
        "scheduling.selection.select_next_jobs.policy": DispatchPolicy(),
    }  # fmt: skip
    secrets = (queued, done.job_id, running.job_id, canceling.job_id, upload.id, trigger.id)
    with platform.reading() as tx:
        before = _owners_rows(tx)
    assert len(before) > 10
    yield World(db, values, secrets, before)
    db.close()


class _RollBackError(Exception):
    """Raised to commit nothing."""


def call(world: World, db: Database, function: Function) -> Any:
    """Call a function in a transaction that is not committed; return what it returned."""
    made: list[Any] = []
    positional, named = function.arguments(world.values)
    try:
        with db.transaction() as tx:
            call_it = function.call if function.of_class is None else _method(function, world)
            made.append(call_it(tx, *positional, **named))
            tx.session.flush()
            for step in tx.before_commit:
                step()
            if tx.scope.tenant == OTHER:
                with tx.over_all_tenants() as everything:
                    assert _owners_rows(everything) == world.before, f"{function.name} changed another tenant's rows"
            raise _RollBackError
    except _RollBackError:
        return made[0]


def _method(function: Function, world: World) -> Callable[..., Any]:
    now = world.values["received_at"]
    breaker = RateBreaker(1)
    made: dict[str, Any] = {
        "LeaseJudgement": LeaseJudgement(12),
        "RateBreaker": breaker,
        "DecisionRecorder": DecisionRecorder(POLICY, breaker, 0, now, now),
    }
    assert function.of_class in made, f"make a {function.of_class} here"
    method: Callable[..., Any] = function.call.__get__(made[function.of_class])
    return method


def _owners_rows(tx: Transaction) -> list[str]:
    found = []
    for mapper in Base.registry.mappers:
        if issubclass(mapper.class_, TenantOwned):
            table = mapper.local_table
            rows = tx.session.execute(select(table).where(table.c.tenant == OWNER))  # type: ignore[arg-type]
            found += sorted(f"{table} {tuple(row)}" for row in rows)
    return found


def is_nothing(value: Any) -> bool:
    """Return whether an answer holds nothing: None, zero, no rows."""
    if is_dataclass(value):
        return all(is_nothing(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, dict):
        return all(is_nothing(one) for one in value.values())
    return not value


def test_the_functions_are_found_and_the_lists_name_existing_ones() -> None:
    assert len(FUNCTIONS) > 60
    listed = {*NO_STATEMENT, *PLATFORM_ONLY_NAMES, *OWN_THINGS}
    assert listed <= set(FUNCTIONS), listed - set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bound_to_nothing_it_raises(world: World, name: str) -> None:
    if name in NO_STATEMENT:
        call(world, world.db, FUNCTIONS[name])
        return
    with pytest.raises(TenantUnboundError):
        call(world, world.db, FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_for_another_tenant_there_is_nothing(world: World, name: str) -> None:
    other = world.db.of_tenant(OTHER)
    if name in PLATFORM_ONLY_NAMES:
        with pytest.raises(TenantUnboundError):
            call(world, other, FUNCTIONS[name])
        return
    try:
        answer = call(world, other, FUNCTIONS[name])
    except (JobNotFoundError, UploadNotFoundError, TriggerNotFoundError, ArtifactNotFoundError):
        return
    except (NoResultFound, ForeignRowError):
        return
    if name in OWN_THINGS:
        assert not any(secret in repr(_plain(answer)) for secret in world.secrets)
    elif name not in NO_STATEMENT:
        assert is_nothing(answer), f"{name} returned {answer!r}"


def _plain(value: Any) -> Any:
    if isinstance(value, Base):
        return {column.key: getattr(value, column.key) for column in value.__mapper__.columns}
    if is_dataclass(value):
        return [_plain(getattr(value, one.name)) for one in fields(value)]
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", FUNCTIONS)
def test_for_who_may_call_it_there_is_something(world: World, name: str) -> None:
    """Without this the tests above would pass for arguments that nobody finds anything with."""
    db = world.db.of_platform() if name in PLATFORM_ONLY_NAMES else world.db.of_tenant(OWNER)
    call(world, db, FUNCTIONS[name])


def test_every_table_with_a_tenant_is_tenant_owned_or_holds_numbers_of_the_scheduler() -> None:
    """A table that is missing here is the platform's: closed to tenants, whatever it has in its columns."""
    numbers = {"queued_counts", "tenant_quotas", "tenant_virtual_times"}
    with_tenant = {
        str(mapper.local_table.name): mapper.class_
        for mapper in Base.registry.mappers
        if "tenant" in mapper.local_table.columns
    }
    not_owned = {name for name, kind in with_tenant.items() if not issubclass(kind, TenantOwned)}
    assert not_owned == numbers
    assert {"jobs", "job_events", "job_attempts", "artifacts", "uploads", "triggers"} <= set(with_tenant) - not_owned
    assert not issubclass(Worker, TenantOwned)
    assert issubclass(Trigger, TenantOwned)
    for kind in with_tenant.values():
        assert kind.__table__.c.tenant.nullable is False, kind


def test_only_the_scheduler_reads_over_all_tenants_in_a_tenants_transaction() -> None:
    allowed = {"jobs/db/database.py", "jobs/service/scheduling/queue_stats.py"}
    root = Path(jobs.service.__path__[0]).parents[1]
    packages = ("jobs", "api", "workers", "migrations")
    users = {
        str(path.relative_to(root))
        for package in packages
        for path in (root / package).rglob("*.py")
        if "over_all_tenants" in path.read_text()
    }
    assert users == allowed
