"""From events to jobs, on both databases: exactly one job per object version, whatever comes how often."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from jobs.service import triggers as service
from jobs.service.backlog import counted, recounted
from jobs.service.queries import job_events
from jobs.triggers import intake as intake_module
from tests.bucket_events import FORMS
from tests.contract.triggers.conftest import House
from tests.shelf import BUCKET

KEYS = ["red flower.mp4", "a+b.mp4", "100%.mp4", "50%25.mp4", "ü 日本.mp4", "two\nlines.mp4", "&?#=.mp4", "deep/er.mp4"]


@pytest.mark.parametrize("versioned", [False, True])
def test_every_form_duplicated_and_shuffled_makes_one_job_per_version(house: House, versioned: bool) -> None:
    house.shelf.versioned = versioned
    house.trigger()
    keys = [f"{form}/{key}" for form in FORMS for key in KEYS]
    events = []
    for key in keys:
        form = key.partition("/")[0]
        events += house.event(house.shelf.put(key), form) * 3
        if versioned:  # elsewhere what was overwritten is gone
            events += house.event(house.shelf.put(key), form) * 2
    random.Random(7).shuffle(events)
    for start in range(0, len(events), 20):
        house.take(events[start : start + 20])
    assert house.videos() == sorted(keys * (2 if versioned else 1))
    assert all((job.input_pin or {})["etag"] for job in house.jobs())


def test_all_forms_of_one_aws_event_together_make_one_job(house: House) -> None:
    house.trigger()
    seen = house.shelf.put("a b.mp4")
    for form in ("aws", "sns", "eventbridge", "aws"):
        house.take(house.event(seen, form))
    assert house.videos() == ["a b.mp4"]


def test_event_job_and_first_job_event_are_one_transaction(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.trigger()
    events = [e for key in ("a.mp4", "b.mp4", "c.mp4") for e in house.event(house.shelf.put(key))]
    written = []

    def dies_at_the_third(*arguments: Any, **fields: Any) -> Any:
        written.append(1)
        if len(written) == 3:
            raise SQLAlchemyError("the connection broke")
        return real(*arguments, **fields)

    real = intake_module.Writing.write
    with monkeypatch.context() as patched, pytest.raises(SQLAlchemyError):
        patched.setattr(intake_module.Writing, "write", dies_at_the_third)
        house.take(events)
    assert (house.jobs(), house.rows()) == ([], [])
    house.take(events)
    assert house.videos() == ["a.mp4", "b.mp4", "c.mp4"]
    with house.db.reading() as tx:
        for row in house.rows():
            assert row.job_id is not None
            assert [event.kind for event in job_events(tx, row.job_id)] == ["queued"]


def test_several_threads_with_the_same_events_make_one_job_each(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """They meet in the rows of the events and the counts of two lanes, and never wait for each other crosswise."""
    house.trigger(request={"priority": "high"}), house.trigger(tenant="acme")
    events = [e for number in range(20) for e in house.event(house.shelf.put(f"{number}.mp4"))]

    def deliver(seed: int) -> None:
        mine = list(events)
        random.Random(seed).shuffle(mine)
        for start in range(0, len(mine), 5):
            house.take(mine[start : start + 5])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliver, range(4)))
    assert sorted((job.tenant, job.request["video"]) for job in house.jobs()) == sorted(
        (tenant, f"s3://{BUCKET}/{number}.mp4") for tenant in ("default", "acme") for number in range(20)
    )
    with house.db.reading() as tx:
        assert counted(tx) == recounted(tx)
    assert "trying again" not in caplog.text


def test_a_batch_that_loses_a_deadlock_is_written_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.trigger()
    events = [e for key in ("a.mp4", "b.mp4", "c.mp4") for e in house.event(house.shelf.put(key))]
    written = []

    def loses_once(*arguments: Any, **fields: Any) -> Any:
        written.append(1)
        if len(written) == 3:
            raise OperationalError("INSERT", {}, DeadlockDetected())
        return real(*arguments, **fields)

    real = intake_module.Writing.write
    monkeypatch.setattr(intake_module.Writing, "write", loses_once)
    assert house.take(events).submitted == 3
    assert house.videos() == ["a.mp4", "b.mp4", "c.mp4"]


def test_a_burst_of_5000_objects_loses_none(house: House) -> None:
    house.trigger()
    events = [e for number in range(5000) for e in house.event(house.shelf.put(f"{number}.mp4", str(number)))]
    random.Random(1).shuffle(events)
    taken = [house.take(events[start : start + 250]) for start in range(0, len(events), 250)]
    assert sum(one.submitted for one in taken) == 5000
    assert len(set(house.videos())) == 5000


def test_overlapping_topics_on_ceph_make_one_job(house: House) -> None:
    house.trigger()
    seen = house.shelf.put("a.mp4")
    house.take([*house.event(seen, "ceph"), *house.event(seen, "ceph")])
    house.take(house.event(seen, "ceph"))
    assert house.videos() == ["a.mp4"]


def test_a_rewrite_with_the_same_bytes_is_a_version_of_its_own(house: House) -> None:
    house.trigger()
    for form in ("aws", "ceph"):
        for _ in range(2):
            house.take(house.event(house.shelf.put(f"{form}.mp4"), form))
    assert house.videos() == ["aws.mp4", "aws.mp4", "ceph.mp4", "ceph.mp4"]


def test_keys_that_decode_into_each_other_are_told_apart(house: House) -> None:
    house.trigger()
    keys = ["a b.mp4", "a+b.mp4", "a%20b.mp4", "a%2Bb.mp4"]
    events = [
        e
        for form in ("aws", "ceph", "minio", "eventbridge")
        for k in keys
        for e in house.event(house.shelf.put(f"{form}/{k}"), form)
    ]
    random.Random(3).shuffle(events)
    house.take(events)
    assert house.videos() == sorted(f"{form}/{key}" for form in ("aws", "ceph", "minio", "eventbridge") for key in keys)


def test_only_keys_with_the_prefix_and_a_suffix_count(house: House) -> None:
    house.trigger(prefix="in/", suffixes=[".mp4", ".mov"])
    for key in ("in/a.mp4", "in/B.MOV", "in/c.txt", "out/d.mp4", "in/folder.mp4/", "in.mp4"):
        house.take(house.event(house.shelf.put(key)))
    assert house.videos() == ["in/B.MOV", "in/a.mp4"]


def test_the_template_is_what_the_job_asks_for(house: House) -> None:
    house.trigger(request={"prompt": "rain", "num_steps": 3, "metadata": {"who": "me"}}, tenant="acme")
    house.take(house.event(house.shelf.put("a.mp4")))
    (job,) = house.jobs()
    assert (job.tenant, job.request["prompt"], job.request["num_steps"]) == ("acme", "rain", 3)
    assert job.request["metadata"] == {"who": "me"}


def test_pictures_become_image_jobs_where_the_trigger_says_so(house: House) -> None:
    house.trigger(source_field="image")
    house.take(house.event(house.shelf.put("a.png")))
    assert house.jobs()[0].request["image"] == "s3://videos/a.png"


def test_two_triggers_on_one_object_make_a_job_each(house: House) -> None:
    house.trigger(request={"prompt": "rain"}), house.trigger(request={"prompt": "wind"})
    house.take(house.event(house.shelf.put("a.mp4")) * 2)
    assert sorted(job.request["prompt"] for job in house.jobs()) == ["rain", "wind"]


def test_an_output_of_ours_never_starts_a_job(house: House) -> None:
    house.trigger()
    taken = house.take(house.event(house.shelf.put("a.mp4", job_id="job_1")))
    assert (taken.skipped, house.jobs()) == (1, [])
    assert "output of job_1" in str(house.rows("skipped")[0].reason)


def test_an_overwritten_object_is_left_to_its_own_event(house: House) -> None:
    house.trigger()
    first = house.event(house.shelf.put("a.mp4", "one"))
    second = house.event(house.shelf.put("a.mp4", "two"))
    house.take(first)
    assert house.jobs() == []
    house.take(second + first)
    (job,) = house.jobs()
    assert (job.input_pin or {})["etag"] == second[0].etag


def test_a_version_that_was_overwritten_is_still_pinned_by_its_id(house: House) -> None:
    house.shelf.versioned = True
    house.trigger()
    events = house.event(house.shelf.put("a.mp4", "one")) + house.event(house.shelf.put("a.mp4", "two"))
    house.take(events)
    pins = [job.input_pin or {} for job in house.jobs()]
    assert sorted(pin["version_id"] for pin in pins) == ["v1", "v2"]


def test_an_etag_of_an_unfamiliar_form_is_not_compared(house: House) -> None:
    house.trigger()
    seen = house.shelf.put("a.mp4")
    (event,) = house.event(seen)
    house.take([type(event)(**{**event.as_json(), "keys": event.keys, "etag": "20000f00" + "ab" * 40})])
    (job,) = house.jobs()
    assert (job.input_pin or {})["etag"] == seen.etag


def test_an_object_that_comes_after_its_event_gets_its_job_later(house: House) -> None:
    house.trigger()
    seen = house.shelf.put("a.mp4")
    event = house.event(seen, "ceph")
    house.shelf.remove("a.mp4")
    assert house.take(event).held == 1
    assert house.take(event).duplicates == 1
    assert house.intake.retry_held().submitted == 0, "its time has not come"
    house.shelf.put("a.mp4")
    house.clock.advance(10)
    assert house.intake.retry_held().submitted == 1
    assert (house.videos(), house.rows("held")) == (["a.mp4"], [])
    house.take(event)
    assert house.videos() == ["a.mp4"]


def test_a_held_event_whose_object_got_a_job_meanwhile_makes_no_second(house: House) -> None:
    house.trigger()
    event = house.event(house.shelf.put("a.mp4"))
    house.shelf.down = True
    house.take(event)
    house.shelf.down = False
    house.take(event)
    house.clock.advance(10)
    assert house.intake.retry_held().duplicates == 1
    assert (house.videos(), house.rows("held")) == (["a.mp4"], [])


def test_an_object_that_never_comes_is_given_up_after_an_hour(house: House) -> None:
    house.trigger()
    seen = house.shelf.put("a.mp4")
    house.shelf.remove("a.mp4")
    house.take(house.event(seen))
    for _ in range(20):
        house.clock.advance(700)
        house.intake.retry_held()
    (row,) = house.rows()
    assert (row.outcome, row.reason) == ("skipped", "the object has not been there for an hour")


@pytest.mark.parametrize("fault", ["down", "forbidden"])
def test_a_store_that_gives_nothing_holds_the_event_for_days(house: House, fault: str) -> None:
    house.trigger()
    events = house.event(house.shelf.put("a.mp4"))
    setattr(house.shelf, fault, True)
    assert house.take(events).held == 1
    for _ in range(6):
        house.clock.advance(24 * 3600)
        assert house.intake.retry_held().held == 1
    setattr(house.shelf, fault, False)
    house.clock.advance(700)
    assert house.intake.retry_held().submitted == 1


def test_a_full_queue_holds_events_until_there_is_room(house: House) -> None:
    house.trigger()
    house.limit(max_queued_per_tenant=2)
    events = [e for number in range(5) for e in house.event(house.shelf.put(f"{number}.mp4"))]
    taken = house.take(events)
    assert (taken.submitted, taken.held) == (2, 3)
    house.limit(max_queued_per_tenant=100)
    house.clock.advance(10)
    assert house.intake.retry_held().submitted == 3
    assert len(set(house.videos())) == 5


def test_a_variant_that_is_not_offered_now_holds_events_with_the_reason(house: House) -> None:
    house.trigger(request={"variant": "small_16k"})
    house.take(house.event(house.shelf.put("a.mp4")))
    assert "small_16k" in str(house.rows("held")[0].reason)
    house.limit(variants=("tiny_16k", "small_16k"))
    house.clock.advance(10)
    house.intake.retry_held()
    assert house.videos() == ["a.mp4"]


def test_the_breaker_pauses_the_trigger_and_loses_no_event(house: House) -> None:
    house.jobs_per_hour = 3
    trigger = house.trigger()
    events = [e for number in range(8) for e in house.event(house.shelf.put(f"{number}.mp4"))]
    for event in events:
        house.take([event])
    assert (len(house.videos()), len(house.rows("held"))) == (3, 5)
    with house.db.reading() as tx:
        paused = service.get_trigger(tx, trigger.id, tenant="default")
    assert paused.paused_at is not None
    assert "3 jobs within an hour" in str(paused.pause_reason)
    house.clock.advance(7200)
    assert house.intake.retry_held().submitted == 0, "it waits for a person"
    with house.db.transaction() as tx:
        service.switch_trigger(tx, trigger.id, tenant="default", enabled=True)
    house.intake.retry_held()
    assert len(set(house.videos())) == 8


def test_the_breaker_counts_an_hour_only(house: House) -> None:
    house.jobs_per_hour = 2
    house.trigger()
    for number in range(6):
        house.take(house.event(house.shelf.put(f"{number}.mp4")))
        house.clock.advance(1801)
    assert len(house.videos()) == 6


def test_a_trigger_that_is_switched_off_lets_events_go(house: House) -> None:
    trigger = house.trigger(enabled=False)
    house.take(house.event(house.shelf.put("a.mp4")))
    assert house.rows() == []
    with house.db.transaction() as tx:
        service.switch_trigger(tx, trigger.id, tenant="default", enabled=True)
    house.take(house.event(house.shelf.put("b.mp4")))
    assert house.videos() == ["b.mp4"]


def test_a_deleted_trigger_takes_its_events_along_and_leaves_its_jobs(house: House) -> None:
    trigger = house.trigger()
    house.take(house.event(house.shelf.put("a.mp4")))
    with house.db.transaction() as tx:
        service.delete_trigger(tx, trigger.id, tenant="default")
    assert (house.rows(), house.videos()) == ([], ["a.mp4"])


def test_events_nobody_waits_for_cost_no_look(house: House) -> None:
    house.trigger(prefix="in/")
    seen = house.shelf.put("out/a.mp4")
    house.take(house.event(seen))
    assert house.shelf.looks == 0


def test_events_are_remembered_as_long_as_a_source_may_repeat_them(house: House) -> None:
    house.trigger()
    event = house.event(house.shelf.put("a.mp4"))
    house.take(event)
    assert service.forget_old_events(house.db, older_than_s=30 * 86_400) == 0
    house.clock.advance(31 * 86_400)
    assert service.forget_old_events(house.db, older_than_s=30 * 86_400) == 1
