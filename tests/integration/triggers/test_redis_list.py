"""Bucket events from a real Valkey: moved before they are read, gone after the commit, back when a consumer dies."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from jobs.triggers.forms.event import ObjectCreated
from tests.bucket_events import minio_access
from tests.integration.triggers.conftest import House
from workers.triggers.redis_list import RedisListSource

# Not one with a line break, which the test server cannot store; the contract tests have it.
KEYS = ["red flower.mp4", "a+b.mp4", "100%.mp4", "ü 日本.mp4"]


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    client: Redis = Redis.from_url(broker_url)
    yield client
    client.close()


class List:
    """A list as MinIO fills it."""

    def __init__(self, house: House, redis: Any) -> None:
        self.house, self.redis, self.name = house, redis, f"bucket[events]*-{uuid.uuid4().hex}"

    def push(self, key: str) -> None:
        event = minio_access(self.house.bucket, key, etag=self.house.put(key))
        self.redis.rpush(self.name, json.dumps(event))

    def source(self, consumer: str, *, alive_s: int = 60) -> RedisListSource:
        return RedisListSource(self.redis, self.name, self.house.take, consumer=consumer, alive_s=alive_s)

    def in_hand(self, consumer: str) -> int:
        return int(self.redis.llen(f"{{{self.name}}}:processing:{consumer}"))


@pytest.fixture
def events(house: House, redis: Redis) -> List:
    house.trigger()
    return List(house, redis)


def test_each_message_becomes_a_job_and_is_gone(house: House, events: List) -> None:
    for key in KEYS * 2:
        events.push(key)
    source = events.source("one")
    source.step(house.stop)
    assert (house.videos(), events.redis.llen(events.name), events.in_hand("one")) == (sorted(KEYS), 0, 0)


def test_what_a_failed_step_left_is_done_by_the_next(house: House, events: List) -> None:
    events.push("a.mp4")
    source = events.source("one")
    house.broken = True
    with pytest.raises(OSError, match="broken"):
        source.step(house.stop)
    assert (events.in_hand("one"), house.videos()) == (1, [])
    house.broken = False
    source.step(house.stop)
    assert (events.in_hand("one"), house.videos()) == (0, ["a.mp4"])


def test_what_a_dead_consumer_had_in_hand_is_put_back(house: House, events: List) -> None:
    for key in ("a.mp4", "b.mp4"):
        events.push(key)
    house.broken = True
    with pytest.raises(OSError, match="broken"):
        events.source("dead").step(house.stop)
    house.broken = False
    living = events.source("living")
    assert living.recover() == 0, "it may still be alive"
    events.redis.delete(f"{{{events.name}}}:alive:dead")  # as when its time has passed
    living.step(house.stop)
    assert (house.videos(), events.in_hand("dead")) == (["a.mp4", "b.mp4"], 0)


def test_a_consumer_that_comes_back_from_the_dead_does_no_harm(house: House, events: List) -> None:
    events.push("a.mp4")
    living = events.source("living")

    def while_frozen(created: list[ObjectCreated]) -> None:
        events.redis.delete(f"{{{events.name}}}:alive:frozen")
        living.step(threading.Event())
        house.take(created)

    frozen = RedisListSource(events.redis, events.name, while_frozen, consumer="frozen")
    frozen.step(house.stop)
    assert (house.videos(), events.redis.llen(events.name), events.in_hand("frozen")) == (["a.mp4"], 0, 0)


def test_a_message_that_cannot_be_read_is_kept_aside(house: House, events: List) -> None:
    events.redis.rpush(events.name, "no event")
    events.push("a.mp4")
    source = events.source("one")
    source.step(house.stop)
    assert house.videos() == ["a.mp4"]
    assert events.redis.lrange(source.unreadable, 0, -1) == [b"no event"]
    assert events.in_hand("one") == 0
