"""How many requests a batch may have, with a device whose memory is what a test says."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from workers.engine.batch_limit import RAISE_AFTER, BatchLimit


@dataclass
class Memory:
    free: int
    peak: int = 0

    def free_bytes(self) -> int:
        return self.free

    def reset_peak(self) -> None:
        pass

    def peak_bytes(self) -> int:
        return self.peak


def test_where_nothing_is_known_of_memory_the_setting_is_the_limit() -> None:
    assert BatchLimit(6).requests("tiny_16k", 250) == 6


def test_the_first_request_is_measured_alone_and_then_the_free_memory_says_how_many_fit() -> None:
    memory = Memory(free=1000)
    limit = BatchLimit(8, memory)
    assert limit.requests("tiny_16k", 10) == 1

    memory.peak = 200
    limit.begin()
    limit.fitted("tiny_16k", 1, 10)

    assert limit.requests("tiny_16k", 10) == 4  # four fifths of 1000, 200 each
    assert limit.requests("tiny_16k", 20) == 2
    assert limit.requests("tiny_16k", 1000) == 1
    assert limit.requests("small_16k", 10) == 1  # another variant needs another amount
    memory.free = 100_000
    assert limit.requests("tiny_16k", 10) == 8


def test_out_of_memory_lowers_the_limit_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    limit = BatchLimit(8)

    limit.ran_out("tiny_16k", 8, 10)

    assert limit.requests("tiny_16k", 10) == 4
    assert limit.requests("tiny_16k", 40) == 1
    assert "the batch limit is now 4" in caplog.text
    limit.ran_out("tiny_16k", 2, 10)
    limit.ran_out("tiny_16k", 4, 10)  # what is known already does not raise it
    assert limit.requests("tiny_16k", 10) == 1


def test_a_lowered_limit_is_tried_again_after_many_batches_that_filled_it() -> None:
    limit = BatchLimit(8)
    limit.ran_out("tiny_16k", 8, 10)
    for _ in range(RAISE_AFTER):
        limit.fitted("tiny_16k", 1, 10)
    assert limit.requests("tiny_16k", 10) == 4  # these say nothing about five

    for _ in range(RAISE_AFTER):
        limit.fitted("tiny_16k", 4, 10)

    assert limit.requests("tiny_16k", 10) == 5
