"""`preview` of jobs: shown with the job, served as a picture, gone with the files."""

from __future__ import annotations

from jobs.service.artifacts import previews_of_job
from jobs.service.retention import prune
from tests.unit.api.conftest import PREVIEW_DETAIL, Harness


def succeeded(harness: Harness) -> str:
    job_id = str(harness.submit(num_samples=2, seed=7)["id"])
    harness.succeed(job_id, takes=2, previews=True)
    return job_id


def test_each_take_has_peaks_and_a_picture(harness: Harness) -> None:
    job_id = succeeded(harness)
    job = harness.client.get(f"/v1/jobs/{job_id}").json
    assert [(one["take"], one["seed"], one["duration_s"]) for one in job["preview"]] == [(0, 7, 8.0), (1, 8, 8.0)]
    for one in job["preview"]:
        assert one["peaks"] == PREVIEW_DETAIL["peaks"]
        picture = one["spectrogram"]
        assert {name: picture[name] for name in PREVIEW_DETAIL["picture"]} == PREVIEW_DETAIL["picture"]
        answer = harness.client.get(picture["url"])
        assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", b"picture")
        assert picture["size_bytes"] == len(answer.data)


def test_previews_are_no_artifacts_and_not_in_archives_or_lists(harness: Harness) -> None:
    job_id = succeeded(harness)
    job = harness.client.get(f"/v1/jobs/{job_id}").json
    assert [(artifact["name"], artifact["take"]) for artifact in job["artifacts"]] == [
        ("audio-1.flac", 0),
        ("audio-2.flac", 1),
    ]
    assert b"preview" not in harness.client.get(job["links"]["archive"]).data
    assert [one["preview"] for one in harness.client.get("/v1/jobs").json["data"]] == [None]


def test_a_job_without_previews_shows_none(harness: Harness) -> None:
    job_id = harness.submit()["id"]
    assert harness.client.get(f"/v1/jobs/{job_id}").json["preview"] is None
    harness.succeed(job_id)
    assert harness.client.get(f"/v1/jobs/{job_id}").json["preview"] == []


def test_previews_expire_and_are_deleted_with_the_files(harness: Harness) -> None:
    job_id = succeeded(harness)
    url = harness.client.get(f"/v1/jobs/{job_id}").json["preview"][0]["spectrogram"]["url"]
    harness.clock.advance(3601)
    assert harness.client.get(f"/v1/jobs/{job_id}").json["preview"] == []
    assert prune(harness.db, harness.store, lambda *_: 0).artifacts == 4
    assert list(harness.store.list_keys("jobs/")) == []
    with harness.db.reading() as tx:
        assert [row.detail for row in previews_of_job(tx, job_id)] == [None, None]
    assert harness.client.get(url).status_code in {403, 410}


def test_previews_of_a_deleted_job_are_deleted(harness: Harness) -> None:
    job_id = succeeded(harness)
    assert harness.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert list(harness.store.list_keys("jobs/")) == []
