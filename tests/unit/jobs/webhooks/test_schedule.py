"""When deliveries are tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobs.webhooks.schedule import MAX_TRIES, TRY_OFFSETS_S, next_try_at, parse_retry_after

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(tries: int, *, passed_s: float, rng: float = 0.0, retry_after_s: float | None = None) -> float | None:
    """Return how many seconds after the first try the next one is."""
    now = NOW + timedelta(seconds=passed_s)
    at = next_try_at(tries, first_tried_at=NOW, now=now, rng=lambda: rng, retry_after_s=retry_after_s)
    return None if at is None else (at - NOW).total_seconds()


def test_the_times_are_those_of_standard_webhooks() -> None:
    hours = [0, 5 / 3600, 5 / 60, 0.5, 2, 5, 10, 14, 20, 24]
    assert [offset / 3600 for offset in TRY_OFFSETS_S] == pytest.approx(hours)
    times = [after(tries, passed_s=TRY_OFFSETS_S[tries - 1]) for tries in range(1, MAX_TRIES)]
    assert times == list(TRY_OFFSETS_S[1:])


def test_after_the_last_try_there_is_none() -> None:
    assert after(MAX_TRIES, passed_s=86_400) is None


@pytest.mark.parametrize("tries", range(1, MAX_TRIES))
def test_jitter_adds_up_to_a_tenth_of_the_pause(tries: int) -> None:
    pause = TRY_OFFSETS_S[tries] - TRY_OFFSETS_S[tries - 1]
    earliest = after(tries, passed_s=TRY_OFFSETS_S[tries - 1])
    latest = after(tries, passed_s=TRY_OFFSETS_S[tries - 1], rng=1.0)
    assert earliest is not None
    assert latest == pytest.approx(earliest + 0.1 * pause)


def test_times_that_passed_while_the_platform_was_away_are_not_made_up_for_at_once() -> None:
    assert after(2, passed_s=86_400 * 3) == 86_400 * 3 + (300 - 5) / 2


def test_retry_after_can_only_lengthen_a_pause() -> None:
    assert after(1, passed_s=0, retry_after_s=60) == 60
    assert after(3, passed_s=300, retry_after_s=60) == 1800
    assert after(1, passed_s=0, retry_after_s=10**9) == 86_400


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("9" * 400, 86_400),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Thu, 01 Jan 2026 12:01:00 -0000", 60),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == seconds
