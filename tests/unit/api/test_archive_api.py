"""`/v1/jobs/{id}/artifacts.zip`."""

from __future__ import annotations

import io
import zipfile

from tests.unit.api.conftest import Harness


def archive_url(harness: Harness, job_id: str) -> str | None:
    url = harness.client.get(f"/v1/jobs/{job_id}").json["links"]["archive"]
    assert url is None or isinstance(url, str)
    return url


def test_all_files_come_in_one_archive_of_known_length(harness: Harness) -> None:
    job_id = harness.submit(num_samples=2)["id"]
    assert archive_url(harness, job_id) is None
    harness.succeed(job_id, takes=2)
    url = archive_url(harness, job_id)
    answer = harness.client.get(url)
    assert (answer.status_code, answer.mimetype) == (200, "application/zip")
    assert answer.headers["Content-Length"] == str(len(answer.data))
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{job_id}.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "audio-1.flac": b"0123456789",
            "audio-2.flac": b"0123456789",
        }
    head = harness.client.head(url)
    assert (head.status_code, head.headers["Content-Length"]) == (200, answer.headers["Content-Length"])


def test_a_forged_or_expired_link_is_refused(harness: Harness) -> None:
    job_id = harness.submit()["id"]
    harness.succeed(job_id)
    url = archive_url(harness, job_id)
    assert harness.client.get(f"{url}0").status_code == 403
    assert harness.client.get(f"/v1/jobs/{job_id}/artifacts.zip").status_code == 200


def test_a_job_without_files_has_no_archive(harness: Harness) -> None:
    job_id = harness.submit()["id"]
    assert harness.client.get(f"/v1/jobs/{job_id}/artifacts.zip").json["code"] == "artifact_not_found"
    assert harness.client.get("/v1/jobs/job_unknown/artifacts.zip").json["code"] == "job_not_found"


def test_expired_and_missing_files_are_410_before_anything_is_sent(harness: Harness) -> None:
    job_id = harness.submit()["id"]
    harness.succeed(job_id)
    url = archive_url(harness, job_id)
    harness.store.delete([f"jobs/{job_id}/1/audio.flac"])
    assert harness.client.get(url).json["code"] == "object_gone"
    harness.clock.advance(3601)
    answer = harness.client.get(f"/v1/jobs/{job_id}/artifacts.zip")
    assert (answer.status_code, answer.json["code"]) == (410, "artifact_expired")
    assert archive_url(harness, job_id) is None
