"""Buckets that notify by themselves: S3 to SQS, through SNS and through EventBridge, and the poller behind."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import Any

import pytest

from tests.bucket_events import aws, sample
from tests.integration.triggers.conftest import Harness
from workers.event_sources.source import run_source
from workers.event_sources.sqs import SqsSource

# Not one with a line break, which the test server cannot store; the contract tests have it.
KEYS = ["in/red flower.mp4", "in/a+b.mp4", "in/100%.mp4", "in/ü 日本.mp4", "in/&?#=.mp4"]


class Queue:
    """An SQS queue with a dead-letter queue behind it, and the source that polls it."""

    def __init__(self, platform: Harness, *, visibility_s: int = 60) -> None:
        self.platform, self.sqs = platform, platform.aws("sqs")
        name = uuid.uuid4().hex
        self.dead = self.sqs.create_queue(QueueName=f"dead-{name}")["QueueUrl"]
        redrive = {"deadLetterTargetArn": self.arn_of(self.dead), "maxReceiveCount": 2}
        self.url = self.sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": json.dumps(redrive)})["QueueUrl"]
        self.arn = self.arn_of(self.url)
        self.source = SqsSource(self.sqs, self.url, platform.take, wait_s=0, visibility_s=visibility_s)

    def arn_of(self, url: str) -> str:
        return str(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])

    def send(self, document: Any) -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        self.sqs.send_message(QueueUrl=self.url, MessageBody=text)

    def left(self, url: str | None = None) -> int:
        """How many messages lie in the queue, hidden ones too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def drain(self) -> None:
        for _ in range(20):
            if not self.left():
                return
            self.source.step(self.platform.stop)


@pytest.fixture
def queue(platform: Harness) -> Queue:
    platform.trigger(prefix="in/")
    return Queue(platform)


def _notify(platform: Harness, **configuration: Any) -> None:
    platform.s3.put_bucket_notification_configuration(Bucket=platform.bucket, NotificationConfiguration=configuration)


def _by_sqs(platform: Harness, queue: Queue) -> None:
    _notify(platform, QueueConfigurations=[{"QueueArn": queue.arn, "Events": ["s3:ObjectCreated:*"]}])


def _by_sns(platform: Harness, queue: Queue) -> None:
    sns = platform.aws("sns")
    topic = sns.create_topic(Name=uuid.uuid4().hex)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)
    _notify(platform, TopicConfigurations=[{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}])


def _by_eventbridge(platform: Harness, queue: Queue) -> None:
    events, name = platform.aws("events"), uuid.uuid4().hex
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [platform.bucket]}}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": queue.arn}])
    _notify(platform, EventBridgeConfiguration={})


@pytest.mark.parametrize("way", [_by_sqs, _by_sns, _by_eventbridge], ids=["sqs", "sns", "eventbridge"])
def test_what_is_put_into_a_bucket_becomes_a_job_by_each_way(platform: Harness, queue: Queue, way: Any) -> None:
    way(platform, queue)
    for key in KEYS:
        platform.put(key)
    platform.put("out/other.mp4")
    platform.put("in/own.mp4", Metadata={"mmaudio-job-id": "job_1"})
    queue.drain()
    assert platform.videos() == sorted(KEYS)
    assert queue.left() == queue.left(queue.dead) == 0


def test_a_message_is_deleted_only_after_the_commit(platform: Harness, queue: Queue) -> None:
    queue.source = SqsSource(queue.sqs, queue.url, platform.take, wait_s=0, visibility_s=1)
    queue.send(aws(platform.bucket, "in/a.mp4", etag=platform.put("in/a.mp4")))
    platform.broken = True
    with pytest.raises(OSError, match="broken"):
        queue.source.step(platform.stop)
    assert (queue.left(), platform.videos()) == (1, [])
    platform.broken = False
    time.sleep(1.1)  # now it is visible again
    queue.drain()
    assert (platform.videos(), queue.left()) == (["in/a.mp4"], 0)


def test_a_message_that_cannot_be_read_is_left_to_the_dead_letter_queue(platform: Harness, queue: Queue) -> None:
    queue.source = SqsSource(queue.sqs, queue.url, platform.take, wait_s=0, visibility_s=1)
    queue.send("no event")
    queue.send(sample("test_event"))
    queue.send(aws(platform.bucket, "in/a.mp4", etag=platform.put("in/a.mp4")))
    deadline = time.monotonic() + 60
    while queue.left() and time.monotonic() < deadline:
        queue.source.step(platform.stop)
        time.sleep(0.2)
    assert (platform.videos(), queue.left(queue.dead)) == (["in/a.mp4"], 1)


def test_duplicates_make_one_job(platform: Harness, queue: Queue) -> None:
    event = aws(platform.bucket, "in/a.mp4", etag=platform.put("in/a.mp4"))
    for _ in range(5):
        queue.send(event)
    queue.drain()
    assert platform.videos() == ["in/a.mp4"]


def test_messages_stay_hidden_while_they_are_worked_on(platform: Harness, queue: Queue) -> None:
    began, may_end = threading.Event(), threading.Event()

    def slow(events: Any) -> None:
        began.set()
        may_end.wait(60)
        platform.take(events)

    source = SqsSource(queue.sqs, queue.url, slow, wait_s=0, visibility_s=6)
    queue.send(aws(platform.bucket, "in/a.mp4", etag=platform.put("in/a.mp4")))
    working = threading.Thread(target=source.step, args=(platform.stop,))
    working.start()
    assert began.wait(60)
    time.sleep(7)
    assert "Messages" not in queue.sqs.receive_message(QueueUrl=queue.url, WaitTimeSeconds=0)
    may_end.set()
    working.join()
    assert (platform.videos(), queue.left()) == (["in/a.mp4"], 0)


def test_a_poller_outlives_a_queue_that_is_away(platform: Harness, queue: Queue) -> None:
    gone = SqsSource(queue.sqs, f"{queue.url}-gone", platform.take, wait_s=0, visibility_s=10)
    thread = threading.Thread(target=run_source, args=(gone, platform.stop))
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    platform.stop.set()
    thread.join(60)
    assert not thread.is_alive()
