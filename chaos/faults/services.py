"""Faults of the broker, the database and the object store."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from chaos.faults.target import Target
from chaos.services import Postgres
from local_services.faulty_http import FaultyProxy

STORE_FAULT_RATE = 0.2


def wipe_broker(target: Target, rng: random.Random) -> str:
    """FLUSHALL: every message is gone."""
    target.valkey.wipe()
    return "FLUSHALL"


def restart_broker(target: Target, rng: random.Random) -> str:
    """SIGKILL and a restart within seconds."""
    return _stop_broker(target, rng.uniform(0.2, 3.0))


def stop_broker(target: Target, rng: random.Random) -> str:
    """SIGKILL; away for the outage time."""
    return _stop_broker(target, target.outage_s)


def freeze_broker(target: Target, rng: random.Random) -> str:
    """SIGSTOP for the outage time: connections stay open without an answer, as with a half-open socket."""
    target.valkey.signal(signal.SIGSTOP)
    try:
        time.sleep(target.outage_s)
    finally:
        target.valkey.signal(signal.SIGCONT)
    return f"no answer for {target.outage_s:g} s"


def restart_database(target: Target, rng: random.Random) -> str:
    """Restart within seconds, `fast` or `immediate` (a crash)."""
    mode, downtime_s = rng.choice(["fast", "immediate"]), rng.uniform(0.0, 2.0)
    _postgres(target).restart(mode, downtime_s)
    return f"{mode} stop, down for {downtime_s:.1f} s"


def stop_database(target: Target, rng: random.Random) -> str:
    """A crash; refuses connections for the outage time."""
    seconds = _past_leases_s(target)
    _postgres(target).restart("immediate", seconds)
    return f"immediate stop, down for {seconds:g} s"


def freeze_database(target: Target, rng: random.Random) -> str:
    """SIGSTOP of every PostgreSQL process for the outage time: queries and new connections hang."""
    seconds = _past_leases_s(target)
    with _postgres(target).frozen():
        time.sleep(seconds)
    return f"no answer for {seconds:g} s"


def kill_store(target: Target, rng: random.Random) -> str:
    """Every connection breaks, new ones are refused, for the outage time; the content stays."""
    return _away(target, _store(target).kill, "killed")


def refuse_store(target: Target, rng: random.Random) -> str:
    """New connections are refused for the outage time; running requests are answered."""
    return _away(target, _store(target).refuse, "refused connections")


def freeze_store(target: Target, rng: random.Random) -> str:
    """Connections are accepted and not answered for the outage time; then late requests are carried out."""
    return _away(target, _store(target).freeze, "no answer")


def break_store(target: Target, rng: random.Random) -> str:
    """A share of the requests fails: 500, 503, late, broken off before or after it was carried out, cut off."""
    schedule = _store(target).schedule
    schedule.rate = STORE_FAULT_RATE
    try:
        time.sleep(target.outage_s)
    finally:
        schedule.rate = 0.0
    return f"{STORE_FAULT_RATE:.0%} of requests for {target.outage_s:g} s"


def _away(target: Target, begin: Callable[[], None], what: str) -> str:
    begin()
    try:
        time.sleep(target.outage_s)
    finally:
        _store(target).restore()
    return f"{what} for {target.outage_s:g} s"


def _stop_broker(target: Target, downtime_s: float) -> str:
    target.valkey.kill()
    time.sleep(downtime_s)
    target.valkey.start()
    return f"killed, restarted after {downtime_s:.1f} s"


def _past_leases_s(target: Target) -> float:
    """Return an outage in which every lease expires."""
    return max(target.outage_s, target.lease_s + 1)


def _postgres(target: Target) -> Postgres:
    assert target.postgres is not None
    return target.postgres


def _store(target: Target) -> FaultyProxy:
    assert target.store is not None
    return target.store
