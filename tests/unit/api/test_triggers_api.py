"""`/v1/triggers`: what is accepted, what is refused and why, and the dry run."""

from __future__ import annotations

from typing import Any

import pytest

from api.context import EXTENSION
from api.schemas.triggers import DryRunView, TriggerList, TriggerView
from tests.bucket_events import aws, ceph
from tests.in_memory_bucket import BUCKET
from tests.unit.api.conftest import Harness
from tests.unit.api.test_s3_events_api import post, trigger


def fields_at_fault(harness: Harness, **fields: Any) -> dict[str, str]:
    answer = harness.client.post("/v1/triggers", json={"bucket": BUCKET, **fields})
    assert answer.status_code == 422, answer.json
    return {error["field"]: error["message"] for error in (answer.json or {})["errors"]}


def get(harness: Harness, trigger_id: str) -> dict[str, Any]:
    return dict(harness.client.get(f"/v1/triggers/{trigger_id}").json or {})


def test_a_trigger_is_created_shown_listed_and_deleted(harness: Harness) -> None:
    body = {"name": "uploads", "bucket": BUCKET, "prefix": "in/", "suffixes": [".mp4"], "request": {"prompt": "rain"}}
    made = harness.client.post("/v1/triggers", json=body)
    document = made.json or {}
    TriggerView.model_validate(document)
    assert (made.status_code, made.headers["Location"]) == (201, document["links"]["self"])
    assert {name: document[name] for name in body} == body
    assert harness.client.get(document["links"]["self"]).json == document
    listed = harness.client.get("/v1/triggers").json or {}
    TriggerList.model_validate(listed)
    assert [one["id"] for one in listed["data"]] == [document["id"]]
    assert harness.client.delete(document["links"]["self"]).status_code == 204
    assert harness.client.get(document["links"]["self"]).status_code == 404


def test_a_trigger_shows_the_outcomes_of_its_events(harness: Harness) -> None:
    trigger_id = trigger(harness)
    stored, own = harness.bucket_contents.put("a.mp4"), harness.bucket_contents.put("b.mp4", job_id="job_1")
    post(harness, aws(BUCKET, "a.mp4", etag=stored.etag))
    post(harness, aws(BUCKET, "b.mp4", etag=own.etag))
    document = get(harness, trigger_id)
    TriggerView.model_validate(document)
    assert document["events"] == {"submitted": 1, "skipped": 1, "held": 0}
    by_key = {event["key"]: event for event in document["latest_events"]}
    assert by_key["a.mp4"]["job_id"].startswith("job_")
    assert "output" in by_key["b.mp4"]["reason"]


@pytest.mark.parametrize("prefix", ["", "in/", "in/sub"])
def test_an_output_under_the_own_input_is_refused(harness: Harness, prefix: str) -> None:
    assert (
        "start jobs again"
        in fields_at_fault(harness, prefix=prefix, deliver_to=f"s3://{BUCKET}/in/sub/out/")["deliver_to"]
    )


@pytest.mark.parametrize("output", [f"s3://{BUCKET}/out/", "s3://sounds/in/", f"s3://{BUCKET}/"])
def test_jobs_deliver_to_the_triggers_output(harness: Harness, output: str) -> None:
    trigger(harness, prefix="in/", deliver_to=output)
    post(harness, aws(BUCKET, "in/a.mp4", etag=harness.bucket_contents.put("in/a.mp4").etag))
    (job,) = (harness.client.get("/v1/jobs").json or {})["data"]
    assert job["request"]["deliver_to"] == output


def test_an_output_that_the_server_does_not_deliver_to_is_refused(harness: Harness) -> None:
    assert "output_buckets" in fields_at_fault(harness, deliver_to="s3://elsewhere/in/")["deliver_to"]


