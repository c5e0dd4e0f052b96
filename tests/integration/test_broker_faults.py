"""What the broker's callers see when it is half-open, gone, or when clocks disagree."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from jobs.queue import Broker, BrokerUnavailableError

VARIANT = "tiny_16k"


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word: what a half-open socket looks like."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


@pytest.mark.parametrize("call", ["publish", "enqueued_job_ids", "waiting", "check"])
def test_a_broker_that_takes_connections_and_says_nothing_is_unavailable(call: str) -> None:
    with silent_server() as url:
        broker = Broker(url)
        calls: dict[str, Any] = {
            "publish": lambda: broker.publish(["job_1"], variant=VARIANT),
            "enqueued_job_ids": lambda: broker.enqueued_job_ids(VARIANT),
            "waiting": lambda: broker.queue_length(VARIANT),
            "check": broker.check,
        }
        with pytest.raises(BrokerUnavailableError):
            calls[call]()
        broker.close()


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        client.flushall()
        yield client
        client.flushall()


def taken_at(client: redis.Redis, broker: Broker, job_id: str, when: float) -> None:
    """Make the job's message look as kombu leaves it when a worker has taken it and has not acknowledged it."""
    broker.publish([job_id], variant=VARIANT)
    message = client.rpop(f"mmaudio.{VARIANT}")
    client.hset("unacked", job_id, json.dumps([json.loads(str(message, "utf-8")), "", ""]))  # type: ignore[call-overload]
    client.zadd("unacked_index", {job_id: when})


def test_messages_that_were_just_taken_are_on_the_belt_whatever_a_clock_says(
    client: redis.Redis, broker_url: str
) -> None:
    broker = Broker(broker_url)
    now = time.time()
    for job_id, when in (("just", now), ("long_ago", now - 60), ("ahead", now + 3600)):
        taken_at(client, broker, job_id, when)
    broker.publish(["waits"], variant=VARIANT)
    assert broker.enqueued_job_ids(VARIANT) == {"just", "waits"}
    assert broker.queue_length(VARIANT) == 1
    broker.close()
