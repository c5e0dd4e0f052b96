"""Which queues a worker consumes."""

from __future__ import annotations

from workers.consumer.queue_subscription import DEFAULT_LOAD_S, variants_to_consume

BOTH = ["small_16k", "large_44k"]


def consumed(
    loaded: list[str], elsewhere: list[str], waited_s: dict[str, float] | None = None, load_s: float | None = None
) -> set[str]:
    return variants_to_consume(
        BOTH, loaded=loaded, loaded_elsewhere=elsewhere, oldest_age_s=waited_s or {}, load_s=lambda variant: load_s
    )


def test_a_worker_consumes_the_queues_of_loaded_variants() -> None:
    assert consumed(["small_16k"], BOTH) == {"small_16k"}
    assert consumed(BOTH, BOTH) == set(BOTH)


def test_a_variant_that_no_worker_has_loaded_is_for_every_worker() -> None:
    assert consumed([], []) == set(BOTH)
    assert consumed(["small_16k"], ["small_16k"]) == set(BOTH)


def test_a_cold_variant_is_consumed_when_its_jobs_wait_longer_than_a_load() -> None:
    assert consumed(["small_16k"], BOTH, {"large_44k": DEFAULT_LOAD_S + 0.1}) == set(BOTH)
    assert consumed(["small_16k"], BOTH, {"large_44k": DEFAULT_LOAD_S - 0.1}) == {"small_16k"}
    assert consumed(["small_16k"], BOTH, {"large_44k": 8.0}, load_s=20.0) == {"small_16k"}
    assert consumed(["small_16k"], BOTH, {"large_44k": 21.0}, load_s=20.0) == set(BOTH)
