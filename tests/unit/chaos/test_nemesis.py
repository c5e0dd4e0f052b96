"""The nemesis injects every fault once a round, in an order drawn from its seed, and reports its own failure."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chaos.faults import Fault, Nemesis

TARGET: Any = None


def kill(target: Any, rng: random.Random) -> str:
    return "killed"


def freeze(target: Any, rng: random.Random) -> str:
    return "frozen"


def fail(target: Any, rng: random.Random) -> str:
    raise RuntimeError("no worker process")


def nemesis(monkeypatch: pytest.MonkeyPatch, *faults: Fault, log: list[str], rounds: int = 3) -> Nemesis:
    monkeypatch.setattr(Nemesis, "faults", lambda self: list(faults))
    return Nemesis(TARGET, seed=1, interval_s=0.0, log=log.append, rounds=rounds)


def test_every_round_injects_every_fault_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    run = nemesis(monkeypatch, kill, freeze, log=log)
    run.run()
    assert run.injected == {"kill": 3, "freeze": 3}
    assert len(log) == 6
    assert run.failure is None


def test_a_fault_that_cannot_be_injected_is_kept_as_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    run = nemesis(monkeypatch, fail, log=[])
    run.run()
    assert str(run.failure) == "no worker process"
    assert run.injected == {}


def test_a_stopped_nemesis_injects_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    run = nemesis(monkeypatch, kill, log=[], rounds=0)
    run.stop()
    run.run()
    assert run.injected == {}
