"""The event sources that the settings enable, each in a thread of the control process."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

from jobs.db.database import Database
from jobs.service.scheduling.dispatch import Publisher, dispatch
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.submission import SubmitPolicy
from jobs.service.variant_availability import current_policy
from jobs.settings import Settings
from jobs.storage.bucket_reader import LazyBucketReader
from jobs.storage.factory import open_store
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.ingestion import EventIngestion
from workers.disk_full import DiskFullLog
from workers.event_sources.held_events import HeldEvents
from workers.event_sources.inbox import InboxSource
from workers.event_sources.redis_list import BLOCK_S, RedisListSource
from workers.event_sources.source import LateSource, Source, run_source

STOP_WITHIN_S = 25.0


@contextlib.contextmanager
def run_sources(
    settings: Settings, *, db: Database, publisher: Publisher, disk_full: DiskFullLog, stop: threading.Event
) -> Iterator[None]:
    """Run the sources while the block runs; set `stop` when it ends, and wait for them."""
    threads = [
        threading.Thread(target=run_source, args=(source, stop, disk_full), name=f"trigger-{source.name}", daemon=True)
        for source in make_sources(settings, db, publisher)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:  # what a hanging source holds is delivered again
            thread.join(STOP_WITHIN_S)


def make_sources(settings: Settings, db: Database, publisher: Publisher) -> list[Source]:
    """Return the sources that the settings enable, and the one that retries held events."""
    dispatch_policy = DispatchPolicy.from_settings(settings)

    def policy() -> SubmitPolicy:
        with db.reading() as tx:
            return current_policy(tx, settings)

    def submitted(variant: str) -> None:
        dispatch(db, publisher, variants=(variant,), policy=dispatch_policy)

    ingestion = EventIngestion(db, LazyBucketReader(settings), policy, jobs_per_hour=settings.trigger_jobs_per_hour)

    def take(events: list[ObjectCreated]) -> None:
        for variant in ingestion.take(events).variants:
            submitted(variant)

    def sqs() -> Source:
        from workers.event_sources.sqs import SqsSource

        return SqsSource.from_settings(settings, take)

    def redis_list() -> Source:
        url = settings.s3_events_redis_url.get_secret_value() or settings.resolved_broker_url()
        redis: Redis = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=BLOCK_S + 5)
        consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        return RedisListSource(redis, settings.s3_events_redis_list, take, consumer=consumer)

    def inbox(folder: Path) -> Source:
        return InboxSource(folder, settings, db, open_store(settings), policy, submitted)

    sources: list[Source] = [HeldEvents(ingestion, db, submitted, retention_s=settings.trigger_event_retention_s)]
    if settings.sqs_queue_url:
        sources.append(LateSource("sqs", sqs))
    if settings.s3_events_redis_list:
        sources.append(LateSource(RedisListSource.name, redis_list))
    if settings.watched_folder is not None:
        sources.append(LateSource(InboxSource.name, functools.partial(inbox, settings.watched_folder)))
    return sources
