"""Freed memory goes back to the system."""

from __future__ import annotations

import numpy as np
import psutil

from workers.freed_memory import FreedMemory

MIB = 1024**2


def test_what_lies_freed_below_something_that_lives_goes_back_to_the_system() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    # Too small for pages of their own; every 64th stays, so that the heap cannot simply be cut at its end.
    pieces = [np.ones(MIB // 16, dtype=np.uint8) for _ in range(16 * 200)]
    kept = pieces[::64]
    del pieces
    held = process.memory_info().rss - before
    FreedMemory().give_back()

    assert len(kept) == 50
    assert held > 100 * MIB, "the C library keeps it by itself"
    assert process.memory_info().rss - before < held / 2


def test_it_is_not_done_all_the_time() -> None:
    now, trims = [0.0], []
    freed = FreedMemory(every_s=1.0, monotonic=lambda: now[0], trim=lambda: trims.append(now[0]))
    for at in (0.0, 0.5, 0.9, 1.0, 1.5, 2.5):
        now[0] = at
        freed.give_back()

    assert trims == [0.0, 1.0, 2.5]
