"""`/v1/tenants`, and that what is set there holds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from api.bridge.environ import COMPLETE_BODY
from api.context import EXTENSION
from jobs.api_keys.scope import KeyScope
from tests.bucket_events import aws
from tests.in_memory_bucket import BUCKET
from tests.unit.api.conftest import Harness
from tests.unit.api.test_key_check import new_key
from tests.unit.api.test_s3_events_api import post


def change(harness: Harness, tenant: str = "studio", **fields: Any) -> dict[str, Any]:
    answer = harness.client.patch(f"/v1/tenants/{tenant}", json=fields)
    assert answer.status_code == 200, answer.json
    return dict(answer.json or {})


def headers(harness: Harness, tenant: str = "studio") -> dict[str, str]:
    return {"Authorization": f"Bearer {new_key(harness, tenant=tenant)}"}


def problem(answer: Any) -> tuple[int, str]:
    document = answer.json or {}
    fields = [error["field"] for error in document.get("errors", [])]
    return answer.status_code, fields[0] if fields else document["code"]


def test_fields_are_set_shown_listed_and_restored(harness: Harness) -> None:
    assert harness.client.get("/v1/tenants/studio").json["weight"] is None  # type: ignore[index]
    changed = change(harness, input_buckets=["videos/studio/"], max_triggers=1, weight=2, max_running=3)
    assert (changed["input_buckets"], changed["max_triggers"]) == (["videos/studio"], 1)
    assert (changed["weight"], changed["max_running"]) == (2.0, 3)
    assert changed["usage"] == {"queued": 0, "upload_bytes": 0, "result_bytes": 0, "triggers": 0}
    change(harness, max_triggers=None)
    listed = (harness.client.get("/v1/tenants").json or {})["data"]
    assert [(row["tenant"], row["max_triggers"], row["weight"]) for row in listed] == [("studio", None, 2.0)]
    assert harness.client.delete("/v1/tenants/studio").status_code == 204
    assert (harness.client.get("/v1/tenants").json or {})["data"] == []
    actions = [row["action"] for row in (harness.client.get("/v1/audit").json or {})["data"]]
    assert actions == ["tenant.restore", "tenant.change", "tenant.change"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"input_buckets": ["a/../b"]}, "input_buckets"),
        ({"input_buckets": ["X"]}, "input_buckets"),
        ({"output_buckets": [""]}, "output_buckets"),
        ({"input_hosts": ["a b"]}, "input_hosts"),
        ({"max_triggers": -1}, "max_triggers"),
        ({"max_triggers": 1.5}, "max_triggers"),
        ({"weight": 0}, "weight"),
        ({"other": 1}, "other"),
    ],
)
def test_a_value_that_is_not_allowed_names_the_field(harness: Harness, fields: dict[str, Any], name: str) -> None:
    assert problem(harness.client.patch("/v1/tenants/studio", json=fields)) == (422, name)
    assert (harness.client.get("/v1/tenants").json or {})["data"] == []


def test_a_tenant_reads_and_delivers_where_it_is_allowed_to_alone(harness: Harness) -> None:
    key = headers(harness)

    def submit(**fields: Any) -> tuple[int, str]:
        answer = harness.client.post("/v1/jobs", json=fields, headers=key)
        return (202, "") if answer.status_code == 202 else problem(answer)

    assert submit(video="s3://videos/studio/a.mp4") == (422, "video")  # the settings' buckets are of `default`
    change(harness, input_buckets=["videos/studio"], output_buckets=["sounds/studio"])
    assert submit(video="s3://videos/studio/a.mp4") == (202, "")
    for other in ("studiox/a.mp4", "a.mp4", "studio/../b.mp4", "studio"):
        assert submit(video=f"s3://videos/{other}") == (422, "video"), other
    assert submit(prompt="rain", deliver_to="s3://sounds/studio/") == (202, "")
    assert submit(prompt="rain", deliver_to="s3://sounds/studio/x/") == (202, "")
    for other in ("", "studiox/", "studio/../"):
        assert submit(prompt="rain", deliver_to=f"s3://sounds/{other}") == (422, "deliver_to"), other


def test_a_trigger_lies_in_an_allowed_folder(harness: Harness) -> None:
    key = headers(harness)
    change(harness, input_buckets=["videos/studio"], output_buckets=["sounds/studio"])

    def create(**fields: Any) -> tuple[int, str]:
        answer = harness.client.post("/v1/triggers", json={"bucket": "videos", **fields}, headers=key)
        return (201, "") if answer.status_code == 201 else problem(answer)

    assert create(prefix="studio/in/", deliver_to="s3://sounds/studio/") == (201, "")
    assert create(prefix="studio") == (422, "prefix")  # `studiox/` begins so, too
    assert create(prefix="") == (422, "prefix")
    assert create(prefix="studio/", deliver_to="s3://sounds/other/") == (422, "deliver_to")


def test_a_trigger_whose_folder_is_no_longer_allowed_lists_nothing(harness: Harness) -> None:
    key = headers(harness)
    change(harness, input_buckets=["videos/studio"])
    made = harness.client.post("/v1/triggers", json={"bucket": "videos", "prefix": "studio/"}, headers=key).json or {}
    change(harness, input_buckets=[])
    for call, body in (("backfill", {"dry_run": True}), ("dry-run", {"key": "studio/a.mp4"})):
        answer = harness.client.post(f"/v1/triggers/{made['id']}/{call}", json=body, headers=key)
        assert problem(answer) == (422, "bucket")


def test_a_trigger_whose_folder_is_no_longer_allowed_shows_no_names_of_objects(harness: Harness) -> None:
    key = headers(harness)
    change(harness, input_buckets=["videos/studio"])
    made = harness.client.post("/v1/triggers", json={"bucket": "videos", "prefix": "studio/"}, headers=key).json or {}
    change(harness, input_buckets=[])
    post(harness, aws(BUCKET, "studio/secret.mp4", etag=harness.bucket_contents.put("studio/secret.mp4").etag))

    def shown() -> list[str]:
        document = harness.client.get(f"/v1/triggers/{made['id']}", headers=key).json or {}
        assert document["events"]["held"] == 1
        return [event["key"] for event in document["latest_events"]]

    assert shown() == []
    change(harness, input_buckets=["videos/studio"])
    assert shown() == ["studio/secret.mp4"]


def test_the_triggers_of_a_tenant_are_limited(harness: Harness) -> None:
    change(harness, "default", max_triggers=1)
    answers = [harness.client.post("/v1/triggers", json={"bucket": "videos", "prefix": p}) for p in ("a/", "b/")]
    assert answers[0].status_code == 201
    assert problem(answers[1]) == (429, "trigger_limit_reached")
    assert answers[1].headers["RateLimit-Limit"] == "1"
    assert "Retry-After" in answers[1].headers


def test_the_bytes_of_uploads_are_limited(harness: Harness) -> None:
    key = headers(harness)
    change(harness, max_stored_upload_bytes=100)

    def announce(size: int, **more: str) -> Any:
        return harness.client.post(
            "/v1/uploads", json={"filename": "a.mp4", "size_bytes": size}, headers={**key, **more}
        )

    assert announce(60).status_code == 201
    refused = announce(41)
    assert problem(refused) == (429, "upload_storage_full")
    assert "Retry-After" in refused.headers
    assert announce(40).status_code == 201
    assert problem(announce(101)) == (413, "too_large")
    assert harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 500}).status_code == 201


def test_inputs_within_a_request_and_files_of_other_shapes_count_as_uploads(harness: Harness) -> None:
    key = headers(harness)
    change(harness, max_stored_upload_bytes=4)
    data = harness.client.post("/v1/jobs", json={"video": "data:video/mp4;base64,dmlkZW8="}, headers=key)
    assert problem(data) == (413, "too_large")
    change(harness, max_stored_upload_bytes=5)
    data = harness.client.post("/v1/jobs", json={"video": "data:video/mp4;base64,dmlkZW8="}, headers=key)
    assert data.status_code == 202
    sent = harness.client.post("/v1/files", data={"content": (io.BytesIO(b"video"), "a.mp4")}, headers=key)
    assert sent.status_code == 429


def test_no_job_is_taken_when_the_stored_results_have_reached_their_limit(harness: Harness) -> None:
    harness.add_worker()
    harness.succeed(str(harness.submit()["id"]), b"0123456789")
    assert change(harness, "default")["usage"]["result_bytes"] == 10
    change(harness, "default", max_stored_result_bytes=11)
    harness.submit()
    change(harness, "default", max_stored_result_bytes=10)
    answer = harness.client.post("/v1/jobs", json={"prompt": "rain"})
    assert problem(answer) == (429, "result_storage_full")
    assert "Retry-After" in answer.headers
    other = harness.client.post("/v1/jobs", json={"prompt": "rain"}, headers=headers(harness))
    assert other.status_code == 202


def test_the_queue_of_a_tenant_has_its_own_limit(harness: Harness) -> None:
    change(harness, "studio", max_queued=1)
    key = headers(harness)
    statuses = [harness.client.post("/v1/jobs", json={"prompt": "rain"}, headers=key).status_code for _ in range(2)]
    assert statuses == [202, 429]


def test_places_of_a_tenant_are_counted_in_the_process(harness: Harness) -> None:
    change(harness, "studio", max_waiting=1)
    ctx = harness.app.extensions[EXTENSION]
    with ctx.tenant_places("studio").place() as first, ctx.tenant_places("studio").place() as second:
        assert (first, second) == (True, False)
        assert ctx.tenant_places("default").take()
    assert ctx.tenant_places("studio").take()


def test_only_admins_see_tenants(harness: Harness) -> None:
    key = {"Authorization": f"Bearer {new_key(harness, KeyScope.JOBS_READ, KeyScope.JOBS_WRITE)}"}
    for method, path in (("GET", ""), ("GET", "/studio"), ("PATCH", "/studio"), ("DELETE", "/studio")):
        assert harness.client.open(f"/v1/tenants{path}", method=method, headers=key).status_code == 403


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("way", ["form", "fal"])
def test_files_of_hosted_shapes_count_with_their_whole_size(
    harness: Harness, tmp_path: Path, way: str, announced: bool
) -> None:
    key = headers(harness)
    change(harness, max_stored_upload_bytes=80)

    def send(size: int) -> int:
        content, path, kind = b"x" * size, "/fal/cdn/files/upload", "video/mp4"
        if way == "form":
            start = b'--B\r\nContent-Disposition: form-data; name="content"; filename="a.mp4"\r\n\r\n'
            content, path, kind = start + content + b"\r\n--B--\r\n", "/v1/files", "multipart/form-data; boundary=B"
        options: dict[str, Any] = {"content_type": kind, "headers": key}
        if announced:
            options["data"] = content
        else:  # in chunks, whose number is known at the end
            options |= {"input_stream": io.BytesIO(content)}
            options["environ_overrides"] = {COMPLETE_BODY: True, "wsgi.input_terminated": True}
        return harness.client.post(path, **options).status_code

    assert send(60) in {200, 201}
    assert send(60) == 429
    assert send(90) == 413
    assert send(15) in {200, 201}
    assert len((harness.client.get("/v1/files", headers=key).json or {})["results"]) == 2
    stored = [path.stat().st_size for path in (tmp_path / "objects" / "uploads").rglob("*") if path.is_file()]
    assert sum(stored) < 80, "what was refused is not kept"
