"""Every domain function that takes a transaction: bound to nothing it raises, for another tenant there is nothing.

The functions are found, not listed: a new one is called with the ids of another tenant's rows, by the names of its
parameters. Nothing is committed.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import NoResultFound

import jobs
from jobs.db.base import Base, TenantOwned
from jobs.db.database import Database
from jobs.db.tables import Trigger, Worker
from jobs.db.tenant_scope import ForeignRowError, TenantUnboundError
from jobs.errors import DomainError
from jobs.service.lease_judgement import LeaseJudgement
from jobs.service.scheduling.fairness import FairOrder
from jobs.service.scheduling.queue_positions import QueueSnapshot
from jobs.triggers.recording import DecisionRecorder, RateBreaker
from jobs.webhooks.errors import SubjectGoneError
from tests.contract.domain.owners_world import OTHER, OWNER, POLICY, World, owners_rows, world_in
from tests.databases import migrated_postgres, migrated_sqlite

NO_STATEMENT = {
    "queries.other_conditions": "makes conditions, and runs nothing",
    "lease_judgement.LeaseJudgement.begin_round": "notes the time",
    "lease_judgement.LeaseJudgement.may_judge": "compares times",
    "webhooks.bodies.trial_body": "makes a document of a given row",
    "webhooks.fan_out.message_of": "makes a message of a given row; only one of a batch asks",
    "webhooks.outbox.delivery_row": "makes columns of a given row",
}
"""Functions that read only the transaction's time or kind of database, or rows that they are given."""
PLATFORM_ONLY = {
    "queries": {"list_workers", "running_jobs"},
    "attempts": {
        "claim", "decline", "record_resolved_request", "complete", "acknowledge_cancel", "fail", "release", "give_back",
        "rescue_expired", "fail_overdue",
    },
    "running_attempts": {"renew_leases", "cancel_requests", "record_progress"},
    "audit": {"begin_audited", "end_audited", "audit_events", "list_audit"},
    "api_keys.service": {
        "create_key", "list_keys", "get_key", "revoke_key", "rotate_key", "has_admin_key", "note_use",
    },
    "tenants.service": {"known_tenants", "change_tenant", "restore_defaults"},
    "leader_election": {"lead", "last_lead_at", "resign"},
    "workers": {
        "register_worker", "record_heartbeat", "request_drain", "mark_worker_stopped", "capacities",
        "mark_lost_workers", "prune_workers", "variants_loaded_elsewhere", "oldest_enqueued_age_s",
    },
    "variant_availability": {"served_variants", "offered_variants", "current_policy"},
    "scheduling.queue_counters": {"queued_by_lane", "queued_by_variant", "prune_empty_lanes"},
    "scheduling.queue_positions": {"before_in_lane", "QueueSnapshot.read", "QueueSnapshot.read_lane"},
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
    "submission.SubmitPolicy.of_tenant": "tells what is set for the caller",
    "submission.job_values": "makes columns of a job of the caller",
    "tenants.rules.rules_of": "tells what is set for the caller",
    "presets.put_preset": "stores a preset of the caller",
    "webhooks.endpoints.create_endpoint": "creates an endpoint of the caller",
    "webhooks.tenant_secret.tenant_secret": "makes a secret of the caller",
    "webhooks.tenant_secret.rotate_tenant_secret": "makes a secret of the caller",
    "event_log.last_position": "tells a number that is nobody's",
    "webhooks.job_url.body_kind_of": "tells the default, as for a job without a URL",
    "job_pages.list_jobs": "lists the caller's jobs",
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
            if parameter.name in {"self", "tx", "_tx"} or parameter.kind in {
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            }:
                continue
            if key not in values and parameter.name not in values and parameter.default is not parameter.empty:
                continue
            value = values[key] if key in values else values.get(parameter.name.lstrip("_"), _MISSING)
            if value is _MISSING:
                value = _plain_value(self.name, parameter)
            if isinstance(value, Base):  # a row that no session has, fresh for each call
                value = type(value)(**{one.key: getattr(value, one.key) for one in value.__mapper__.columns})
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                positional.append(value)
        return positional, named


_MISSING = object()


def _plain_value(function: str, parameter: inspect.Parameter) -> Any:
    """Return any value of a plain type."""
    kind = str(parameter.annotation)
    if kind.endswith("| None"):
        return None
    for names, value in (("str", "x"), ("int", 1), ("float", 1.0), ("bool", False)):
        if kind == names:
            return value
    if kind.startswith(("list", "tuple", "Sequence", "Iterable", "Collection")):
        return []
    if kind.startswith(("dict", "Mapping")):
        return {}
    return f"give a value for {parameter.name!r} of {function} in owners_world: {parameter}"


def _functions() -> Iterator[Function]:
    for package in (jobs,):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            short = found.name.removeprefix("jobs.").removeprefix("service.")
            for name, one in vars(module).items():
                if name.startswith("_") or getattr(one, "__module__", None) != module.__name__:
                    continue
                if inspect.isfunction(one) and _takes_transaction(one):
                    yield Function(f"{short}.{name}", one)
                if inspect.isclass(one):
                    yield from _methods(f"{short}.{name}", one)


def _methods(name: str, of_class: type) -> Iterator[Function]:
    for method_name, method in vars(of_class).items():
        if method_name.startswith("_"):
            continue
        if isinstance(method, classmethod | staticmethod):
            method = getattr(of_class, method_name)
            if _takes_transaction(method):
                yield Function(f"{name}.{method_name}", method)
        elif inspect.isfunction(method) and _takes_transaction(method):
            yield Function(f"{name}.{method_name}", method, of_class.__name__)


def _takes_transaction(function: Callable[..., Any]) -> bool:
    return any(str(one.annotation) == "Transaction" for one in inspect.signature(function).parameters.values())


FUNCTIONS = {one.name: one for one in _functions()}
PLATFORM_ONLY_NAMES = {f"{module}.{name}" for module, names in PLATFORM_ONLY.items() for name in names}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    if request.param == "sqlite":
        yield from world_in(migrated_sqlite(folder / "mmaudio.db"), folder)
    else:
        with migrated_postgres(request.getfixturevalue("postgres_uri")) as url:
            yield from world_in(url, folder)


class _RollBackError(Exception):
    """Raised to commit nothing."""


def call(world: World, db: Database, function: Function) -> Any:
    """Call a function in a transaction that is not committed; return what it returned."""
    made: list[Any] = []
    positional, named = function.arguments(world.values)
    try:
        with db.transaction() as tx:
            call_it = function.call if function.of_class is None else _method(function, world)
            answer = call_it(tx, *positional, **named)
            tx.session.flush()
            made.append(_plain(answer))
            for step in tx.before_commit:
                step()
            if tx.scope.tenant == OTHER:
                with tx.over_all_tenants() as everything:
                    assert owners_rows(everything) == world.before, f"{function.name} changed another tenant's rows"
            raise _RollBackError
    except _RollBackError:
        return made[0]


def _method(function: Function, world: World) -> Callable[..., Any]:
    now = world.values["received_at"]
    breaker = RateBreaker(1)
    made: dict[str, Any] = {
        "LeaseJudgement": LeaseJudgement(12),
        "RateBreaker": breaker,
        "SubmitPolicy": POLICY,
        "QueueSnapshot": QueueSnapshot([], Counter(), FairOrder(0.0, 0), {}, [], Counter()),
        "DecisionRecorder": DecisionRecorder(POLICY, breaker, 0, now, now),
    }
    assert function.of_class in made, f"make a {function.of_class} here"
    method: Callable[..., Any] = function.call.__get__(made[function.of_class])
    return method


def _plain(value: Any) -> Any:
    """Return rows and data classes as their values, while the transaction lasts."""
    if isinstance(value, Base):
        return {column.key: getattr(value, column.key) for column in value.__mapper__.columns}
    if is_dataclass(value):
        return [_plain(getattr(value, one.name)) for one in fields(value)]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def is_nothing(value: Any) -> bool:
    """Return whether a plain answer holds nothing: None, zero, no rows."""
    if isinstance(value, dict):
        return all(is_nothing(one) for one in value.values())
    return all(is_nothing(one) for one in value) if isinstance(value, list) else not value


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


def answer_of(world: World, db: Database, name: str) -> Any:
    """Return what a function returned, or the error that says that there is nothing."""
    try:
        return call(world, db, FUNCTIONS[name])
    except (DomainError, NoResultFound, ForeignRowError, SubjectGoneError) as exc:
        return exc


@pytest.mark.parametrize("name", FUNCTIONS)
def test_for_another_tenant_there_is_nothing(world: World, name: str) -> None:
    other = world.db.of_tenant(OTHER)
    if name in PLATFORM_ONLY_NAMES:
        with pytest.raises(TenantUnboundError):
            call(world, other, FUNCTIONS[name])
        return
    answer = answer_of(world, other, name)
    if isinstance(answer, DomainError):
        assert type(answer).__name__.endswith("NotFoundError"), repr(answer)
    elif name in OWN_THINGS:
        assert not any(secret in repr(answer) for secret in world.secrets)
    elif name not in NO_STATEMENT and not isinstance(answer, Exception):
        assert is_nothing(answer), f"{name} returned {answer!r}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_for_who_may_call_it_there_is_something(world: World, name: str) -> None:
    """Without this the tests above would pass for arguments that nobody finds anything with."""
    db = world.db.of_platform() if name in PLATFORM_ONLY_NAMES else world.db.of_tenant(OWNER)
    answer = answer_of(world, db, name)
    assert not isinstance(answer, ForeignRowError | NoResultFound), repr(answer)
    assert not type(answer).__name__.endswith("NotFoundError"), repr(answer)


def test_every_table_with_a_tenant_is_tenant_owned_or_the_platforms() -> None:
    """A table that is in neither list is closed to tenants."""
    of_platform = {"tenant_virtual_times", "api_keys"}  # a key is looked up before its tenant is known
    with_tenant = {
        str(mapper.local_table.name): mapper.class_
        for mapper in Base.registry.mappers
        if "tenant" in mapper.local_table.columns
    }
    not_owned = {name for name, kind in with_tenant.items() if not issubclass(kind, TenantOwned)}
    assert not_owned == of_platform
    assert {"jobs", "job_events", "job_attempts", "artifacts", "uploads", "triggers"} <= set(with_tenant) - not_owned
    assert not issubclass(Worker, TenantOwned)
    assert issubclass(Trigger, TenantOwned)
    for kind in with_tenant.values():
        assert kind.__table__.c.tenant.nullable is False, kind


def test_only_queue_positions_and_the_audit_are_over_all_tenants_in_a_tenants_transaction() -> None:
    allowed = {"jobs/db/database.py", "jobs/service/audit.py", "jobs/service/scheduling/queue_stats.py"}
    root = Path(jobs.service.__path__[0]).parents[1]
    packages = ("jobs", "api", "workers", "migrations")
    users = {
        str(path.relative_to(root))
        for package in packages
        for path in (root / package).rglob("*.py")
        if "over_all_tenants" in path.read_text()
    }
    assert users == allowed
