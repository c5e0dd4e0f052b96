"""The nemesis injects every fault once a round, in an order drawn from its seed, and reports its own failure."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from chaos.faults.catalog import FAULTS, Fault, Group, Inject, Part
from chaos.nemesis import Nemesis, batches

TARGET: Any = None


def kill(target: Any, rng: random.Random) -> str:
    """Kill something."""
    return "killed"


def freeze(target: Any, rng: random.Random) -> str:
    """Freeze something."""
    return "frozen"


def fail(target: Any, rng: random.Random) -> str:
    """Fail."""
    raise RuntimeError("no worker process")


def fault(inject: Inject, *breaks: Part, needs: tuple[Part, ...] = ()) -> Fault:
    return Fault(inject, Group.CRASHES, frozenset(breaks), frozenset(needs))


def nemesis(*faults: Fault, log: list[str], rounds: int = 3, together: int = 1) -> Nemesis:
    return Nemesis(TARGET, faults, seed=1, interval_s=0.0, log=log.append, rounds=rounds, together=together)


@pytest.mark.parametrize("together", [1, 2])
def test_every_round_injects_every_fault_once(together: int) -> None:
    log: list[str] = []
    run = nemesis(fault(kill, Part.STORE), fault(freeze, Part.BROKER), log=log, together=together)
    run.run()
    assert run.injected == {"kill": 3, "freeze": 3}
    assert len(log) == 6
    assert run.failure is None


def test_a_fault_that_cannot_be_injected_is_kept_as_the_failure() -> None:
    run = nemesis(fault(fail), log=[])
    run.run()
    assert str(run.failure) == "no worker process"
    assert run.injected == {}


def test_a_stopped_nemesis_injects_nothing_more() -> None:
    run = nemesis(fault(kill), log=[], rounds=0)
    run.stop()
    run.run()
    assert run.injected == {}


def test_faults_of_one_batch_happen_at_the_same_time() -> None:
    meeting = threading.Barrier(2)

    def first(target: Any, rng: random.Random) -> str:
        meeting.wait(10)
        return ""

    def second(target: Any, rng: random.Random) -> str:
        meeting.wait(10)
        return ""

    run = nemesis(fault(first, Part.STORE), fault(second, Part.DATABASE), log=[], rounds=1, together=2)
    run.run()
    assert run.failure is None
    assert run.injected == {"first": 1, "second": 1}


def test_batches_never_break_a_part_twice_or_one_that_another_fault_needs() -> None:
    one, two, three = fault(kill, Part.STORE), fault(freeze, Part.STORE), fault(kill, Part.BROKER)
    watching = fault(freeze, Part.WORKERS, needs=(Part.STORE,))
    assert batches([one, two, three], 2) == [[one, three], [two]]
    assert batches([watching, one, three], 3) == [[watching, three], [one]]
    for batch in batches(FAULTS, 4):
        assert 1 <= len(batch) <= 4
        assert not any(a.disturbs(b) for a in batch for b in batch if a is not b)


def test_a_part_counts_as_broken_while_a_fault_of_it_happens_and_shortly_after() -> None:
    run = nemesis(fault(kill, Part.DATABASE), log=[], rounds=1)
    assert not run.was_broken(Part.DATABASE, since=0.0)
    run.run()
    assert run.was_broken(Part.DATABASE, since=0.0)
    assert not run.was_broken(Part.STORE, since=0.0)
    assert not run.was_broken(Part.DATABASE, since=float("inf"))
