"""Requests a minute: counted for all processes together, and never at the cost of a request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from api.context import EXTENSION
from api.limits.request_rate import RequestRate
from jobs.api_keys.scope import KeyScope
from jobs.tenants.service import change_tenant
from tests.unit.api.conftest import Harness, MonotonicClock
from tests.unit.api.test_key_check import get, new_key


@dataclass
class FakeCounters:
    """Counters in memory; `down`: they do not answer."""

    counts: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    down: bool = False

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        self.calls += 1
        if self.down:
            raise ConnectionError("switched off by the test")
        self.counts[key] += amount
        return self.counts[key]


@pytest.fixture
def counters() -> FakeCounters:
    return FakeCounters()


def rate(counters: FakeCounters, clock: MonotonicClock) -> RequestRate:
    return RequestRate(lambda: counters, now=clock, monotonic=clock)


def allowed(one: RequestRate, limit: int, times: int) -> int:
    standings = [one.count("tenant:a", limit) for _ in range(times)]
    return sum(standing is None or standing.allowed for standing in standings)


def test_a_limit_holds_to_the_request_and_a_new_minute_begins_again(counters: FakeCounters) -> None:
    clock = MonotonicClock()
    one = rate(counters, clock)
    assert allowed(one, 5, 9) == 5
    clock.advance(60)
    assert allowed(one, 5, 9) == 5


def test_two_processes_share_a_limit(counters: FakeCounters) -> None:
    clock = MonotonicClock()
    one, other = rate(counters, clock), rate(counters, clock)
    total = sum(allowed(one, 50, 1) + allowed(other, 50, 1) for _ in range(50))
    assert total == 50


def test_far_from_a_limit_most_requests_are_counted_without_a_call(counters: FakeCounters) -> None:
    clock = MonotonicClock()
    one = rate(counters, clock)
    assert allowed(one, 10_000, 10_001) == 10_000
    assert counters.calls < 1000


def test_refused_requests_cost_no_call(counters: FakeCounters) -> None:
    one = rate(counters, MonotonicClock())
    allowed(one, 2, 3)
    calls = counters.calls
    allowed(one, 2, 100)
    assert counters.calls == calls


def test_a_standing_tells_what_is_left_and_when_the_count_begins_again(counters: FakeCounters) -> None:
    clock = MonotonicClock(45.0)
    standing = rate(counters, clock).count("tenant:a", 3)
    assert standing is not None
    assert (standing.limit, standing.remaining, standing.reset_s) == (3, 2, 15)


def test_nothing_is_refused_while_the_counters_are_away_and_they_are_left_alone(
    counters: FakeCounters, caplog: pytest.LogCaptureFixture
) -> None:
    clock = MonotonicClock()
    one = rate(counters, clock)
    counters.down = True
    assert allowed(one, 1, 100) == 100
    assert counters.calls == 1
    assert caplog.text.count("requests are not counted") == 1
    counters.down = False
    clock.advance(6)
    assert allowed(one, 1, 5) == 1


def count_in_memory(harness: Harness, counters: FakeCounters) -> None:
    ctx = harness.app.extensions[EXTENSION]
    ctx.request_rate = rate(counters, MonotonicClock())


def test_beyond_the_limit_of_a_tenant_the_answer_is_429_with_its_headers(
    harness: Harness, counters: FakeCounters
) -> None:
    with harness.db.of_platform().transaction() as tx:
        change_tenant(tx, "studio", {"requests_per_minute": 3}, actor="test")
    count_in_memory(harness, counters)
    first, second = (f"Bearer {new_key(harness, KeyScope.JOBS_READ, tenant='studio')}" for _ in range(2))
    answers = [get(harness.client, key) for key in (first, second, first, second)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[3]
    assert (refused.json or {})["code"] == "too_many_requests"
    assert refused.headers["Retry-After"] == refused.headers["RateLimit-Reset"] == "60"
    assert refused.headers["RateLimit-Limit"] == "3"
    assert refused.headers["RateLimit-Policy"] == "3;w=60"
    other = get(harness.client, f"Bearer {new_key(harness, tenant='other')}")
    assert other.status_code == 200
    assert "RateLimit-Limit" not in other.headers


def test_the_limit_of_a_key_is_its_own(harness: Harness, counters: FakeCounters) -> None:
    with harness.db.of_platform().transaction() as tx:
        change_tenant(tx, "studio", {"key_requests_per_minute": 1}, actor="test")
    count_in_memory(harness, counters)
    first, second = (f"Bearer {new_key(harness, KeyScope.JOBS_READ, tenant='studio')}" for _ in range(2))
    assert [get(harness.client, key).status_code for key in (first, first, second)] == [200, 429, 200]


def test_a_wrong_key_counts_for_nobody(harness: Harness, counters: FakeCounters) -> None:
    with harness.db.of_platform().transaction() as tx:
        change_tenant(tx, "default", {"requests_per_minute": 1}, actor="test")
    count_in_memory(harness, counters)
    for _ in range(5):
        assert get(harness.client, "Bearer mma_" + "A" * 43).status_code == 401
    assert get(harness.client, None).status_code == 200
