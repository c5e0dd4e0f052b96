"""When a consumer counts as stalled."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from jobs.queue import BrokerUnavailableError
from workers.consumer.stall_detector import StallDetector


@dataclass
class Consumer:
    """What a detector sees of a consumer."""

    waiting: int = 1
    has_free_slot: bool = True
    broker_away: bool = False
    now: float = 100.0

    def queue_length(self) -> int:
        if self.broker_away:
            raise BrokerUnavailableError("away")
        return self.waiting


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def detector(consumer: Consumer) -> StallDetector:
    return StallDetector(
        waiting=consumer.queue_length,
        has_free_slot=lambda: consumer.has_free_slot,
        consumer_stall_s=20,
        monotonic=lambda: consumer.now,
    )


def check_each_second(consumer: Consumer, detector: StallDetector, seconds: int) -> list[bool]:
    results = []
    for _ in range(seconds):
        consumer.now += 1
        results.append(detector.is_stalled())
    return results


def test_messages_beside_a_free_slot_for_too_long_are_a_stall(consumer: Consumer, detector: StallDetector) -> None:
    assert check_each_second(consumer, detector, 22) == [False] * 21 + [True]


def test_an_idle_worker_with_an_empty_queue_is_not_stalled(consumer: Consumer, detector: StallDetector) -> None:
    consumer.waiting = 0
    assert not any(check_each_second(consumer, detector, 100))


def test_a_worker_without_a_free_slot_is_not_stalled(consumer: Consumer, detector: StallDetector) -> None:
    consumer.has_free_slot = False
    assert not any(check_each_second(consumer, detector, 100))


def test_each_message_restarts_the_time(consumer: Consumer, detector: StallDetector) -> None:
    for _ in range(10):
        assert not any(check_each_second(consumer, detector, 15))
        detector.message_received()
    assert any(check_each_second(consumer, detector, 22))


def test_an_unavailable_broker_is_no_stall_and_its_return_restarts_the_time(
    consumer: Consumer, detector: StallDetector
) -> None:
    check_each_second(consumer, detector, 15)
    consumer.broker_away = True
    assert not any(check_each_second(consumer, detector, 60))
    consumer.broker_away = False
    assert check_each_second(consumer, detector, 22) == [False] * 21 + [True]
