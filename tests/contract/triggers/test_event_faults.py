"""One event never starves others: given up after a bound, with a row that says why, whatever it holds."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from jobs.db.tables import TriggerEvent
from jobs.lifecycle import TriggerOutcome
from jobs.storage.bucket_reader import BucketObject
from jobs.storage.errors import ObjectExistsError, ObjectFaultError, StorageUnavailableError
from jobs.triggers import ingestion as ingestion_module
from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.message import read_document
from jobs.triggers.recording import DecisionRecorder
from tests.bucket_events import aws, eventbridge
from tests.contract.triggers.conftest import Harness
from tests.in_memory_bucket import BUCKET, InMemoryBucket


class FaultyBucket(InMemoryBucket):
    """A bucket with some objects that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, Exception] = {}

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        if key in self.faults:
            self.looks += 1
            raise self.faults[key]
        return super().head_object(bucket, key, version_id)


@pytest.fixture
def bucket(harness: Harness) -> FaultyBucket:
    harness.bucket_contents = bucket = FaultyBucket()
    harness.trigger()
    return bucket


def put(harness: Harness, bucket: FaultyBucket, key: str) -> list[ObjectCreated]:
    return harness.event(bucket.put(key))


def retry(harness: Harness, *, every_s: float, times: int) -> None:
    for _ in range(times):
        harness.clock.advance(every_s)
        harness.ingestion.retry_held_events()


def test_an_object_whose_head_gives_500_is_given_up_after_a_day(harness: Harness, bucket: FaultyBucket) -> None:
    bucket.faults["bad.mp4"] = ObjectFaultError("500", "s3")
    harness.take(put(harness, bucket, "bad.mp4"))
    retry(harness, every_s=3600, times=23)
    assert [row.outcome for row in harness.rows()] == ["held"]
    retry(harness, every_s=3600, times=2)
    (row,) = harness.rows()
    assert row.outcome == "skipped"
    assert "given up" in str(row.reason)
    assert (harness.ingestion.retry_held_events().held, harness.jobs()) == (0, [])


def test_a_server_that_was_off_for_days_tries_again_before_it_gives_up(harness: Harness, bucket: FaultyBucket) -> None:
    bucket.faults["bad.mp4"] = ObjectFaultError("500", "s3")
    harness.take(put(harness, bucket, "bad.mp4"))
    retry(harness, every_s=30 * 86_400, times=1)
    assert [row.outcome for row in harness.rows()] == ["held"]
    bucket.faults.clear()
    retry(harness, every_s=700, times=1)
    assert harness.videos() == ["bad.mp4"]


def test_a_store_that_does_not_answer_for_a_week_is_given_up(harness: Harness, bucket: FaultyBucket) -> None:
    bucket.faults["bad.mp4"] = StorageUnavailableError("timeout", "s3")
    harness.take(put(harness, bucket, "bad.mp4"))
    retry(harness, every_s=86_000, times=9)
    (row,) = harness.rows()
    assert (row.outcome, "a week" in str(row.reason)) == ("skipped", True)


@pytest.mark.parametrize("exc", [ObjectExistsError("412", "s3"), KeyError("ETag"), ValueError("no time")])
def test_an_answer_that_makes_no_sense_holds_its_own_event_only(
    harness: Harness, bucket: FaultyBucket, exc: Exception
) -> None:
    bucket.faults["bad.mp4"] = exc
    result = harness.take(put(harness, bucket, "bad.mp4") + put(harness, bucket, "good.mp4"))
    assert (result.submitted, result.held, harness.videos()) == (1, 1, ["good.mp4"])


def test_many_old_held_events_do_not_delay_a_new_one(
    harness: Harness, bucket: FaultyBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion_module, "HELD_BATCH", 4)
    monkeypatch.setattr(ingestion_module, "OFTEN_BATCH", 1)
    events = []
    for number in range(12):
        bucket.faults[f"bad{number}.mp4"] = StorageUnavailableError("timeout", "s3")
        events += put(harness, bucket, f"bad{number}.mp4")
    harness.take(events)
    with harness.db.transaction() as tx:  # they were retried often, and are all due
        tx.session.execute(update(TriggerEvent).values(tries=9))
    bucket.down = True
    harness.take(put(harness, bucket, "good.mp4"))
    bucket.down = False
    harness.clock.advance(700)
    harness.ingestion.retry_held_events()
    assert harness.videos() == ["good.mp4"]


