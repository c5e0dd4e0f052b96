"""When freed memory is given back to the system."""

from __future__ import annotations

from local_services.commands import wait_until
from workers.engine.heap_trimmer import HeapTrimmer

PATIENCE_S = 60.0


def test_requests_within_the_delay_cause_one_trim() -> None:
    trims: list[None] = []

    def free_much() -> None:
        for _ in range(50):
            trimmer.request()

    def trim() -> None:
        trims.append(None)
        if len(trims) == 1:
            free_much()  # on the trimmer's thread, so all requests fall between two trims

    trimmer = HeapTrimmer(delay_s=0.01, trim=trim)
    free_much()
    trimmer.start()
    wait_until(lambda: len(trims) == 2, within_s=PATIENCE_S, what="the trims")
    trimmer.close()

    assert len(trims) == 2


def test_close_does_not_wait_for_the_delay() -> None:
    trims: list[None] = []
    trimmer = HeapTrimmer(delay_s=600, trim=lambda: trims.append(None))
    trimmer.start()
    trimmer.request()
    trimmer.close()

    assert trims == []
