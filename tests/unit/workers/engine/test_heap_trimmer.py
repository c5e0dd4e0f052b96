"""When freed memory is given back to the system."""

from __future__ import annotations

from local_services.commands import wait_until
from workers.engine.heap_trimmer import HeapTrimmer

PATIENCE_S = 60.0


def test_it_is_done_once_for_all_that_was_freed_in_a_while_and_not_again() -> None:
    trims: list[None] = []

    def free_much() -> None:
        for _ in range(50):
            freed.request()

    def trim() -> None:
        trims.append(None)
        if len(trims) == 1:
            free_much()  # on the trimmer's own thread: all of it lies between two trims, however busy the machine is

    freed = HeapTrimmer(after_s=0.01, trim=trim)
    free_much()
    freed.start()
    wait_until(lambda: len(trims) == 2, within_s=PATIENCE_S, what="the trims")
    freed.close()

    assert len(trims) == 2


def test_a_worker_that_ends_does_not_wait_for_it() -> None:
    trims: list[None] = []
    freed = HeapTrimmer(after_s=600, trim=lambda: trims.append(None))
    freed.start()
    freed.request()
    freed.close()

    assert trims == []
