"""What the soak says of memory."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.process_watch import MIB, Course


def course(*, leak_mib_a_minute: float, minutes: float = 10.0) -> Course:
    """A worker that rests now and then, and has up to 300 MiB in work otherwise, more towards the end."""
    rng = np.random.default_rng(7)
    at_s = np.arange(0, 60 * minutes, 2.0)
    in_work = rng.uniform(0, 1, len(at_s)) * (150 + 15 * at_s / 60) * (rng.uniform(0, 1, len(at_s)) > 0.2)
    rss = (900 + leak_mib_a_minute * at_s / 60 + in_work) * MIB
    return Course("worker", list(at_s), [int(one) for one in rss])


@pytest.mark.parametrize("leak", [0.0, 1.5, 10.0])
def test_a_leak_is_told_from_what_is_in_work(leak: float) -> None:
    growth = course(leak_mib_a_minute=leak).growth(150)

    assert growth is not None
    assert growth.floor == pytest.approx(leak, abs=0.3)
    assert growth.all > leak + 3


def test_a_process_that_lived_too_short_says_nothing() -> None:
    assert course(leak_mib_a_minute=1, minutes=4).growth(150) is None
