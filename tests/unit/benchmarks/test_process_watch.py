"""The growth of memory that the soak test reports."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.process_watch import MIB, ResourceUsage


def usage(*, leak_mib_per_minute: float, minutes: float = 10.0) -> ResourceUsage:
    """Return samples of a worker whose jobs use up to 300 MiB, more towards the end, and which is idle now and then."""
    rng = np.random.default_rng(7)
    at_s = np.arange(0, 60 * minutes, 2.0)
    job_memory = rng.uniform(0, 1, len(at_s)) * (150 + 15 * at_s / 60) * (rng.uniform(0, 1, len(at_s)) > 0.2)
    rss = (900 + leak_mib_per_minute * at_s / 60 + job_memory) * MIB
    return ResourceUsage("worker", list(at_s), [int(one) for one in rss])


@pytest.mark.parametrize("leak", [0.0, 1.5, 10.0])
def test_a_leak_is_distinguished_from_the_memory_of_jobs(leak: float) -> None:
    growth = usage(leak_mib_per_minute=leak).growth(150)

    assert growth is not None
    assert growth.floor == pytest.approx(leak, abs=0.3)
    assert growth.all > leak + 3


def test_a_short_lived_process_has_no_growth() -> None:
    assert usage(leak_mib_per_minute=1, minutes=4).growth(150) is None
