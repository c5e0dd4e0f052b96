"""The queue between dispatch and the workers. A message holds a job id and nothing else; the database is authoritative.

Messages name their task, so neither the API nor the control worker imports the workers' code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

RUN_JOB_TASK = "mmaudio.run_job"
# Longer than any attempt may run: kombu delivers an unacknowledged message again after it. Such a second delivery
# claims nothing (the row is not `queued`), so the value only avoids useless deliveries. See celery issue 5935.
VISIBILITY_TIMEOUT_S = 24 * 3600
# A live worker claims a job within moments of receiving its message. A message that was delivered longer ago, for a job
# that is still queued, was lost with its worker: kombu would deliver it again only after the visibility timeout.
CLAIMED_WITHIN_S = 10.0
CONNECT_TIMEOUT_S = 2.0
TIMEOUT_S = 5.0


class BrokerUnavailableError(Exception):
    """Raised when the broker does not answer. Jobs that were not published stay queued; maintenance publishes them."""


def queue_name(variant: str) -> str:
    """Return the name of the Celery queue of a variant."""
    return f"mmaudio.{variant}"


def celery_app(
    broker_url: str, *, connect_timeout_s: float = CONNECT_TIMEOUT_S, timeout_s: float = TIMEOUT_S
) -> Celery:
    """Return the Celery app with the options that publishers and workers must share."""
    app = Celery("mmaudio", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        # A publish that cannot reach the broker fails within seconds; maintenance publishes the job later.
        task_publish_retry=False,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_connect_timeout": connect_timeout_s,
            "socket_timeout": timeout_s,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "retry_on_timeout": False,
            "max_retries": 1,
        },
    )
    return app


class Broker:
    """Publishes job ids and inspects the queues.

    Args:
        connect_timeout_s, timeout_s: longest time for a connection, and for an answer.

    Raises (all methods):
        BrokerUnavailableError: Redis does not answer.
    """

    def __init__(self, url: str, *, connect_timeout_s: float = CONNECT_TIMEOUT_S, timeout_s: float = TIMEOUT_S) -> None:
        self._app = celery_app(url, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)
        # A broker that is gone must not block: calls have a timeout, idle connections keep-alive, and a connection that
        # was idle is checked before it is used.
        self._redis: Redis = Redis.from_url(
            url,
            socket_connect_timeout=connect_timeout_s,
            socket_timeout=timeout_s,
            socket_keepalive=True,
            health_check_interval=10,
        )

    def publish(self, job_ids: Iterable[str], *, variant: str) -> None:
        """Put one message per job on the variant's queue."""
        try:
            with self._app.producer_pool.acquire(block=True, timeout=5) as producer:
                for job_id in job_ids:
                    self._app.send_task(RUN_JOB_TASK, args=[job_id], queue=queue_name(variant), producer=producer)
        except (OperationalError, RedisError, OSError) as exc:
            raise BrokerUnavailableError(f"The broker did not accept a message: {exc}") from exc

    def enqueued_job_ids(self, variant: str) -> set[str]:
        """Return the ids of the jobs whose message is on the variant's queue or was just delivered to a worker."""
        try:
            enqueued: list[Any] = self._redis.lrange(queue_name(variant), 0, -1)
            # kombu scores by the time of delivery on the worker's own clock. A clock that is ahead must not make a
            # dead worker's message look recent for as long as it is ahead; a superfluous message claims nothing.
            now = time.time()
            recently = (now - CLAIMED_WITHIN_S, now + CLAIMED_WITHIN_S)
            tags: list[Any] = self._redis.zrange("unacked_index", *recently, byscore=True)
            unacknowledged: list[Any] = self._redis.hmget("unacked", tags) if tags else []
        except (RedisError, OSError) as exc:
            raise BrokerUnavailableError(f"The broker did not answer: {exc}") from exc
        messages = [json.loads(raw) for raw in enqueued]
        # kombu stores (message, exchange, routing key) of delivered messages until they are acknowledged
        messages += [json.loads(raw)[0] for raw in unacknowledged if raw is not None]
        return {job_id for message in messages if (job_id := _job_id(message)) is not None}

    def queue_length(self, variant: str) -> int:
        """Return how many messages are on the variant's queue."""
        try:
            return int(self._redis.llen(queue_name(variant)))
        except (RedisError, OSError) as exc:
            raise BrokerUnavailableError(f"The broker did not answer: {exc}") from exc

    def check(self) -> None:
        """Send a ping."""
        try:
            self._redis.ping()
        except (RedisError, OSError) as exc:
            raise BrokerUnavailableError(f"The broker did not answer: {exc}") from exc

    def close(self) -> None:
        """Close all connections."""
        self._app.close()
        self._redis.close()


def _job_id(message: dict[str, Any]) -> str | None:
    """Return the job id that a kombu message carries; its `argsrepr` header is the text of the arguments tuple."""
    headers = message.get("headers", {})
    if headers.get("task") != RUN_JOB_TASK:
        return None
    job_id = str(headers.get("argsrepr", "")).strip("[]()',\" ")
    return job_id or None
