"""Freed memory goes back to the system."""

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


def _held_before_and_after() -> tuple[int, int]:
    """Return by how many bytes this process has grown when much was freed, and when it was given back."""
    process = psutil.Process()
    before = process.memory_info().rss
    # Too small for pages of their own; every 64th stays, so that the heap cannot simply be cut at its end.
    pieces = [np.ones(MIB // 16, dtype=np.uint8) for _ in range(16 * 200)]
    kept = pieces[::64]
    del pieces
    active_job = process.memory_info().rss - before
    freed = HeapTrimmer(delay_s=0)
    freed.start()
    freed.request()
    with contextlib.suppress(AssertionError):
        wait_until(lambda: process.memory_info().rss - before < active_job / 2, within_s=PATIENCE_S, what="the memory")
    freed.close()
    assert len(kept) == 50
    return active_job, process.memory_info().rss - before


def test_what_lies_freed_below_something_that_lives_goes_back_to_the_system() -> None:
    # In a process of its own: the heap of this one has room left by whatever ran before.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        active_job, held_after = fresh.submit(_held_before_and_after).result()

    assert active_job > 100 * MIB, "the C library keeps it by itself"
    assert held_after < active_job / 2


def test_it_is_done_once_for_all_that_was_freed_in_a_while_and_not_again() -> None:
    trims: list[None] = []
    freed = HeapTrimmer(delay_s=0.5, trim=lambda: trims.append(None))
    freed.start()
    for wanted in (1, 2):
        for _ in range(50):
            freed.request()
        wait_until(lambda wanted=wanted: len(trims) == wanted, within_s=PATIENCE_S, what="the trim")
    freed.close()

    assert len(trims) == 2


def test_a_worker_that_ends_does_not_wait_for_it() -> None:
    trims: list[None] = []
    freed = HeapTrimmer(delay_s=600, trim=lambda: trims.append(None))
    freed.start()
    freed.request()
    freed.close()

    assert trims == []
