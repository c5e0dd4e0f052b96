"""A database, a queue and real servers around the sources of bucket events."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Job, TriggerEvent
from jobs.service.submission import SubmitPolicy
from jobs.storage.s3.bucket_reader import S3BucketReader
from jobs.storage.s3.client import ClientOptions, s3_client
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.ingestion import EventIngestion
from jobs.triggers.rule import NewTrigger
from jobs.triggers.service import create_trigger
from tests.databases import migrated_sqlite


@dataclass
class Harness:
    """An ingestion that looks into real buckets over HTTP."""

    db: Database
    endpoint: str
    bucket: str
    stop: threading.Event = field(default_factory=threading.Event)
    broken: bool = False

    @property
    def options(self) -> ClientOptions:
        return ClientOptions(self.endpoint, addressing_style="path")

    @property
    def s3(self) -> Any:
        return s3_client(self.options)

    def aws(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, region_name="us-east-1")

    @property
    def ingestion(self) -> EventIngestion:
        policy = SubmitPolicy(variants=("tiny_16k",), input_buckets=frozenset({self.bucket}))
        return EventIngestion(self.db, S3BucketReader(self.options), lambda: policy, jobs_per_hour=0)

    def take(self, events: list[ObjectCreated]) -> None:
        if self.broken:
            raise OSError("broken by the test")
        self.ingestion.take(events)

    def trigger(self, **fields: Any) -> None:
        with self.db.of_tenant("default").transaction() as tx:
            create_trigger(tx, NewTrigger(bucket=self.bucket, **fields))

    def put(self, key: str, data: bytes = b"video", **fields: Any) -> str:
        return str(self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, **fields)["ETag"]).strip('"')

    def videos(self) -> list[str]:
        with self.db.reading() as tx:
            jobs = list(tx.session.scalars(select(Job)))
        return sorted(job.request["video"].removeprefix(f"s3://{self.bucket}/") for job in jobs)

    def outcomes(self) -> list[str]:
        with self.db.reading() as tx:
            return sorted(tx.session.scalars(select(TriggerEvent.outcome)))


@pytest.fixture
def make_platform(tmp_path: Path, s3_endpoint: str) -> Iterator[Callable[[], Harness]]:
    made: list[Harness] = []

    def make() -> Harness:
        url = migrated_sqlite(tmp_path / "mmaudio.db")
        platform = Harness(Database(url).of_platform(), s3_endpoint, f"bucket-{uuid.uuid4().hex}")
        platform.s3.create_bucket(Bucket=platform.bucket)
        made.append(platform)
        return platform

    yield make
    for platform in made:
        platform.db.close()


@pytest.fixture
def platform(make_platform: Callable[[], Harness]) -> Harness:
    return make_platform()
