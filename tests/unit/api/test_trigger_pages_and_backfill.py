"""`GET /v1/triggers` page by page, and jobs of objects that are in a bucket already."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from api.context import EXTENSION
from api.schemas.triggers import BackfillView
from jobs.log_limit import INTERVAL_S
from tests.bucket_events import aws, sample
from tests.in_memory_bucket import BUCKET
from tests.unit.api.conftest import Harness
from tests.unit.api.test_s3_events_api import jobs, post, trigger


def call(harness: Harness, trigger_id: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = harness.client.post(f"/v1/triggers/{trigger_id}/backfill", json=body)
    return answer.status_code, dict(answer.json or {})


def pages(harness: Harness, trigger_id: str, **body: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while not found or found[-1]["next_cursor"] is not None:
        status, page = call(harness, trigger_id, **body, **({"cursor": found[-1]["next_cursor"]} if found else {}))
        assert status == 200, page
        BackfillView.model_validate(page)
        found.append(page)
    return found


def total(found: list[dict[str, Any]], name: str) -> int:
    return sum(page[name] for page in found)


def test_triggers_are_listed_page_by_page_newest_first(harness: Harness) -> None:
    made = [trigger(harness) for _ in range(5)][::-1]
    seen: list[str] = []
    url: str | None = "/v1/triggers?limit=2"
    while url is not None:
        page = harness.client.get(url).json or {}
        assert len(page["data"]) <= 2
        seen += [one["id"] for one in page["data"]]
        assert (page["next_cursor"] is None) == (page["links"]["next"] is None)
        url = page["links"]["next"]
    assert seen == made


def test_a_page_of_triggers_is_bounded(harness: Harness) -> None:
    for _ in range(51):
        trigger(harness)
    assert len((harness.client.get("/v1/triggers").json or {})["data"]) == 50


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=nonsense", "cursor=am9iXzE", "cursor=%00", "colour=red"]
)
def test_a_wrong_page_is_refused(harness: Harness, query: str) -> None:
    assert harness.client.get(f"/v1/triggers?{query}").status_code == 422


def test_objects_that_are_there_become_jobs_and_no_second_ones(harness: Harness) -> None:
    keys = [f"in/{number}.mp4" for number in range(7)] + ["in/a b+ü%.mp4", "in/two\nlines.mp4"]
    for key in [*keys, "in/notes.txt", "out/other.mp4"]:
        harness.bucket_contents.put(key)
    harness.bucket_contents.put("in/own.mp4", job_id="job_1")
    trigger_id = trigger(harness, prefix="in/", suffixes=[".mp4"])
    first = pages(harness, trigger_id, limit=2)
    assert (total(first, "listed"), total(first, "submitted"), total(first, "skipped")) == (11, 9, 1)
    assert sorted(jobs(harness)) == sorted(f"s3://{BUCKET}/{key}" for key in keys)
    again = pages(harness, trigger_id)
    assert (total(again, "submitted"), total(again, "duplicates")) == (0, 10)
    assert len(jobs(harness)) == 9


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("event_first", [False, True])
def test_an_event_and_a_backfill_of_one_object_make_one_job(
    harness: Harness, versioned: bool, event_first: bool
) -> None:
    harness.bucket_contents.versioned = versioned
    trigger_id = trigger(harness)
    stored = harness.bucket_contents.put("a.mp4")
    event = aws(BUCKET, "a.mp4", etag=stored.etag, version_id=stored.version_id)
    if event_first:
        post(harness, event)
        assert total(pages(harness, trigger_id), "duplicates") == 1
    else:
        pages(harness, trigger_id)
        assert post(harness, event).json["duplicates"] == 1
    assert len(jobs(harness)) == 1


def test_an_object_that_was_written_again_since_its_event_is_a_new_one(harness: Harness) -> None:
    trigger_id = trigger(harness)
    post(harness, aws(BUCKET, "a.mp4", etag=harness.bucket_contents.put("a.mp4", "one").etag))
    harness.bucket_contents.put("a.mp4", "two")
    assert total(pages(harness, trigger_id), "submitted") == 1


def test_a_dry_run_makes_nothing_and_says_what_would_be_made(harness: Harness) -> None:
    trigger_id = trigger(harness)
    for key in ("a.mp4", "b.mp4"):
        harness.bucket_contents.put(key)
    post(harness, aws(BUCKET, "a.mp4", etag=harness.bucket_contents.put("a.mp4").etag))
    (page,) = pages(harness, trigger_id, dry_run=True)
    assert [(one["key"], one["action"], one["known"]) for one in page["data"]] == [
        ("a.mp4", "submit", True),
        ("b.mp4", "submit", False),
    ]
    assert (page["submitted"], page["duplicates"], len(jobs(harness))) == (1, 1, 1)


@pytest.mark.parametrize("dry_run", [False, True])
def test_it_stops_after_so_many_jobs_and_goes_on_from_there(harness: Harness, dry_run: bool) -> None:
    trigger_id = trigger(harness, suffixes=[".mp4"])
    for number in range(6):
        harness.bucket_contents.put(f"{number}.mp4")
        harness.bucket_contents.put(f"{number}.txt")
    status, page = call(harness, trigger_id, max_jobs=2, dry_run=dry_run)
    assert (status, page["submitted"]) == (200, 2)
    if not dry_run:
        _, rest = call(harness, trigger_id, cursor=page["next_cursor"])
        assert (rest["submitted"], rest["next_cursor"], len(jobs(harness))) == (4, None, 6)


def test_a_narrower_prefix_is_allowed_and_another_is_refused(harness: Harness) -> None:
    trigger_id = trigger(harness, prefix="in/")
    for key in ("in/a/1.mp4", "in/b/2.mp4"):
        harness.bucket_contents.put(key)
    pages(harness, trigger_id, prefix="in/b/")
    assert jobs(harness) == [f"s3://{BUCKET}/in/b/2.mp4"]
    status, problem = call(harness, trigger_id, prefix="out/")
    assert (status, problem["errors"][0]["field"]) == (422, "prefix")


def test_a_disabled_or_paused_trigger_makes_nothing(harness: Harness) -> None:
    trigger_id = trigger(harness, enabled=False)
    harness.bucket_contents.put("a.mp4")
    status, problem = call(harness, trigger_id)
    assert (status, problem["code"]) == (409, "trigger_inactive")
    assert call(harness, trigger_id, dry_run=True)[0] == 200


def test_the_rate_breaker_ends_it(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.triggers.backfill.CHUNK", 2)
    context = harness.app.extensions[EXTENSION]
    context.settings = context.settings.model_copy(update={"trigger_jobs_per_hour": 3})
    trigger_id = trigger(harness)
    for number in range(20):
        harness.bucket_contents.put(f"{number:02}.mp4")
    status, page = call(harness, trigger_id)
    assert (status, page["submitted"], page["held"]) == (200, 3, 1)
    status, problem = call(harness, trigger_id, cursor=page["next_cursor"])
    assert (status, problem["code"]) == (409, "trigger_inactive")
    assert "3 jobs within an hour" in problem["detail"]
    assert harness.client.patch(f"/v1/triggers/{trigger_id}", json={"enabled": True}).status_code == 200


def test_a_bucket_that_may_not_be_listed_is_said_so(harness: Harness) -> None:
    trigger_id = trigger(harness)
    harness.bucket_contents.forbidden = True
    status, problem = call(harness, trigger_id)
    assert (status, problem["code"]) == (409, "bucket_not_listed")
    assert "s3:ListBucket" in problem["detail"]
    harness.bucket_contents.forbidden, harness.bucket_contents.down = False, True
    assert call(harness, trigger_id)[0] == 503


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0},
        {"limit": 1001},
        {"max_jobs": 0},
        {"cursor": ""},
        {"cursor": "a" * 1025},
        {"prefix": "\x00"},
        {"a": 1},
    ],
)
def test_a_wrong_backfill_is_refused(harness: Harness, body: dict[str, Any]) -> None:
    assert call(harness, trigger(harness), **body)[0] == 422


def test_an_unknown_trigger_has_no_backfill(harness: Harness) -> None:
    assert call(harness, "trg_1")[0] == 404


def test_a_wrong_events_token_is_one_warning_a_minute_with_the_sender(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = {"Authorization": "Bearer s3cret-of-another", "X-Forwarded-For": "203.0.113.7"}
    for _ in range(30):
        assert post(harness, sample("test_event"), headers).status_code == 403
    (line,) = [text for text in caplog.messages if "refused bucket events" in text]
    assert "127.0.0.1" in line
    assert "203.0.113.7" in line
    assert "s3cret" not in caplog.text
    harness.monotonic.advance(INTERVAL_S)
    post(harness, sample("test_event"), {})
    assert sum("refused bucket events" in text for text in caplog.messages) == 2


def test_an_event_with_a_hostile_type_is_unreadable(harness: Harness) -> None:
    for kind in (["Notification"], {}, 7, None):
        assert post(harness, {"Type": kind, "TopicArn": "arn"}).status_code == 422
