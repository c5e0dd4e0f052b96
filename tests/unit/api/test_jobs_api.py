"""The job calls, and the answers to invalid ones."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from api.circuit_breaker import OPEN_S
from jobs.service import attempts
from jobs.service.submission import MAX_DRAWN_SEED
from tests.unit.api.conftest import Harness


def test_a_submitted_job_is_queued_published_and_has_links(harness: Harness) -> None:
    harness.add_worker()
    job = harness.submit(prompt="rain", metadata={"album": "x"})
    assert (job["state"], job["queue_position"], job["attempt"]) == ("queued", 1, 0)
    assert 0 <= job["request"]["seed"] < MAX_DRAWN_SEED
    assert job["request"]["metadata"] == {"album": "x"}
    assert harness.queue.published == [job["id"]]
    assert harness.client.get(job["links"]["self"]).json == job
    assert job["links"]["retry"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": "many"}, "num_steps"),
        ({"video": "upl_" + "0" * 32}, "video"),
        ({"image": "upl_" + "0" * 32}, "image"),
        ({"video": "s3://private/x.mp4"}, "video"),
        ({"deliver_to": "s3://private/x/"}, "deliver_to"),
        ({"variant": "huge"}, "variant"),
        ({"duration_s": 31}, "duration_s"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"webhook_url": "ftp://example.org"}, "webhook_url"),
        ({"webhook_events": ["failed"]}, "webhook_events"),
        ({"mux": True}, "mux"),
        ({"start_s": 1}, "start_s"),
        ({"original_audio": "mix"}, "original_audio"),
        ({"original_gain_db": 1}, "original_gain_db"),
        ({"video": "upl_" + "0" * 32, "image": "upl_" + "0" * 32}, "image"),
        ({"duration_s": "4"}, "duration_s"),
        ({"cfg_strength": True}, "cfg_strength"),
        ({"variant": ""}, "variant"),
        ({"metadata": {"a": "\x00"}}, "metadata.a"),
        ({"metadata": {"a": "\ud800"}}, "metadata.a"),
    ],
)
def test_a_wrong_field_is_422_and_named(harness: Harness, body: dict[str, Any], field: str) -> None:
    answer = harness.client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert answer.json is not None
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert harness.queue.published == []


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"prompt=rain", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'"{}"', "application/json", 422),
        (b"null", "application/json", 422),
        (b"[" * 200_000, "application/json", 400),
        (b'{"seed": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"cfg_strength": NaN}', "application/json", 422),
        (b'{"duration_s": 1e400}', "application/json", 422),
        (b'{"prompt": "' + b"x" * 2_000_000 + b'"}', "application/json", 413),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(
    harness: Harness, data: bytes, content_type: str, status: int
) -> None:
    answer = harness.client.post("/v1/jobs", data=data, content_type=content_type)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"


def test_a_body_in_chunks_is_bounded_too(harness: Harness) -> None:
    body = io.BytesIO(b'{"prompt": "' + b"x" * 2_000_000 + b'"}')
    answer = harness.client.post(
        "/v1/jobs",
        input_stream=body,
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (answer.status_code, (answer.json or {})["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1//jobs", 404),
        ("GET", "/v1/jobs/job_%00", 404),
        ("GET", "/v1/jobs?variant=%00", 422),
        ("GET", "/v1/jobs?metadata.%00=x", 422),
        ("DELETE", "/v1/queue", 405),
        ("POST", "/v1/queue", 405),
    ],
)
def test_unknown_paths_and_methods_get_problem_documents(harness: Harness, method: str, path: str, status: int) -> None:
    answer = harness.client.open(path, method=method)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")


def test_an_idempotency_key_that_no_database_stores_is_refused(harness: Harness) -> None:
    answer = harness.client.post("/v1/jobs", json={"prompt": "rain"}, headers={"Idempotency-Key": "a\x00b"})
    assert answer.status_code == 422


def test_an_idempotency_key_gives_the_same_job_again(harness: Harness) -> None:
    def send(prompt: str) -> Any:
        return harness.client.post("/v1/jobs", json={"prompt": prompt}, headers={"Idempotency-Key": "k1"})

    first, again, other = send("rain"), send("rain"), send("wind")
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert first.json["id"] == again.json["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert other.json["code"] == "idempotency_key_reused"
    too_long = harness.client.post("/v1/jobs", json={}, headers={"Idempotency-Key": "k" * 256})
    assert (too_long.status_code, (too_long.json or {})["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_racing_requests_with_one_key_make_one_job(harness: Harness) -> None:
    def send(_: int) -> str:
        answer = harness.client.post("/v1/jobs", json={"prompt": "rain"}, headers={"Idempotency-Key": "k1"})
        return str((answer.json or {})["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(16)))) == 1


def test_a_full_queue_is_429_with_a_time_to_wait(harness: Harness) -> None:
    for _ in range(20):
        harness.submit()
    answer = harness.client.post("/v1/jobs", json={"prompt": "rain"})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert [answer.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining")] == ["20", "0"]
    assert int(answer.headers["RateLimit-Reset"]) > 0


def test_a_broker_that_is_down_does_not_lose_the_job(harness: Harness) -> None:
    harness.add_worker()
    harness.queue.down = True
    job = harness.submit()
    assert job["state"] == "queued"
    harness.queue.down = False
    harness.submit()
    assert harness.queue.published == [], "the breaker is open"
    harness.monotonic.advance(OPEN_S)
    harness.submit()
    assert job["id"] in harness.queue.published


def test_an_unchanged_job_is_304_and_a_changed_one_is_not(harness: Harness) -> None:
    job = harness.submit()
    etag = harness.client.get(job["links"]["self"]).headers["ETag"]
    assert harness.client.get(job["links"]["self"], headers={"If-None-Match": etag}).status_code == 304
    harness.claim(job["id"])
    changed = harness.client.get(job["links"]["self"], headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert (changed.json or {})["state"] == "running"


def test_wait_answers_as_soon_as_the_job_ends(harness: Harness) -> None:
    job = harness.submit()
    ender = threading.Timer(0.3, harness.succeed, [job["id"]])
    ender.start()
    answer = harness.client.get(job["links"]["self"] + "?wait=30")
    ender.join()
    assert (answer.json or {})["state"] == "succeeded"


def test_wait_answers_with_what_is_when_the_time_is_over(harness: Harness) -> None:
    job = harness.submit()
    answer = harness.client.get(job["links"]["self"], headers={"Prefer": "respond-async, wait=0"})
    assert (answer.json or {})["state"] == "queued"
    assert (harness.client.get(job["links"]["self"] + "?wait=0.2").json or {})["state"] == "queued"
    assert harness.client.get(job["links"]["self"] + "?wait=61").status_code == 422


def test_cancel_is_immediate_when_queued_and_requested_when_running(harness: Harness) -> None:
    queued, running = harness.submit(), harness.submit()
    harness.claim(running["id"])
    assert harness.client.post(queued["links"]["cancel"]).status_code == 200
    first = harness.client.post(running["links"]["cancel"])
    assert (first.status_code, (first.json or {})["cancel_requested"]) == (202, True)
    assert harness.client.post(running["links"]["cancel"]).status_code == 202


def test_cancel_of_an_ended_job_is_409_with_the_job(harness: Harness) -> None:
    job = harness.submit()
    harness.succeed(job["id"])
    answer = harness.client.post(job["links"]["cancel"])
    assert (answer.status_code, (answer.json or {})["job"]["state"]) == (409, "succeeded")


def test_retry_makes_a_linked_job_with_the_same_seed(harness: Harness) -> None:
    job = harness.submit(seed=3)
    assert harness.client.post(f"/v1/jobs/{job['id']}/retry").status_code == 409
    harness.client.post(job["links"]["cancel"])
    ended = harness.client.get(job["links"]["self"]).json or {}
    again = harness.client.post(ended["links"]["retry"])
    assert (again.status_code, (again.json or {})["retry_of"]) == (202, job["id"])
    assert (again.json or {})["request"] == job["request"]


def test_a_retry_with_an_idempotency_key_makes_one_job(harness: Harness) -> None:
    job = harness.submit()
    harness.client.post(job["links"]["cancel"])

    def send(_: int) -> tuple[int, str]:
        answer = harness.client.post(f"/v1/jobs/{job['id']}/retry", headers={"Idempotency-Key": "k1"})
        return answer.status_code, str((answer.json or {})["id"])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))
    assert sorted(status for status, _ in answers) == [200, 200, 200, 202]
    assert len({job_id for _, job_id in answers}) == 1


@pytest.mark.parametrize("call", ["", "/cancel", "/retry"])
def test_an_unknown_job_is_404(harness: Harness, call: str) -> None:
    method = "POST" if call else "GET"
    answer = harness.client.open(f"/v1/jobs/job_{'0' * 32}{call}", method=method)
    assert (answer.status_code, (answer.json or {})["code"]) == (404, "job_not_found")


def test_a_failed_job_shows_code_message_stage_and_retryable(harness: Harness) -> None:
    from jobs.errors import Failure

    job = harness.submit()
    claim = harness.claim(job["id"])
    with harness.db.transaction() as tx:
        attempts.fail(tx, claim, Failure("media_invalid", "The file is empty.", "decode"))
    answer = harness.client.get(job["links"]["self"]).json or {}
    assert answer["error"] == {
        "code": "media_invalid",
        "message": "The file is empty.",
        "stage": "decode",
        "retryable": False,
    }


def test_lists_page_by_link_and_filter(harness: Harness) -> None:
    ids = [harness.submit(metadata={"n": str(n)})["id"] for n in range(5)]
    listed, link = [], "/v1/jobs?limit=2"
    while link:
        page = harness.client.get(link).json or {}
        listed += [job["id"] for job in page["data"]]
        link = page["links"]["next"]
    assert listed == ids[::-1]
    found = harness.client.get("/v1/jobs?metadata.n=3&state=queued").json or {}
    assert [job["id"] for job in found["data"]] == [ids[3]]


@pytest.mark.parametrize(
    "wrong",
    [
        "state=asleep",
        "limit=0",
        "cursor=nonsense",
        "colour=red",
        "metadata=x",
        "created_after=yesterday",
        "created_after=0001-01-01T00:00:00%2B10:00",
        "created_after=9999-12-31T23:59:59-10:00",
    ],
)
def test_a_wrong_filter_is_422_and_named(harness: Harness, wrong: str) -> None:
    answer = harness.client.get(f"/v1/jobs?{wrong}")
    assert answer.status_code == 422
    assert [error["field"] for error in (answer.json or {})["errors"]] == [wrong.partition("=")[0]]


def test_a_database_that_is_away_is_503_by_name(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("server closed the connection"))

    monkeypatch.setattr("api.routes.jobs.list_jobs", lambda *_, **__: gone())
    answer = harness.client.get("/v1/jobs")
    assert (answer.status_code, (answer.json or {})["down"]) == (503, ["database"])


def test_an_internal_error_shows_no_details(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("api.routes.jobs.list_jobs", broken)
    answer = harness.client.get("/v1/jobs")
    assert (answer.status_code, (answer.json or {})["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_requests_with_a_foreign_host_are_refused(harness: Harness) -> None:
    assert harness.client.get("/v1/jobs", headers={"Host": "evil.example"}).status_code == 400
    assert harness.client.get("/v1/jobs", headers={"Host": "127.0.0.1.evil.example"}).status_code == 400
    for name in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert harness.client.get("/v1/jobs", headers={"Host": name}).status_code == 200, name
    job = harness.submit()
    cross = harness.client.post(job["links"]["cancel"], headers={"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == 403
