"""Bucket events from a real Valkey: moved before they are read, gone after the commit, back when a consumer dies."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from jobs.triggers.event_parsers.event import ObjectCreated
from tests.bucket_events import minio_access
from tests.integration.triggers.conftest import Harness
from workers.event_sources.redis_list import RedisListSource

# Not one with a line break, which the test server cannot store; the contract tests have it.
KEYS = ["red flower.mp4", "a+b.mp4", "100%.mp4", "ü 日本.mp4"]


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    client: Redis = Redis.from_url(broker_url)
    yield client
    client.close()


class List:
    """A list as MinIO fills it."""

    def __init__(self, platform: Harness, redis: Any) -> None:
        self.platform, self.redis, self.name = platform, redis, f"bucket[events]*-{uuid.uuid4().hex}"

    def push(self, key: str) -> None:
        event = minio_access(self.platform.bucket, key, etag=self.platform.put(key))
        self.redis.rpush(self.name, json.dumps(event))

    def source(self, consumer: str, *, alive_s: int = 60) -> RedisListSource:
        return RedisListSource(self.redis, self.name, self.platform.take, consumer=consumer, alive_s=alive_s)

    def active_jobs(self, consumer: str) -> int:
        return int(self.redis.llen(f"{{{self.name}}}:processing:{consumer}"))


@pytest.fixture
def events(platform: Harness, redis: Redis) -> List:
    platform.trigger()
    return List(platform, redis)


def test_each_message_becomes_a_job_and_is_gone(platform: Harness, events: List) -> None:
    for key in KEYS * 2:
        events.push(key)
    source = events.source("one")
    source.step(platform.stop)
    assert (platform.videos(), events.redis.llen(events.name), events.active_jobs("one")) == (sorted(KEYS), 0, 0)


def test_what_a_failed_step_left_is_done_by_the_next(platform: Harness, events: List) -> None:
    events.push("a.mp4")
    source = events.source("one")
    platform.broken = True
    with pytest.raises(OSError, match="broken"):
        source.step(platform.stop)
    assert (events.active_jobs("one"), platform.videos()) == (1, [])
    platform.broken = False
    source.step(platform.stop)
    assert (events.active_jobs("one"), platform.videos()) == (0, ["a.mp4"])


def test_what_a_dead_consumer_had_in_hand_is_put_back(platform: Harness, events: List) -> None:
    for key in ("a.mp4", "b.mp4"):
        events.push(key)
    platform.broken = True
    with pytest.raises(OSError, match="broken"):
        events.source("dead").step(platform.stop)
    platform.broken = False
    living = events.source("living")
    assert living.recover() == 0, "it may still be alive"
    events.redis.delete(f"{{{events.name}}}:alive:dead")  # as when its time has passed
    living.step(platform.stop)
    assert (platform.videos(), events.active_jobs("dead")) == (["a.mp4", "b.mp4"], 0)


def test_a_consumer_that_comes_back_from_the_dead_does_no_harm(platform: Harness, events: List) -> None:
    events.push("a.mp4")
    living = events.source("living")

    def while_frozen(created: list[ObjectCreated]) -> None:
        events.redis.delete(f"{{{events.name}}}:alive:frozen")
        living.step(threading.Event())
        platform.take(created)

    frozen = RedisListSource(events.redis, events.name, while_frozen, consumer="frozen")
    frozen.step(platform.stop)
    assert (platform.videos(), events.redis.llen(events.name), events.active_jobs("frozen")) == (["a.mp4"], 0, 0)


def test_a_message_that_cannot_be_read_is_kept_aside(platform: Harness, events: List) -> None:
    events.redis.rpush(events.name, "no event")
    events.push("a.mp4")
    source = events.source("one")
    source.step(platform.stop)
    assert platform.videos() == ["a.mp4"]
    assert events.redis.lrange(source.unreadable, 0, -1) == [b"no event"]
    assert events.active_jobs("one") == 0
