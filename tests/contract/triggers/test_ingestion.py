"""Ingestion of events on both databases: exactly one job per object version, however often events arrive."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from jobs.service.presets import put_preset
from jobs.service.queries import job_events
from jobs.triggers import ingestion as ingestion_module
from jobs.triggers import service
from tests.bucket_events import FORMS
from tests.contract.triggers.conftest import Harness
from tests.in_memory_bucket import BUCKET
from tests.queue_counts import recount, stored_counts

KEYS = ["red flower.mp4", "a+b.mp4", "100%.mp4", "50%25.mp4", "ü 日本.mp4", "two\nlines.mp4", "&?#=.mp4", "deep/er.mp4"]


@pytest.mark.parametrize("versioned", [False, True])
def test_every_form_duplicated_and_shuffled_makes_one_job_per_version(harness: Harness, versioned: bool) -> None:
    harness.bucket_contents.versioned = versioned
    harness.trigger()
    keys = [f"{form}/{key}" for form in FORMS for key in KEYS]
    events = []
    for key in keys:
        form = key.partition("/")[0]
        events += harness.event(harness.bucket_contents.put(key), form) * 3
        if versioned:  # elsewhere what was overwritten is gone
            events += harness.event(harness.bucket_contents.put(key), form) * 2
    random.Random(7).shuffle(events)
    for start in range(0, len(events), 20):
        harness.take(events[start : start + 20])
    assert harness.videos() == sorted(keys * (2 if versioned else 1))
    assert all((job.input_pin or {})["etag"] for job in harness.jobs())


def test_all_forms_of_one_aws_event_together_make_one_job(harness: Harness) -> None:
    harness.trigger()
    stored = harness.bucket_contents.put("a b.mp4")
    for form in ("aws", "sns", "eventbridge", "aws"):
        harness.take(harness.event(stored, form))
    assert harness.videos() == ["a b.mp4"]


def test_event_job_and_first_job_event_are_one_transaction(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.trigger()
    events = [e for key in ("a.mp4", "b.mp4", "c.mp4") for e in harness.event(harness.bucket_contents.put(key))]
    written = []

    def dies_at_the_third(*arguments: Any, **fields: Any) -> Any:
        written.append(1)
        if len(written) == 3:
            raise SQLAlchemyError("the connection broke")
        return real(*arguments, **fields)

    real = ingestion_module.DecisionRecorder.record
    with monkeypatch.context() as patched, pytest.raises(SQLAlchemyError):
        patched.setattr(ingestion_module.DecisionRecorder, "record", dies_at_the_third)
        harness.take(events)
    assert (harness.jobs(), harness.rows()) == ([], [])
    harness.take(events)
    assert harness.videos() == ["a.mp4", "b.mp4", "c.mp4"]
    with harness.db.reading() as tx:
        for row in harness.rows():
            assert row.job_id is not None
            assert [event.kind for event in job_events(tx, row.job_id)] == ["queued"]


def test_several_threads_with_the_same_events_make_one_job_each(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """They meet in the rows of the events and the counts of two lanes, and never wait for each other crosswise."""
    harness.trigger(request={"priority": "high"}), harness.trigger(tenant="acme")
    events = [e for number in range(20) for e in harness.event(harness.bucket_contents.put(f"{number}.mp4"))]

    def deliver(seed: int) -> None:
        mine = list(events)
        random.Random(seed).shuffle(mine)
        for start in range(0, len(mine), 5):
            harness.take(mine[start : start + 5])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliver, range(4)))
    assert sorted((job.tenant, job.request["video"]) for job in harness.jobs()) == sorted(
        (tenant, f"s3://{BUCKET}/{number}.mp4") for tenant in ("default", "acme") for number in range(20)
    )
    with harness.db.reading() as tx:
        assert stored_counts(tx) == recount(tx)
    assert "trying again" not in caplog.text


def test_a_batch_that_loses_a_deadlock_is_written_again(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.trigger()
    events = [e for key in ("a.mp4", "b.mp4", "c.mp4") for e in harness.event(harness.bucket_contents.put(key))]
    written = []

    def loses_once(*arguments: Any, **fields: Any) -> Any:
        written.append(1)
        if len(written) == 3:
            raise OperationalError("INSERT", {}, DeadlockDetected())
        return real(*arguments, **fields)

    real = ingestion_module.DecisionRecorder.record
    monkeypatch.setattr(ingestion_module.DecisionRecorder, "record", loses_once)
    assert harness.take(events).submitted == 3
    assert harness.videos() == ["a.mp4", "b.mp4", "c.mp4"]


def test_a_burst_of_1000_objects_loses_none(harness: Harness) -> None:
    harness.trigger()
    events = [
        e for number in range(1000) for e in harness.event(harness.bucket_contents.put(f"{number}.mp4", str(number)))
    ]
    random.Random(1).shuffle(events)
    result = [harness.take(events[start : start + 250]) for start in range(0, len(events), 250)]
    assert sum(one.submitted for one in result) == 1000
    assert len(set(harness.videos())) == 1000


def test_overlapping_topics_on_ceph_make_one_job(harness: Harness) -> None:
    harness.trigger()
    stored = harness.bucket_contents.put("a.mp4")
    harness.take([*harness.event(stored, "ceph"), *harness.event(stored, "ceph")])
    harness.take(harness.event(stored, "ceph"))
    assert harness.videos() == ["a.mp4"]


def test_a_rewrite_with_the_same_bytes_is_a_version_of_its_own(harness: Harness) -> None:
    harness.trigger()
    for form in ("aws", "ceph"):
        for _ in range(2):
            harness.take(harness.event(harness.bucket_contents.put(f"{form}.mp4"), form))
    assert harness.videos() == ["aws.mp4", "aws.mp4", "ceph.mp4", "ceph.mp4"]


def test_keys_that_decode_into_each_other_are_distinguished(harness: Harness) -> None:
    harness.trigger()
    keys = ["a b.mp4", "a+b.mp4", "a%20b.mp4", "a%2Bb.mp4"]
    events = [
        e
        for form in ("aws", "ceph", "minio", "eventbridge")
        for k in keys
        for e in harness.event(harness.bucket_contents.put(f"{form}/{k}"), form)
    ]
    random.Random(3).shuffle(events)
    harness.take(events)
    assert harness.videos() == sorted(
        f"{form}/{key}" for form in ("aws", "ceph", "minio", "eventbridge") for key in keys
    )


def test_only_keys_with_the_prefix_and_a_suffix_count(harness: Harness) -> None:
    harness.trigger(prefix="in/", suffixes=[".mp4", ".mov"])
    for key in ("in/a.mp4", "in/B.MOV", "in/c.txt", "out/d.mp4", "in/folder.mp4/", "in.mp4"):
        harness.take(harness.event(harness.bucket_contents.put(key)))
    assert harness.videos() == ["in/B.MOV", "in/a.mp4"]


def test_the_template_is_what_the_job_asks_for(harness: Harness) -> None:
    harness.trigger(request={"prompt": "rain", "num_steps": 3, "metadata": {"who": "me"}}, tenant="acme")
    harness.take(harness.event(harness.bucket_contents.put("a.mp4")))
    (job,) = harness.jobs()
    assert (job.tenant, job.request["prompt"], job.request["num_steps"]) == ("acme", "rain", 3)
    assert job.request["metadata"] == {"who": "me"}


def test_images_become_image_jobs_with_source_field_image(harness: Harness) -> None:
    harness.trigger(source_field="image")
    harness.take(harness.event(harness.bucket_contents.put("a.png")))
    assert harness.jobs()[0].request["image"] == "s3://videos/a.png"


def test_two_triggers_on_one_object_make_a_job_each(harness: Harness) -> None:
    harness.trigger(request={"prompt": "rain"}), harness.trigger(request={"prompt": "wind"})
    harness.take(harness.event(harness.bucket_contents.put("a.mp4")) * 2)
    assert sorted(job.request["prompt"] for job in harness.jobs()) == ["rain", "wind"]


def test_an_output_of_ours_never_starts_a_job(harness: Harness) -> None:
    harness.trigger()
    result = harness.take(harness.event(harness.bucket_contents.put("a.mp4", job_id="job_1")))
    assert (result.skipped, harness.jobs()) == (1, [])
    assert "output of job_1" in str(harness.rows("skipped")[0].reason)


def test_an_overwritten_object_is_left_to_its_own_event(harness: Harness) -> None:
    harness.trigger()
    first = harness.event(harness.bucket_contents.put("a.mp4", "one"))
    second = harness.event(harness.bucket_contents.put("a.mp4", "two"))
    harness.take(first)
    assert harness.jobs() == []
    harness.take(second + first)
    (job,) = harness.jobs()
    assert (job.input_pin or {})["etag"] == second[0].etag


def test_a_version_that_was_overwritten_is_still_pinned_by_its_id(harness: Harness) -> None:
    harness.bucket_contents.versioned = True
    harness.trigger()
    events = harness.event(harness.bucket_contents.put("a.mp4", "one")) + harness.event(
        harness.bucket_contents.put("a.mp4", "two")
    )
    harness.take(events)
    pins = [job.input_pin or {} for job in harness.jobs()]
    assert sorted(pin["version_id"] for pin in pins) == ["v1", "v2"]


def test_an_etag_of_an_unfamiliar_form_is_not_compared(harness: Harness) -> None:
    harness.trigger()
    stored = harness.bucket_contents.put("a.mp4")
    (event,) = harness.event(stored)
    harness.take([type(event)(**{**event.as_json(), "keys": event.keys, "etag": "20000f00" + "ab" * 40})])
    (job,) = harness.jobs()
    assert (job.input_pin or {})["etag"] == stored.etag


def test_an_object_that_comes_after_its_event_gets_its_job_later(harness: Harness) -> None:
    harness.trigger()
    stored = harness.bucket_contents.put("a.mp4")
    event = harness.event(stored, "ceph")
    harness.bucket_contents.remove("a.mp4")
    assert harness.take(event).held == 1
    assert harness.take(event).duplicates == 1
    assert harness.ingestion.retry_held_events().submitted == 0, "its time has not come"
    harness.bucket_contents.put("a.mp4")
    harness.clock.advance(10)
    assert harness.ingestion.retry_held_events().submitted == 1
    assert (harness.videos(), harness.rows("held")) == (["a.mp4"], [])
    harness.take(event)
    assert harness.videos() == ["a.mp4"]


def test_a_held_event_whose_object_got_a_job_meanwhile_makes_no_second(harness: Harness) -> None:
    harness.trigger()
    event = harness.event(harness.bucket_contents.put("a.mp4"))
    harness.bucket_contents.down = True
    harness.take(event)
    harness.bucket_contents.down = False
    harness.take(event)
    harness.clock.advance(10)
    assert harness.ingestion.retry_held_events().duplicates == 1
    assert (harness.videos(), harness.rows("held")) == (["a.mp4"], [])


def test_an_object_that_never_comes_is_given_up_after_an_hour(harness: Harness) -> None:
    harness.trigger()
    stored = harness.bucket_contents.put("a.mp4")
    harness.bucket_contents.remove("a.mp4")
    harness.take(harness.event(stored))
    for _ in range(20):
        harness.clock.advance(700)
        harness.ingestion.retry_held_events()
    (row,) = harness.rows()
    assert (row.outcome, row.reason) == ("skipped", "the object did not exist for an hour")


@pytest.mark.parametrize("fault", ["down", "forbidden"])
def test_a_store_that_gives_nothing_holds_the_event_for_days(harness: Harness, fault: str) -> None:
    harness.trigger()
    events = harness.event(harness.bucket_contents.put("a.mp4"))
    setattr(harness.bucket_contents, fault, True)
    assert harness.take(events).held == 1
    for _ in range(6):
        harness.clock.advance(24 * 3600)
        assert harness.ingestion.retry_held_events().held == 1
    setattr(harness.bucket_contents, fault, False)
    harness.clock.advance(700)
    assert harness.ingestion.retry_held_events().submitted == 1


def test_a_full_queue_holds_events_until_jobs_may_be_queued(harness: Harness) -> None:
    harness.trigger()
    harness.limit(max_queued_per_tenant=2)
    events = [e for number in range(5) for e in harness.event(harness.bucket_contents.put(f"{number}.mp4"))]
    result = harness.take(events)
    assert (result.submitted, result.held) == (2, 3)
    harness.limit(max_queued_per_tenant=100)
    harness.clock.advance(10)
    assert harness.ingestion.retry_held_events().submitted == 3
    assert len(set(harness.videos())) == 5


def test_a_variant_that_is_not_offered_now_holds_events_with_the_reason(harness: Harness) -> None:
    harness.trigger(request={"variant": "small_16k"})
    harness.take(harness.event(harness.bucket_contents.put("a.mp4")))
    assert "small_16k" in str(harness.rows("held")[0].reason)
    harness.limit(variants=("tiny_16k", "small_16k"))
    harness.clock.advance(10)
    harness.ingestion.retry_held_events()
    assert harness.videos() == ["a.mp4"]


def test_the_breaker_pauses_the_trigger_and_loses_no_event(harness: Harness) -> None:
    harness.jobs_per_hour = 3
    trigger = harness.trigger()
    events = [e for number in range(8) for e in harness.event(harness.bucket_contents.put(f"{number}.mp4"))]
    for event in events:
        harness.take([event])
    assert (len(harness.videos()), len(harness.rows("held"))) == (3, 5)
    with harness.db.reading() as tx:
        paused = service.get_trigger(tx, trigger.id)
    assert paused.paused_at is not None
    assert "3 jobs within an hour" in str(paused.pause_reason)
    harness.clock.advance(7200)
    assert harness.ingestion.retry_held_events().submitted == 0, "it waits for a person"
    with harness.db.transaction() as tx:
        service.set_trigger_enabled(tx, trigger.id, enabled=True)
    harness.ingestion.retry_held_events()
    assert len(set(harness.videos())) == 8


def test_the_breaker_counts_an_hour_only(harness: Harness) -> None:
    harness.jobs_per_hour = 2
    harness.trigger()
    for number in range(6):
        harness.take(harness.event(harness.bucket_contents.put(f"{number}.mp4")))
        harness.clock.advance(1801)
    assert len(harness.videos()) == 6


def test_a_trigger_that_is_switched_off_lets_events_go(harness: Harness) -> None:
    trigger = harness.trigger(enabled=False)
    harness.take(harness.event(harness.bucket_contents.put("a.mp4")))
    assert harness.rows() == []
    with harness.db.transaction() as tx:
        service.set_trigger_enabled(tx, trigger.id, enabled=True)
    harness.take(harness.event(harness.bucket_contents.put("b.mp4")))
    assert harness.videos() == ["b.mp4"]


def test_a_deleted_trigger_takes_its_events_along_and_leaves_its_jobs(harness: Harness) -> None:
    trigger = harness.trigger()
    harness.take(harness.event(harness.bucket_contents.put("a.mp4")))
    with harness.db.transaction() as tx:
        service.delete_trigger(tx, trigger.id)
    assert (harness.rows(), harness.videos()) == ([], ["a.mp4"])


def test_events_without_a_trigger_cost_no_lookup(harness: Harness) -> None:
    harness.trigger(prefix="in/")
    stored = harness.bucket_contents.put("out/a.mp4")
    harness.take(harness.event(stored))
    assert harness.bucket_contents.looks == 0


def test_events_are_remembered_as_long_as_a_source_may_repeat_them(harness: Harness) -> None:
    harness.trigger()
    event = harness.event(harness.bucket_contents.put("a.mp4"))
    harness.take(event)
    assert service.prune_events(harness.db, older_than_s=30 * 86_400) == 0
    harness.clock.advance(31 * 86_400)
    assert service.prune_events(harness.db, older_than_s=30 * 86_400) == 1


def test_a_trigger_may_use_a_preset(harness: Harness) -> None:
    with harness.db.of_tenant("default").transaction() as tx:
        put_preset(tx, "loud", {"loudness_lufs": -16}, None)
    harness.trigger(request={"preset": "loud", "num_steps": 7})
    harness.take(harness.event(harness.bucket_contents.put("a.mp4")))
    (job,) = harness.jobs()
    assert (job.request["preset"], job.request["loudness_lufs"], job.request["num_steps"]) == ("loud@1", -16, 7)


def test_a_preset_that_is_gone_skips_the_event_and_says_so(harness: Harness) -> None:
    harness.trigger(request={"preset": "gone"})
    harness.take(harness.event(harness.bucket_contents.put("a.mp4")))
    assert harness.jobs() == []
    (row,) = harness.rows()
    assert "preset" in str(row.reason)