def test_a_trigger_on_the_servers_own_results_is_refused(harness: Harness) -> None:
    platform = harness.app.extensions[EXTENSION]
    platform.settings = platform.settings.model_copy(update={"storage_url": f"s3://{BUCKET}/platform"})
    for prefix in ("", "plat", "platform/", "platform/jobs/", "platform/jobs/job_1/"):
        assert "results" in fields_at_fault(harness, prefix=prefix)["prefix"], prefix
    trigger(harness, prefix="in/")


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"bucket": "another"}, "bucket"),
        ({"bucket": "Not A Bucket"}, "bucket"),
        ({"request": {"num_steps": 0}}, "request.num_steps"),
        ({"request": {"colour": "red"}}, "request.colour"),
        ({"request": {"video": "s3://videos/a"}}, "request.video"),
        ({"request": {"deliver_to": "s3://videos/a/"}}, "request.deliver_to"),
        ({"source_field": "image", "request": {"mux": True}}, "request.mux"),
        ({"source_field": "sound"}, "source_field"),
        ({"deliver_to": "s3://videos/no-slash"}, "deliver_to"),
        ({"deliver_to": "https://example.org/"}, "deliver_to"),
        ({"suffixes": [""]}, "suffixes.0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_work_is_refused_by_field(harness: Harness, fields: dict[str, Any], at_fault: str) -> None:
    assert at_fault in fields_at_fault(harness, **fields)


def test_a_trigger_is_switched_off_and_on(harness: Harness) -> None:
    trigger_id = trigger(harness)
    off = harness.client.patch(f"/v1/triggers/{trigger_id}", json={"enabled": False})
    assert (off.json or {})["state"] == "disabled"
    stored = harness.bucket_contents.put("a.mp4")
    assert post(harness, aws(BUCKET, "a.mp4", etag=stored.etag)).json["submitted"] == 0
    on = harness.client.patch(f"/v1/triggers/{trigger_id}", json={"enabled": True})
    assert (on.json or {})["state"] == "enabled"
    assert harness.client.patch(f"/v1/triggers/{trigger_id}", json={"enabled": "yes"}).status_code == 422


def test_a_paused_trigger_says_so_and_why(harness: Harness) -> None:
    platform = harness.app.extensions[EXTENSION]
    platform.settings = platform.settings.model_copy(update={"trigger_jobs_per_hour": 1})
    trigger_id = trigger(harness)
    for name in ("a.mp4", "b.mp4"):
        post(harness, aws(BUCKET, name, etag=harness.bucket_contents.put(name).etag))
    document = get(harness, trigger_id)
    assert (document["state"], document["events"]["held"]) == ("paused", 1)
    assert "1 jobs within an hour" in document["pause_reason"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_an_unknown_trigger_is_404(harness: Harness, method: str) -> None:
    answer = harness.client.open("/v1/triggers/trg_1", method=method, json={"enabled": True})
    assert (answer.status_code, (answer.json or {})["code"]) == (404, "trigger_not_found")


def test_a_dry_run_shows_the_job_and_makes_none(harness: Harness) -> None:
    trigger_id = trigger(harness, prefix="in/", request={"prompt": "rain"})
    stored = harness.bucket_contents.put("in/a+b.mp4")
    answer = harness.client.post(
        f"/v1/triggers/{trigger_id}/dry-run", json={"event": ceph(BUCKET, "in/a+b.mp4", etag=stored.etag)}
    )
    document = answer.json or {}
    DryRunView.model_validate(document)
    (one,) = document["data"]
    assert (one["action"], one["request"]["video"], one["etag"]) == ("submit", "s3://videos/in/a+b.mp4", stored.etag)
    assert (one["request"]["prompt"], one["known"]) == ("rain", False)
    assert (harness.client.get("/v1/jobs").json or {})["data"] == []
    assert get(harness, trigger_id)["events"] == {"submitted": 0, "skipped": 0, "held": 0}


def test_a_dry_run_says_why_nothing_would_happen(harness: Harness) -> None:
    trigger_id = trigger(harness, prefix="in/", suffixes=[".mp4"])
    harness.bucket_contents.put("in/own.mp4", job_id="job_1")
    stored = harness.bucket_contents.put("in/known.mp4")
    event = aws(BUCKET, "in/known.mp4", etag=stored.etag)
    post(harness, event)

    def dry(**body: Any) -> tuple[str, str | None, bool]:
        answer = harness.client.post(f"/v1/triggers/{trigger_id}/dry-run", json=body).json or {}
        (one,) = answer["data"]
        return one["action"], one["reason"], one["known"]

    assert dry(event=event) == ("submit", None, True)
    assert dry(key="in/own.mp4")[:2] == ("skip", "the object is an output of job_1")
    assert dry(key="in/missing.mp4")[:2] == ("hold", "the object does not exist")
    assert dry(key="in/a.txt")[:2] == ("ignore", "the key does not match prefix and suffixes")
    assert dry(event=aws("other", "in/a.mp4", etag="e"))[:2] == ("ignore", "the trigger is for bucket videos")
    harness.bucket_contents.down = True
    assert dry(key="in/known.mp4")[:2] == ("hold", "the object store did not answer")


@pytest.mark.parametrize("body", [{}, {"event": {}, "key": "a"}, {"event": {"hello": 1}}, {"key": ""}])
def test_a_dry_run_of_nothing_is_refused(harness: Harness, body: dict[str, Any]) -> None:
    assert harness.client.post(f"/v1/triggers/{trigger(harness)}/dry-run", json=body).status_code == 422


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://localhost./", "https://[::ffff:10.0.0.1]/", "ftp://x.example/"]
)
def test_a_trigger_names_no_url_that_this_server_would_not_call(harness: Harness, url: str) -> None:
    assert list(fields_at_fault(harness, prefix="in/", request={"webhook_url": url})) == ["request.webhook_url"]
