"""Bucket events from an SQS queue: long polls, messages hidden while they are handled and deleted after the commit.

An unreadable message is never deleted: the queue's redrive policy moves it to the dead-letter queue.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from jobs.log_lines import printable
from jobs.settings import Settings
from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.message import read_text
from workers.event_sources.source import Take, take_each

log = logging.getLogger(__name__)

BATCH = 10  # the limit of SQS for receiving and deleting


class SqsSource:
    """Polls one queue. Several processes may poll the same one.

    Args:
        take: turns events into jobs.
        wait_s: how long a poll waits for a message.
        visibility_s: how long a received message stays hidden without renewal.
    """

    name = "sqs"

    def __init__(self, client: Any, queue_url: str, take: Take, *, wait_s: int, visibility_s: int) -> None:
        self._client, self._queue_url, self._take = client, queue_url, take
        self._wait_s, self._visibility_s = wait_s, visibility_s

    @classmethod
    def from_settings(cls, settings: Settings, take: Take) -> SqsSource:
        """Return the source of the queue that the settings name."""
        client = boto3.session.Session().client(
            "sqs",
            endpoint_url=settings.sqs_endpoint_url,
            region_name=settings.s3_region,
            config=Config(
                connect_timeout=5,
                read_timeout=settings.sqs_wait_s + 10,
                retries={"mode": "standard", "max_attempts": 3},
            ),
        )
        return cls(
            client,
            settings.sqs_queue_url,
            take,
            wait_s=settings.sqs_wait_s,
            visibility_s=settings.sqs_visibility_s,
        )

    def step(self, stop: threading.Event) -> None:
        """Poll once and handle the messages."""
        answer = self._client.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=self._wait_s,
            VisibilityTimeout=self._visibility_s,
        )
        messages = answer.get("Messages", [])
        if not messages:
            stop.wait(0.05)  # some servers answer an empty poll at once; do not poll them without a pause
            return
        with self._hidden(messages):
            self._delete(self._handle(messages))

    def _handle(self, messages: list[Any]) -> list[Any]:
        """Turn the events into jobs; return the messages to delete."""
        readable: list[tuple[Any, list[ObjectCreated]]] = []
        for message in messages:
            try:
                readable.append((message, read_text(message["Body"])))
            except Exception as exc:  # whatever one message holds, the others are handled
                _leave(message, exc)
        failed = take_each(self._take, [events for _, events in readable])
        for at, error in failed.items():
            _leave(readable[at][0], error)
        return [message for at, (message, _) in enumerate(readable) if at not in failed]

    def _delete(self, messages: list[Any]) -> None:
        if not messages:
            return
        entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(messages)]
        answer = self._client.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)
        for failed in answer.get("Failed", []):  # it is delivered again, and changes nothing then
            log.warning("SQS did not delete a message: %s", failed.get("Message", failed.get("Code")))

    @contextlib.contextmanager
    def _hidden(self, messages: list[Any]) -> Iterator[None]:
        """Renew the messages' visibility timeout while the block runs."""
        done = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(messages, done), name="sqs-visibility", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            done.set()
            renewing.join()

    def _renew(self, messages: list[Any], done: threading.Event) -> None:
        entries = [
            {"Id": str(at), "ReceiptHandle": one["ReceiptHandle"], "VisibilityTimeout": self._visibility_s}
            for at, one in enumerate(messages)
        ]
        while not done.wait(self._visibility_s / 3):
            try:
                self._client.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)
            except (BotoCoreError, ClientError) as exc:  # at worst a message is delivered twice
                log.warning("could not extend the visibility timeout of SQS messages: %s", exc)


def _leave(message: Any, exc: Exception) -> None:
    reason = str(exc) if isinstance(exc, UnreadableEventError) else f"{type(exc).__name__}: {exc}"
    log.warning("leaving SQS message %s to the redrive policy: %s", message.get("MessageId"), printable(reason))