def test_old_held_events_are_retried_beside_many_new_ones(
    harness: Harness, bucket: FaultyBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion_module, "HELD_BATCH", 4)
    monkeypatch.setattr(ingestion_module, "OFTEN_BATCH", 1)
    bucket.faults["old.mp4"] = StorageUnavailableError("timeout", "s3")
    harness.take(put(harness, bucket, "old.mp4"))
    with harness.db.transaction() as tx:
        tx.session.execute(update(TriggerEvent).values(tries=9))
    events = []
    for number in range(12):
        bucket.faults[f"new{number}.mp4"] = StorageUnavailableError("timeout", "s3")
        events += put(harness, bucket, f"new{number}.mp4")
    harness.take(events)
    del bucket.faults["old.mp4"]
    harness.clock.advance(700)
    harness.ingestion.retry_held_events()
    assert harness.videos() == ["old.mp4"]


@pytest.mark.parametrize("held", [False, True])
def test_an_event_that_cannot_be_recorded_is_given_up_and_the_others_go_on(
    harness: Harness, bucket: FaultyBucket, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    events = [one for name in ("a.mp4", "bad.mp4", "c.mp4") for one in put(harness, bucket, name)]
    real = DecisionRecorder.record

    def record(self: DecisionRecorder, tx: Any, trigger: Any, decision: Any) -> Any:
        if decision.key == "bad.mp4" and not bucket.down:
            raise UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")
        return real(self, tx, trigger, decision)

    monkeypatch.setattr(DecisionRecorder, "record", record)
    if held:
        bucket.down = True
        harness.take(events)
        bucket.down = False
        harness.clock.advance(10)
        harness.ingestion.retry_held_events()
    else:
        harness.take(events)
    assert harness.videos() == ["a.mp4", "c.mp4"]
    (row,) = harness.rows("skipped")
    assert (row.object_key, row.retry_at) == ("bad.mp4", None)
    assert "UnicodeEncodeError" in str(row.reason)
    assert harness.rows("held") == []


def test_a_held_row_that_cannot_be_read_is_given_up(harness: Harness, bucket: FaultyBucket) -> None:
    bucket.down = True
    harness.take(put(harness, bucket, "bad.mp4") + put(harness, bucket, "good.mp4"))
    bucket.down = False
    with harness.db.transaction() as tx:
        broken = (
            update(TriggerEvent).where(TriggerEvent.object_key == "bad.mp4").values(event={"of": "another release"})
        )
        tx.session.execute(broken)
    harness.clock.advance(10)
    harness.ingestion.retry_held_events()
    assert harness.videos() == ["good.mp4"]
    assert [row.object_key for row in harness.rows("skipped")] == ["bad.mp4"]


def test_a_request_that_stays_invalid_is_given_up_after_a_month(harness: Harness) -> None:
    harness.trigger(request={"variant": "small_16k"})
    harness.take(harness.event(harness.bucket_contents.put("a.mp4")))
    retry(harness, every_s=86_400, times=29)
    assert len(harness.rows("held")) == 1
    retry(harness, every_s=86_400, times=2)
    (row,) = harness.rows()
    assert (row.outcome, "small_16k" in str(row.reason)) == (TriggerOutcome.SKIPPED, True)


TEXT = "a\x00b"


@pytest.mark.parametrize("text", [TEXT, "\ud800"])
@pytest.mark.parametrize(
    "change",
    [
        {"eventSource": None},
        {"eventName": "ObjectCreated:"},
        {"s3": {"bucket": {"name": None}, "object": {"key": "a"}}},
        {"s3": {"bucket": {"name": BUCKET}, "object": {"key": "a", "eTag": None}}},
        {"s3": {"bucket": {"name": BUCKET}, "object": {"key": "a", "versionId": None}}},
        {"s3": {"bucket": {"name": BUCKET}, "object": {"key": "a", "sequencer": None}}},
    ],
)
def test_text_that_no_database_stores_makes_an_event_unreadable(change: dict[str, Any], text: str) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(inner) for name, inner in value.items()}
        return text if value is None else value + text if value == "ObjectCreated:" else value

    document = aws(BUCKET, "a", etag="e")
    document["Records"][0] |= filled(change)
    with pytest.raises(UnreadableEventError):
        read_document(document)


@pytest.mark.parametrize("field", ["bucket", "reason"])
def test_so_does_text_of_eventbridge(field: str) -> None:
    document = eventbridge(BUCKET, "a", etag="e")
    document["detail"][field] = {"name": TEXT} if field == "bucket" else TEXT
    with pytest.raises(UnreadableEventError):
        read_document(document)
