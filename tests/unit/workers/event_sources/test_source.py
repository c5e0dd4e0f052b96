"""The loop of the event sources: nothing that one message or one source raises ends it or stops another."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from jobs.settings import Settings
from jobs.triggers.event_parsers.event import ObjectCreated
from tests.bucket_events import aws
from workers.event_sources import threads
from workers.event_sources.redis_list import RedisListSource
from workers.event_sources.source import LateSource, run_source, take_each
from workers.event_sources.sqs import SqsSource

DOWN = OperationalError("SELECT", {}, Exception("the server went away"))


class Impatient(threading.Event):
    """Waits for nothing, and records for how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        return self.is_set()


class Failing:
    """Raises what it is given, one after the other, then stops the loop."""

    name = "failing"

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)

    def step(self, stop: threading.Event) -> None:
        if not self.errors:
            stop.set()
            return
        error = self.errors.pop(0)
        if error is not None:
            raise error


@pytest.mark.parametrize(
    "exc",
    [UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates"), TypeError("x"), KeyError("x"), MemoryError(), DOWN],
)
def test_the_loop_goes_on_after_any_exception_and_pauses_longer_each_time(exc: Exception) -> None:
    stop = Impatient()
    run_source(Failing(exc, exc, exc, None, exc), stop)
    assert stop.pauses == [1.0, 2.0, 4.0, 1.0]


def test_a_source_that_cannot_be_made_is_tried_again() -> None:
    made: list[int] = []

    def make() -> Failing:
        made.append(1)
        if len(made) < 3:
            raise ValueError("wrong settings")
        return Failing()

    stop = Impatient()
    run_source(LateSource("late", make), stop)
    assert (len(made), stop.pauses) == (3, [1.0, 2.0])


def test_wrong_settings_of_one_source_do_not_end_the_process(tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path, sqs_queue_url="https://queue", s3_events_redis_list="no-broker-is-known")
    sources = threads.make_sources(settings, None, None)  # type: ignore[arg-type]
    assert [source.name for source in sources] == ["held events", "sqs", "redis list", "inbox"]


def event(key: str) -> ObjectCreated:
    return ObjectCreated("aws:s3", "videos", (key,))


def taker(taken: list[str], error: Exception) -> Callable[[list[ObjectCreated]], None]:
    def take(events: list[ObjectCreated]) -> None:
        if any(one.keys == ("bad",) for one in events):
            raise error
        taken.extend(one.keys[0] for one in events)

    return take


def test_messages_behind_one_that_cannot_be_handled_are_handled() -> None:
    taken: list[str] = []
    failed = take_each(taker(taken, TypeError("x")), [[event("a")], [event("bad"), event("b")], [event("c")], []])
    assert (taken, [*failed]) == (["a", "c"], [1])


def test_an_outage_is_no_message_s_fault() -> None:
    with pytest.raises(OperationalError):
        take_each(taker([], DOWN), [[event("a")], [event("bad")]])


def body(key: str) -> str:
    return json.dumps(aws("videos", key, etag="e"))


HOSTILE = [
    '{"Type": ["Notification"], "TopicArn": 1}',
    '{"Type": {}, "TopicArn": 1}',
    "\x00",
    "[" * 50_000,
    "[7]",
    "null",
]


class FakeSqs:
    def __init__(self, bodies: list[str | None]) -> None:
        self.messages = [{"MessageId": str(at), "ReceiptHandle": str(at)} for at in range(len(bodies))]
        for message, text in zip(self.messages, bodies, strict=True):
            if text is not None:
                message["Body"] = text
        self.deleted: list[str] = []

    def receive_message(self, **_: Any) -> Any:
        return {"Messages": self.messages}

    def delete_message_batch(self, *, Entries: list[Any], **_: Any) -> Any:
        self.deleted += [entry["ReceiptHandle"] for entry in Entries]
        return {}


def test_sqs_leaves_a_hostile_message_and_handles_the_others() -> None:
    client, taken = FakeSqs([*HOSTILE, None, body("bad"), body("a")]), []
    source = SqsSource(client, "queue", taker(taken, ValueError("x")), wait_s=0, visibility_s=60)
    source.step(threading.Event())
    assert (taken, client.deleted) == (["a"], ["8"])


class FakeRedis:
    """The commands that the source uses, on lists in memory."""

    def __init__(self, messages: list[bytes]) -> None:
        self.lists: dict[Any, list[bytes]] = {"{events}:processing:me": list(messages)}
        self.commands: list[Any] = []

    def set(self, *_: Any, **__: Any) -> None:
        pass

    def scan_iter(self, **_: Any) -> list[bytes]:
        return [b"{events}:processing:caf\xe9", b"{events}:processing:me"]

    def exists(self, _: Any) -> int:
        return 0

    def lmove(self, *_: Any, **__: Any) -> None:
        return None

    def lrange(self, name: str, *_: Any) -> list[bytes]:
        return list(self.lists.get(name, []))

    def pipeline(self, **_: Any) -> FakeRedis:
        return self

    def __enter__(self) -> FakeRedis:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rpush(self, name: str, message: bytes) -> None:
        self.lists.setdefault(name, []).append(message)

    def lrem(self, name: str, _: int, message: bytes) -> None:
        self.lists[name].remove(message)

    def execute(self) -> list[Any]:
        return []


def test_redis_puts_a_hostile_message_aside_and_handles_the_others() -> None:
    hostile = [text.encode() for text in [*HOSTILE, body("bad")]] + [b"\xff\xfe"]
    redis, taken = FakeRedis([*hostile, body("a").encode()]), []
    source = RedisListSource(redis, "events", taker(taken, ValueError("x")), consumer="me")  # type: ignore[arg-type]
    source.step(threading.Event())
    assert taken == ["a"]
    assert redis.lists["{events}:processing:me"] == []
    assert redis.lists[source.unreadable] == hostile


def test_the_log_says_what_the_database_said_without_the_drivers_names(caplog: pytest.LogCaptureFixture) -> None:
    run_source(Failing(DOWN), Impatient())
    assert [record.getMessage() for record in caplog.records] == [
        "event source failing failed (the server went away); retrying in 1 s"
    ]
