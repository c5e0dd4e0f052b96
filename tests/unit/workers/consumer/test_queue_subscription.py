"""Whose jobs a worker takes."""

from __future__ import annotations

from workers.consumer.queue_subscription import DEFAULT_LOAD_S, variants_to_consume

BOTH = ["small_16k", "large_44k"]


def take(
    loaded: list[str], others: list[str], waited_s: dict[str, float] | None = None, load_s: float | None = None
) -> set[str]:
    return variants_to_consume(
        BOTH, loaded=loaded, loaded_elsewhere=others, oldest_age_s=waited_s or {}, load_s=lambda variant: load_s
    )


def test_a_worker_takes_what_it_holds() -> None:
    assert take(["small_16k"], BOTH) == {"small_16k"}
    assert take(BOTH, BOTH) == set(BOTH)


def test_what_nobody_holds_is_for_everybody() -> None:
    assert take([], []) == set(BOTH)
    assert take(["small_16k"], ["small_16k"]) == set(BOTH)


def test_a_cold_variant_is_taken_when_its_jobs_wait_longer_than_a_warm_up() -> None:
    assert take(["small_16k"], BOTH, {"large_44k": DEFAULT_LOAD_S + 0.1}) == set(BOTH)
    assert take(["small_16k"], BOTH, {"large_44k": DEFAULT_LOAD_S - 0.1}) == {"small_16k"}
    assert take(["small_16k"], BOTH, {"large_44k": 8.0}, load_s=20.0) == {"small_16k"}
    assert take(["small_16k"], BOTH, {"large_44k": 21.0}, load_s=20.0) == set(BOTH)
