"""Freed memory goes back to the system."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import psutil

from workers.freed_memory import FreedMemory

MIB = 1024**2


def _held_before_and_after() -> tuple[int, int]:
    """Return by how many bytes this process has grown when much was freed, and when it was given back."""
    process = psutil.Process()
    before = process.memory_info().rss
    # Too small for pages of their own; every 64th stays, so that the heap cannot simply be cut at its end.
    pieces = [np.ones(MIB // 16, dtype=np.uint8) for _ in range(16 * 200)]
    kept = pieces[::64]
    del pieces
    held = process.memory_info().rss - before
    FreedMemory().give_back()
    assert len(kept) == 50
    return held, process.memory_info().rss - before


def test_what_lies_freed_below_something_that_lives_goes_back_to_the_system() -> None:
    # In a process of its own: the heap of this one has room left by whatever ran before.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        held, held_after = fresh.submit(_held_before_and_after).result()

    assert held > 100 * MIB, "the C library keeps it by itself"
    assert held_after < held / 2


def test_it_is_not_done_all_the_time() -> None:
    now, trims = [0.0], []
    freed = FreedMemory(every_s=1.0, monotonic=lambda: now[0], trim=lambda: trims.append(now[0]))
    for at in (0.0, 0.5, 0.9, 1.0, 1.5, 2.5):
        now[0] = at
        freed.give_back()

    assert trims == [0.0, 1.0, 2.5]
