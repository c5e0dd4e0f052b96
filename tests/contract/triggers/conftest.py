"""Fixtures of the ingestion's tests: an ingestion on each database, and triggers as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Job, Trigger, TriggerEvent
from jobs.service.submission import SubmitPolicy
from jobs.storage.bucket_reader import BucketObject
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.event_parsers.message import read_document
from jobs.triggers.ingestion import EventIngestion, IngestionResult
from jobs.triggers.rule import NewTrigger
from jobs.triggers.service import create_trigger
from tests.bucket_events import FORMS
from tests.conftest import FakeClock
from tests.in_memory_bucket import BUCKET, InMemoryBucket


@dataclass
class Harness:
    """An ingestion on one database, with what it looks at."""

    db: Database
    bucket_contents: InMemoryBucket
    policy: SubmitPolicy
    clock: FakeClock
    jobs_per_hour: int = 0

    @property
    def ingestion(self) -> EventIngestion:
        return EventIngestion(
            self.db, self.bucket_contents, lambda: self.policy, jobs_per_hour=self.jobs_per_hour, jitter=lambda: 0.5
        )

    def trigger(self, tenant: str = "default", **fields: Any) -> Trigger:
        rule = NewTrigger(**{"bucket": BUCKET, **fields})
        with self.db.of_tenant(tenant).transaction() as tx:
            return create_trigger(tx, rule)

    def event(self, stored: BucketObject, form: str = "aws", sequencer: str | None = None) -> list[ObjectCreated]:
        chosen = sequencer or f"{int(stored.last_modified.timestamp()):016X}"
        return read_document(
            FORMS[form](BUCKET, stored.key, etag=stored.etag, version_id=stored.version_id, sequencer=chosen)
        )

    def take(self, events: Sequence[ObjectCreated]) -> IngestionResult:
        return self.ingestion.take(events)

    def jobs(self) -> list[Job]:
        with self.db.reading() as tx:
            return list(tx.session.scalars(select(Job).order_by(Job.id)))

    def videos(self) -> list[str]:
        return sorted(job.request["video"].removeprefix(f"s3://{BUCKET}/") for job in self.jobs())

    def rows(self, outcome: str | None = None) -> list[TriggerEvent]:
        with self.db.reading() as tx:
            rows = list(tx.session.scalars(select(TriggerEvent).order_by(TriggerEvent.id)))
        return [row for row in rows if outcome in {None, row.outcome}]

    def limit(self, **fields: Any) -> None:
        self.policy = replace(self.policy, **fields)


@pytest.fixture
def harness(db: Database, clock: FakeClock) -> Harness:
    policy = SubmitPolicy(variants=("tiny_16k",), input_buckets=frozenset({BUCKET}), draw_seed=lambda: 7)
    return Harness(db, InMemoryBucket(), policy, clock)
