"""The soak of `benchmarks/soak.py`, so short that memory shows nothing: that it runs, and finds no fault."""

from __future__ import annotations

import pytest

from benchmarks.soak import soak


@pytest.mark.timeout(900)
def test_random_work_with_workers_that_are_killed_leaves_nothing_wrong() -> None:
    found = soak(minutes=0.4, restart_s=6, seed=1)

    assert found.faults == []
    assert found.restarts.total() >= 1
    assert found.states["succeeded"] >= 1
    assert found.samples
