"""Freed memory returns to the operating system; in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import psutil

from local_services.commands import wait_until
from workers.engine.heap_trimmer import HeapTrimmer

MIB = 1024**2
PATIENCE_S = 20.0


def _growth_before_and_after() -> tuple[int, int]:
    """Return by how many bytes this process has grown after a free, and after the trim."""
    process = psutil.Process()
    before = process.memory_info().rss
    # Too small for pages of their own; every 64th stays, so that the heap cannot simply be cut at its end.
    pieces = [np.ones(MIB // 16, dtype=np.uint8) for _ in range(16 * 200)]
    kept = pieces[::64]
    del pieces
    grown = process.memory_info().rss - before
    trimmer = HeapTrimmer(delay_s=0)
    trimmer.start()
    trimmer.request()
    with contextlib.suppress(AssertionError):
        wait_until(lambda: process.memory_info().rss - before < grown / 2, within_s=PATIENCE_S, what="the memory")
    trimmer.close()
    assert len(kept) == 50
    return grown, process.memory_info().rss - before


def test_memory_freed_below_a_live_block_returns_to_the_system() -> None:
    # In a process of its own: the heap of this one has gaps left by earlier tests.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        grown, grown_after = fresh.submit(_growth_before_and_after).result()

    assert grown > 100 * MIB, "the C library keeps it by itself"
    assert grown_after < grown / 2
