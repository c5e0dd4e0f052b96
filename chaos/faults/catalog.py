"""The list of all faults: which group each belongs to, which parts it needs for itself, where it is possible."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chaos.faults import callers, hosts, processes, services
from chaos.faults.target import Target

Inject = Callable[[Target, random.Random], str]


class Group(StrEnum):
    """How a fault ends, and what it may cost."""

    CRASHES = "crashes"
    """A process dies and is restarted at once. The attempts of a killed or frozen worker process are lost and count."""
    INFRASTRUCTURE = "infrastructure"
    """A part is away, refuses or is full for long, or callers are odd. No attempt is spent on it, and no job fails."""


class Part(StrEnum):
    """What a fault acts on; two faults at the same time never share a part."""

    WORKERS = "workers"
    API = "api"
    CONTROL = "control"
    BROKER = "broker"
    DATABASE = "database"
    STORE = "store"
    DISK = "disk"


@dataclass(frozen=True)
class Fault:
    """A fault and what is needed to inject it.

    Attributes:
        breaks: the parts it acts on.
        needs: the parts that must work, so that its effect can be observed.
        starts_worker: it starts a worker process, which takes many seconds.
    """

    inject: Inject
    group: Group
    breaks: frozenset[Part]
    needs: frozenset[Part] = frozenset()
    starts_worker: bool = False

    @property
    def name(self) -> str:
        return self.inject.__name__

    @property
    def description(self) -> str:
        return str(self.inject.__doc__).split("\n")[0]

    def disturbs(self, other: Fault) -> bool:
        """Return whether the two must not happen at the same time."""
        return bool(self.breaks & (other.breaks | other.needs) or other.breaks & self.needs)


def _fault(inject: Inject, group: Group, *breaks: Part) -> Fault:
    return Fault(inject, group, frozenset(breaks))


def _host_fault(inject: Inject, *, starts_worker: bool = False) -> Fault:
    """Return a fault whose effect is read from `/v1/workers`."""
    needs = frozenset({Part.API, Part.DATABASE, Part.BROKER, Part.STORE, Part.DISK})
    return Fault(inject, Group.INFRASTRUCTURE, frozenset({Part.WORKERS}), needs, starts_worker)


FAULTS: Sequence[Fault] = (
    _fault(processes.kill_worker, Group.CRASHES, Part.WORKERS),
    _fault(processes.freeze_worker, Group.CRASHES, Part.WORKERS),
    _fault(processes.kill_supervisor, Group.CRASHES, Part.WORKERS),
    _fault(processes.kill_api, Group.CRASHES, Part.API),
    _fault(processes.kill_control, Group.CRASHES, Part.CONTROL),
    _fault(services.wipe_broker, Group.CRASHES, Part.BROKER),
    _fault(services.restart_broker, Group.CRASHES, Part.BROKER),
    _fault(services.restart_database, Group.CRASHES, Part.DATABASE),
    _fault(processes.restart_api, Group.INFRASTRUCTURE, Part.API),
    _fault(services.stop_broker, Group.INFRASTRUCTURE, Part.BROKER),
    _fault(services.freeze_broker, Group.INFRASTRUCTURE, Part.BROKER),
    _fault(services.stop_database, Group.INFRASTRUCTURE, Part.DATABASE),
    _fault(services.freeze_database, Group.INFRASTRUCTURE, Part.DATABASE),
    _fault(services.kill_store, Group.INFRASTRUCTURE, Part.STORE),
    _fault(services.refuse_store, Group.INFRASTRUCTURE, Part.STORE),
    _fault(services.freeze_store, Group.INFRASTRUCTURE, Part.STORE),
    _fault(services.break_store, Group.INFRASTRUCTURE, Part.STORE),
    _host_fault(hosts.revoke_credentials),
    _host_fault(hosts.refuse_clock),
    _host_fault(hosts.wrong_credentials, starts_worker=True),
    _host_fault(hosts.skew_clock, starts_worker=True),
    _fault(hosts.fill_disk, Group.INFRASTRUCTURE, Part.DISK),
    _fault(callers.byte_names, Group.INFRASTRUCTURE, Part.CONTROL),
    Fault(callers.slow_connections, Group.INFRASTRUCTURE, frozenset({Part.API}), frozenset({Part.DATABASE, Part.DISK})),
)


def why_impossible(fault: Fault, target: Target) -> str | None:
    """Return why a run cannot inject a fault, None when it can."""
    if Part.DATABASE in fault.breaks and target.postgres is None:
        return "SQLite is a file, not a server"
    if Part.STORE in fault.breaks | fault.needs and target.store is None:
        return "the store is a folder, not a server"
    if fault.inject is hosts.fill_disk and (target.disk is None or not target.disk.limited):
        return "no small file system (tmpfs) could be mounted; that needs root"
    if fault.inject is hosts.skew_clock and not hosts.has_compiler():
        return "there is no C compiler (Debian: apt-get install gcc libc6-dev) for the library that shifts a clock"
    return None
