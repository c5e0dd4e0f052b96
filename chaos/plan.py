"""The parameters of a run: how many jobs, which faults, how long each lasts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chaos.faults.catalog import FAULTS, Fault, Group

READY_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Plan:
    """The parameters of a run; times in seconds.

    Attributes:
        production: PostgreSQL and S3; otherwise SQLite and a folder.
        workers: worker processes, divided over two supervisors with S3 access keys of their own.
        faults: those of this group; None: all.
        only: names of the faults to inject; empty: all of the group.
        starts_workers: also inject faults that start a worker process of their own.
        spread_s: the requests are submitted over this time.
        fault_interval_s: mean time between two batches of faults.
        together: how many faults happen at the same time.
        rounds: injects every fault so often; 0: until every request was answered.
        settle_s: after the last fault, the run is over when no job finishes for so long.
        outage_s: how long a part is away; the database at least until leases have expired.
        api_outage_s: how long the API is away; the Python client must outlive it.
        max_attempts: of a job.
    """

    jobs: int = 300
    seed: int = 1
    production: bool = True
    workers: int = 4
    group: Group | None = None
    only: tuple[str, ...] = ()
    starts_workers: bool = True
    spread_s: float = 240.0
    fault_interval_s: float = 5.0
    together: int = 1
    rounds: int = 0
    settle_s: float = 300.0
    lease_s: float = 6.0
    outage_s: float = 20.0
    api_outage_s: float = 20.0
    max_attempts: int = 3

    @property
    def heartbeat_s(self) -> float:
        return self.lease_s / 3

    def faults(self) -> list[Fault]:
        """Return the faults to inject, whether or not the parts allow them.

        Raises:
            ValueError: `only` has an unknown name.
        """
        unknown = set(self.only) - {fault.name for fault in FAULTS}
        if unknown:
            known = ", ".join(fault.name for fault in FAULTS)
            raise ValueError(f"there is no fault {', '.join(sorted(unknown))}; give some of {known}")
        if self.only:
            return [fault for fault in FAULTS if fault.name in self.only]
        chosen = [fault for fault in FAULTS if self.group is None or fault.group is self.group]
        return [fault for fault in chosen if self.starts_workers or not fault.starts_worker]

    def longest_s(self) -> float:
        """Return the seconds after which callers give up: longer than any run that goes on."""
        outages = len(self.faults()) * (self.outage_s + self.fault_interval_s) * max(self.rounds, 1)
        return READY_TIMEOUT_S + self.spread_s + self.settle_s + 2 * outages


# No job may fail because kills hit it often; any other fault costs no attempt, so that three are plenty.
LONG = Plan(
    jobs=1000,
    group=Group.INFRASTRUCTURE,
    spread_s=3600,
    fault_interval_s=20,
    rounds=1,
    settle_s=600,
    lease_s=12,
    outage_s=300,
    api_outage_s=60,
)
DEFAULT = Plan(max_attempts=20)
# Each fault once while a few jobs run: what CI has time for.
SHORT = Plan(
    jobs=12,
    workers=2,
    starts_workers=False,
    spread_s=10,
    fault_interval_s=0.4,
    rounds=1,
    settle_s=120,
    lease_s=3,
    outage_s=4,
    api_outage_s=4,
    max_attempts=20,
)
# A single attempt: what is spent on a fault shows as a failed job. Leases are long enough for a busy machine.
SHORT_INFRASTRUCTURE = replace(
    SHORT, group=Group.INFRASTRUCTURE, together=3, spread_s=20, lease_s=6, outage_s=4, api_outage_s=8, max_attempts=1
)
