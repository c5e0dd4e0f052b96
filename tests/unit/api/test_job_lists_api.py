"""Lists of jobs over HTTP: ids, states, text, counts; times are RFC 3339."""

from __future__ import annotations

import pytest

from tests.unit.api.conftest import Harness


def ids_of(harness: Harness, query: str) -> list[str]:
    answer = harness.client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 200, answer.json
    return [job["id"] for job in answer.json["data"]]


def test_ids_states_and_text_filter(harness: Harness) -> None:
    first, second, third = (harness.submit(prompt=prompt)["id"] for prompt in ("rain", "Wind", "waves"))
    harness.client.post(f"/v1/jobs/{first}/cancel")
    harness.succeed(second)
    assert ids_of(harness, f"ids={first},{third}") == [third, first]
    assert ids_of(harness, f"ids={first}&ids={third}") == [third, first]
    assert ids_of(harness, "state=canceled,succeeded") == [second, first]
    assert ids_of(harness, "state=canceled&state=succeeded") == [second, first]
    assert ids_of(harness, "q=wind") == [second]


def test_the_link_of_the_next_page_keeps_all_filters(harness: Harness) -> None:
    ids = [harness.submit()["id"] for _ in range(4)]
    harness.client.post(f"/v1/jobs/{ids[0]}/cancel")
    page = harness.client.get("/v1/jobs?state=queued&state=canceled&limit=3&q=rain").json
    following = harness.client.get(page["links"]["next"]).json
    assert [job["id"] for job in page["data"] + following["data"]] == ids[::-1]
    assert following["links"]["next"] is None


def test_more_ids_than_allowed_are_refused(harness: Harness) -> None:
    answer = harness.client.get("/v1/jobs?ids=" + ",".join(["job_1"] * 201))
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "ids")


def test_an_unknown_state_is_named_with_those_there_are(harness: Harness) -> None:
    answer = harness.client.get("/v1/jobs?state=queued,done")
    assert answer.status_code == 422
    assert "'done'" in answer.json["errors"][0]["message"]
    assert "succeeded" in answer.json["errors"][0]["message"]


def test_counts_by_state(harness: Harness) -> None:
    first, second = harness.submit()["id"], harness.submit()["id"]
    harness.submit()
    harness.client.post(f"/v1/jobs/{first}/cancel")
    harness.succeed(second)
    counts = {"queued": 1, "running": 0, "succeeded": 1, "failed": 0, "canceled": 1, "total": 3}
    assert harness.client.get("/v1/jobs/counts").json == counts


@pytest.mark.parametrize("time", ["0.5", "1700000000", "2026-01-31", "2026-01-31T12:00", "2026-01-31T12:00:00"])
def test_a_time_that_is_not_rfc_3339_is_refused(harness: Harness, time: str) -> None:
    for name in ("created_after", "created_before"):
        answer = harness.client.get(f"/v1/jobs?{name}={time}")
        assert answer.status_code == 422, time
        assert "RFC 3339" in answer.json["errors"][0]["message"]
    body = {"state": "failed", "created_after": 0.5}
    assert harness.client.post("/v1/jobs/retry", json=body).status_code == 422
