"""The circuit breaker, and that results of dispatch open it, not the time that a call took."""

from __future__ import annotations

import pytest

from api.circuit_breaker import OPEN_S, CircuitBreaker
from api.context import EXTENSION, AppContext
from jobs.service.scheduling.dispatch import DispatchResult
from tests.unit.api.conftest import Harness, MonotonicClock


def test_the_breaker_is_open_for_a_while_after_a_failure() -> None:
    clock = MonotonicClock()
    breaker = CircuitBreaker(clock)
    assert not breaker.is_open
    breaker.record_failure()
    clock.advance(OPEN_S - 0.1)
    assert breaker.is_open
    clock.advance(0.1)
    assert not breaker.is_open


@pytest.mark.parametrize(
    ("result", "opens"),
    [(DispatchResult(1), False), (DispatchResult(broker_ok=False), True), (DispatchResult(lock_busy=True), False)],
)
def test_only_a_broker_that_refused_opens_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, result: DispatchResult, opens: bool
) -> None:
    context: AppContext = harness.app.extensions[EXTENSION]

    def slow_dispatch(*_: object, **__: object) -> DispatchResult:
        harness.monotonic.advance(30)  # a loaded machine
        return result

    monkeypatch.setattr("api.context.dispatch", slow_dispatch)
    context.publish("tiny_16k")
    assert context.breaker.is_open is opens
