"""When a consumer is held to have fallen silent."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from jobs.queue import BrokerUnavailableError
from workers.consumer.stall_detector import StallDetector


@dataclass
class Scene:
    waiting: int = 1
    room: bool = True
    away: bool = False
    now: float = 100.0

    def look(self) -> int:
        if self.away:
            raise BrokerUnavailableError("away")
        return self.waiting


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def watch(scene: Scene) -> StallDetector:
    return StallDetector(
        waiting=scene.look, has_free_slot=lambda: scene.room, consumer_stall_s=20, monotonic=lambda: scene.now
    )


def looks(scene: Scene, watch: StallDetector, seconds: int) -> list[bool]:
    said = []
    for _ in range(seconds):
        scene.now += 1
        said.append(watch.is_stalled())
    return said


def test_messages_beside_a_free_slot_for_too_long_are_a_stall(scene: Scene, watch: StallDetector) -> None:
    assert looks(scene, watch, 22) == [False] * 21 + [True]


def test_an_idle_worker_beside_an_empty_belt_is_well(scene: Scene, watch: StallDetector) -> None:
    scene.waiting = 0
    assert not any(looks(scene, watch, 100))


def test_a_worker_with_full_hands_is_well(scene: Scene, watch: StallDetector) -> None:
    scene.room = False
    assert not any(looks(scene, watch, 100))


def test_each_message_that_comes_begins_the_time_anew(scene: Scene, watch: StallDetector) -> None:
    for _ in range(10):
        assert not any(looks(scene, watch, 15))
        watch.message_received()
    assert any(looks(scene, watch, 22))


def test_a_broker_that_is_away_is_no_stall_and_its_return_begins_the_time_anew(
    scene: Scene, watch: StallDetector
) -> None:
    looks(scene, watch, 15)
    scene.away = True
    assert not any(looks(scene, watch, 60))
    scene.away = False
    assert looks(scene, watch, 22) == [False] * 21 + [True]
